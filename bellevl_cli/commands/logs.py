"""The options of `bellevl logs` and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import Debug, Json
from ..parser import Command, new_group
from ..words import say

logs = new_group("logs", say("help.logs"), bare=True)

Words = Annotated[
    str | None, typer.Option("--query", "-q", help=say("help.logs_words"), metavar="TEXT", show_default=False)
]
Number = Annotated[
    int | None, typer.Option("--number", "-n", help=say("help.logs_number"), metavar="N", show_default=False)
]
Thread = Annotated[
    str | None, typer.Argument(help=say("help.logs_id"), metavar=say("help.name_id"), show_default=False)
]
Threads = Annotated[
    list[str], typer.Argument(help=say("help.logs_id"), metavar=say("help.name_id"), show_default=False)
]
Age = Annotated[str, typer.Argument(help=say("help.logs_age"), metavar=say("help.name_age"), show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help=say("help.logs_yes"), show_default=False)]


@logs.callback(invoke_without_command=True)
def _logs(
    context: typer.Context, query: Words = None, number: Number = None, json: Json = False, debug: Debug = False
) -> None:
    if context.invoked_subcommand is None:
        _list(query, number, json)


@logs.command("list", cls=Command, help=say("help.logs_list"))
def _list(query: Words = None, number: Number = None, json: Json = False, debug: Debug = False) -> None:
    from ..log.listing import run_list

    run_list(query, number, json)


@logs.command("show", cls=Command, help=say("help.logs_show"))
def _show(thread: Thread = None, json: Json = False, debug: Debug = False) -> None:
    from ..log.listing import run_show

    run_show(thread, json)


@logs.command("rm", cls=Command, help=say("help.logs_rm"))
def _remove(threads: Threads, debug: Debug = False) -> None:
    from ..log.listing import run_remove

    run_remove(threads)


@logs.command("prune", cls=Command, help=say("help.logs_prune"))
def _prune(age: Age, yes: Yes = False, debug: Debug = False) -> None:
    from ..log.listing import run_prune

    run_prune(age, yes)


@logs.command("on", cls=Command, help=say("help.logs_on"))
def _on(debug: Debug = False) -> None:
    from ..log.listing import run_switch

    run_switch(True)


@logs.command("off", cls=Command, help=say("help.logs_off"))
def _off(debug: Debug = False) -> None:
    from ..log.listing import run_switch

    run_switch(False)
