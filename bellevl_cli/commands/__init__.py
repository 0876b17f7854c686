"""The commands: one file each with its options and nothing else. What a command does is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable

import typer

from .ask import ask
from .batch import batch
from .chat import chat
from .completion import completion
from .config import group as config
from .convert import group as convert
from .doctor import doctor
from .evaluate import group as evaluate
from .export import export
from .logs import logs
from .models import models
from .pull import pull
from .quantize import quantize
from .see import draw, see
from .serve import serve
from .show import show
from .verify import verify
from .watch import watch

#: In the order of `bellevl --help`. A command's line there is the message "help.NAME".
COMMANDS: tuple[Callable[..., None], ...] = (
    ask,
    chat,
    batch,
    watch,
    see,
    draw,
    pull,
    models,
    show,
    verify,
    quantize,
    doctor,
    completion,
    export,
    serve,
)

#: Commands that have commands of their own, made with `parser.new_group`.
GROUPS: tuple[typer.Typer, ...] = (config, convert, evaluate, logs)

#: The commands that may reach the network; before any other one starts, the network is refused (guard.py).
ONLINE = frozenset({"pull"})

#: The commands that start with a configuration that cannot be read: they say so, or mend it.
MENDING = frozenset({"config", "doctor", "completion"})
