"""What is wrong with a command line, in the person's language. What it has no words for is said as the parser does."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import Any

from bellevl.errors import one_line

from .screen.clean import typed_text
from .words import reason, say

#: What the parser wants of a value -> what it is not.
KINDS = {"integer": "not a whole number", "number": "not a number", "boolean": "not true or false"}


def usage_line(error: Exception) -> str:
    """The cause, and whose help says more, in one line."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bellevl"
    return say("usage", cause=one_line(typed_text(_cause(error))), command=command)


def _cause(error: Any) -> str:
    kind = type(error).__name__
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    parameter, name = getattr(error, "param", None), str(getattr(error, "option_name", ""))
    context = getattr(error, "ctx", None)
    if kind == "NoSuchOption":
        return say("usage.no_option", name=name, near=_meant(name, error.possibilities or ()))
    if kind == "BadOptionUsage":
        return say("usage.no_value" if "requires" in said else "usage.a_value", name=name)
    if kind == "MissingParameter" and parameter is not None:
        return say("usage.missing", name=parameter.metavar or str(parameter.name).upper())
    if kind == "BadParameter" and parameter is not None:
        return _wrong_value(error, parameter, said)
    if said.startswith("Missing command") and context is not None:
        return say("usage.no_subcommand", names=" ".join(context.command.list_commands(context)))
    return _other(said)


def _other(said: str) -> str:
    """Errors that are told apart by their text alone."""
    if found := re.match(r"No such command '(.+?)'\.(?:.*Did you mean '(.+?)')?", said, re.DOTALL):
        return say("usage.no_command", name=found[1], near=_meant_command(found[1], found[2]))
    if found := re.search(r"extra argument\(s\) \((.*)\)", said, re.DOTALL):
        return say("usage.extra", names=found[1])
    return said.rstrip(".")


def _wrong_value(error: Any, parameter: Any, said: str) -> str:
    """ "--seed cannot be 1.5: not a whole number"."""
    wanted = next((not_it for kind, not_it in KINDS.items() if f"valid {kind}" in said), None)
    if wanted is None or not parameter.opts:
        return said.rstrip(".")
    details = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []
    value = details[0].get("input", "") if details else ""
    return say("usage.value", name=parameter.opts[-1], value=repr(value), reason=reason(wanted))


def _meant(option: str, possible: tuple[str, ...]) -> str:
    """The option that was meant, or how a file is named whose name looks like one."""
    if near := difflib.get_close_matches(option, possible, n=1, cutoff=0.7):
        return say("usage.near", name=near[0])
    word = next((w for w in sys.argv[1:] if w.startswith(option) and not w.startswith("--")), None)
    return say("usage.dash", name=typed_text(word)) if word and os.path.lexists(word) else ""


def _meant_command(typed: str, near: str | None) -> str:
    """The command that was meant; a picture in its place is one for `ask`."""
    if os.path.isfile(typed):
        return say("usage.near", name=f"bellevl ask {typed}")
    return say("usage.near", name=near) if near else ""
