"""The command line as completion needs it: commands, options, and what kind of thing stands where.

Read from the same commands that the program runs, so it cannot say anything else than they do. Knows no shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..keys import KEYS
from ..words import say

SHELLS = ("bash", "zsh", "fish")

#: Options that take one of a few words.
CHOICES: dict[str, tuple[str, ...]] = {
    "--device": ("cpu", "cuda", "mps"),
    "--from": ("hf", "modelscope"),
    "--lang": ("zh", "en", "auto"),
    "--script": ("hans", "hant"),
    **{f"--{key.name.replace('_', '-')}": key.choices for key in KEYS if key.choices},
}


@dataclass(frozen=True)
class Value:
    """What stands in a place: `kind` is "words", "models", "pictures", "files", "folders" or "nothing"."""

    kind: str
    words: tuple[str, ...] = ()


#: What a value is called in the help -> what it is.
PLACES = {
    say("help.name_source"): Value("folders"),
    say("help.name_target"): Value("folders"),
    "SHELL": Value("words", SHELLS),
    "DIR": Value("folders"),
    "PATH": Value("files"),
    "FILE": Value("files"),
}


@dataclass(frozen=True)
class Option:
    """An option with all its spellings; `value` None: it takes none."""

    names: tuple[str, ...]
    help: str
    value: Value | None


@dataclass(frozen=True)
class Node:
    """A command: `path` is () for the program itself, ("config", "set") for a command of a group."""

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    commands: tuple[tuple[str, str], ...]
    argument: Value


def nodes() -> list[Node]:
    """Every command of the program, the program first."""
    import typer

    from ..app import app

    return list(_walk(typer.main.get_command(app), ()))


def _walk(command: Any, path: tuple[str, ...]) -> list[Node]:
    inside = {name: sub for name, sub in getattr(command, "commands", {}).items() if not sub.hidden}
    shown = tuple((name, _one_line(sub.help or "")) for name, sub in inside.items())
    options = tuple(_option(p) for p in command.params if p.param_type_name == "option" and not p.hidden)
    helps = Option(("-h", "--help"), say("help.help"), None)
    found = [Node(path, _one_line(command.help or ""), (*options, helps), shown, _argument(command))]
    for name, sub in inside.items():
        found += _walk(sub, (*path, name))
    return found


def _option(parameter: Any) -> Option:
    names = tuple(sorted(parameter.opts, key=len))
    value = None if getattr(parameter, "is_flag", False) else _value(parameter, names)
    return Option(names, _one_line(parameter.help or ""), value)


def _argument(command: Any) -> Value:
    """What the words behind a command are: pictures where any of them is one (a question cannot be completed)."""
    values = [_value(p, ()) for p in command.params if p.param_type_name == "argument"]
    pictures = [value for value in values if value.kind == "pictures"]
    return (pictures or values or [Value("nothing")])[0]


def _value(parameter: Any, names: tuple[str, ...]) -> Value:
    if words := next((CHOICES[name] for name in names if name in CHOICES), None):
        return Value("words", words)
    if "--model" in names:
        return Value("models")
    metavar = str(parameter.metavar or "").strip("[].")
    if metavar.startswith(say("help.name_picture")):
        return Value("pictures")
    if not names and metavar == say("help.name_key"):
        return Value("words", tuple(key.name for key in KEYS))
    return PLACES.get(metavar, Value("nothing"))


def _one_line(text: str) -> str:
    return " ".join(text.replace("\b", "").split())
