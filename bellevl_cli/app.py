"""`bellevl`: the program itself, its help and its end. The commands and their options stand in commands/."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from bellevl import __version__

from . import exits, guard, settings
from .commands import COMMANDS, GROUPS, MENDING, ONLINE
from .options import Debug, debugging
from .parser import Command, new_group
from .screen.render import prepare_streams
from .words import say

app = new_group("bellevl", say("help.program"), say("help.exit_codes"))


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
        return
    if context.invoked_subcommand not in ONLINE:
        guard.install()
    if context.invoked_subcommand not in MENDING and not {"-h", "--help"} & set(sys.argv):
        settings.check_config()


for function in COMMANDS:
    app.command(cls=Command, help=say(f"help.{function.__name__}"))(function)
for group in GROUPS:
    app.add_typer(group)


def main() -> None:
    """The program: parses, runs, and ends with the exit code that exits.py gives."""
    prepare_streams()
    code = exits.run(_invoke, debugging)
    gc.freeze()  # all of it goes with the process; searching it for cycles first takes 0.4 s once torch is there
    sys.exit(code)


def _invoke() -> None:
    """Typer's parser without its own handling of errors, which would print and exit by itself."""
    command = typer.main.get_command(app)
    with command.make_context("bellevl", sys.argv[1:]) as context:
        command.invoke(context)
