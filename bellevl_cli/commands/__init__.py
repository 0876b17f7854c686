"""The commands: one file each with its options and nothing else. What a command does is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable

import typer

from .ask import ask
from .chat import chat
from .doctor import doctor
from .quantize import quantize
from .show import show

#: In the order of `bellevl --help`. A command's line there is the message "help.NAME".
COMMANDS: tuple[Callable[..., None], ...] = (ask, chat, quantize, show, doctor)

#: Commands that have commands of their own, made with `parser.new_group`.
GROUPS: tuple[typer.Typer, ...] = ()
