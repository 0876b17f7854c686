"""`bellevl`: the program itself, its help and its end. The commands and their options stand in commands/."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from bellevl import __version__

from . import exits
from .commands import COMMANDS
from .options import Debug, debugging
from .screen.render import prepare_streams
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


class _Translated:
    """Help whose headings are in the person's language. An error of the parser always knows its command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except exits.UsageError as error:
            if getattr(error, "ctx", None) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)  # type: ignore[misc]
        text = re.sub(r"\{(\S+?)\}| <(?:str|path)>", r"\1", "".join(formatter.buffer))
        for word, message in PARSER_WORDS.items():
            text = text.replace(f"{word}:", say(message) + ":") if word.isalpha() else text.replace(word, say(message))
        formatter.buffer[:] = [text]


class Command(_Translated, TyperCommand):
    """A command."""


class Group(_Translated, TyperGroup):
    """The program itself."""


app = typer.Typer(
    name="bellevl",
    cls=Group,
    help=say("help.program"),
    epilog=say("help.exit_codes"),
    rich_markup_mode=None,  # plain help: without rich it is there in a tenth of a second
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help=say("help.version"), show_default=False)] = False,
    debug: Debug = False,
) -> None:
    if version:
        typer.echo(f"bellevl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for function in COMMANDS:
    app.command(cls=Command, help=say(f"help.{function.__name__}"))(function)


def main() -> None:
    """The program: parses, runs, and ends with the exit code that exits.py gives."""
    prepare_streams()
    sys.exit(exits.run(_invoke, debugging))


def _invoke() -> None:
    """Typer's parser without its own handling of errors, which would print and exit by itself."""
    command = typer.main.get_command(app)
    with command.make_context("bellevl", sys.argv[1:]) as context:
        command.invoke(context)
