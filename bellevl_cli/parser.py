"""Typer's commands and groups with help in the person's language."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from . import exits
from .words import say

#: Words that the parser writes into help itself -> their id.
PARSER_WORDS = {
    "Usage": "help.usage",
    "Options": "help.options",
    "Arguments": "help.arguments",
    "Commands": "help.commands",
    "Show this message and exit.": "help.help",
    "[required]": "help.required",
    "[OPTIONS]": "help.slot_options",
    "COMMAND [ARGS]...": "help.slot_command",
}


def readable(text: str) -> str:
    """The parser's help without types of Python, its own words in the person's language."""
    text = re.sub(r"\{(\S+?)\}| <(?:str|path|list\[str\])>", r"\1", text)
    text = re.sub(r"\[(\S+\.\.\. \[\S+\])\]\.\.\.", r"\1", text)  # words that are sorted later (ask, batch)
    for word, message in PARSER_WORDS.items():
        text = text.replace(f"{word}:", say(message) + ":") if word.isalpha() else text.replace(word, say(message))
    return text


class _Translated:
    """Help whose headings are in the person's language. An error of the parser always knows its command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except exits.UsageError as error:
            if getattr(error, "ctx", None) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except exits.UsageError as error:
            if getattr(error, "ctx", None) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)  # type: ignore[misc]
        formatter.buffer[:] = [readable("".join(formatter.buffer))]


class Command(_Translated, TyperCommand):
    """A command."""


class Group(_Translated, TyperGroup):
    """A group of commands, the program itself too."""


def new_group(name: str, summary: str, epilog: str | None = None, bare: bool = False) -> typer.Typer:
    """An empty group; `bare`: something is done without a command, too."""
    return typer.Typer(
        name=name,
        cls=Group,
        subcommand_metavar="[COMMAND [ARGS]...]" if bare else "COMMAND [ARGS]...",
        help=summary,
        epilog=epilog,
        invoke_without_command=bare,
        rich_markup_mode=None,  # plain help: without rich it is there in a tenth of a second
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
