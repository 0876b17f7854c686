"""The options of `bellevl pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Debug
from ..words import say


def pull(
    repo: Annotated[
        str | None,
        typer.Argument(
            help=say("help.repo", repo="BELLE-2/BELLE-VL"), metavar=say("help.name_repo"), show_default=False
        ),
    ] = None,
    source: Annotated[str, typer.Option("--from", help=say("help.from"), metavar="HUB", show_default=False)] = "hf",
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help=say("help.endpoint"), metavar="URL", show_default=False)
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help=say("help.revision"), metavar="NAME", show_default=False)
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help=say("help.to"), metavar="DIR", show_default=False)] = None,
    debug: Debug = False,
) -> None:
    from ..models.pulling import PullOptions, run

    run(PullOptions(repo, source.strip().lower(), endpoint, revision, to))
