"""The options of `bellevl config`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import Debug, Json
from ..parser import Command, new_group
from ..screen.clean import typed_text
from ..words import say

group = new_group("config", say("help.config"))

Name = Annotated[str, typer.Argument(help=say("help.key"), metavar=say("help.name_key"), show_default=False)]
Value = Annotated[str, typer.Argument(help=say("help.value"), metavar=say("help.name_value"), show_default=False)]


@group.command(name="path", cls=Command, help=say("help.config_path"))
def path(debug: Debug = False) -> None:
    from ..screen.render import Renderer
    from ..settings import config_path

    Renderer().line(typed_text(str(config_path())))


@group.command(name="show", cls=Command, help=say("help.config_show"))
def show(json: Json = False, debug: Debug = False) -> None:
    from ..configuring import show as run

    run(json)


@group.command(name="set", cls=Command, help=say("help.config_set"))
def assign(name: Name, value: Value, debug: Debug = False) -> None:
    from ..configuring import assign as run

    run(name, typed_text(value))


@group.command(name="unset", cls=Command, help=say("help.config_unset"))
def unset(name: Name, debug: Debug = False) -> None:
    from ..configuring import unset as run

    run(name)


@group.command(name="edit", cls=Command, help=say("help.config_edit"))
def edit(debug: Debug = False) -> None:
    from ..configuring import edit as run

    run()
