"""Options of the commands that scripts use (ask, batch, watch), typed once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..words import say

Question = Annotated[
    str | None, typer.Option("--question", "-q", help=say("help.question_option"), metavar="TEXT", show_default=False)
]
TemplateName = Annotated[
    str | None, typer.Option("--template", "-t", help=say("help.template"), metavar="NAME", show_default=False)
]
Params = Annotated[
    list[str] | None, typer.Option("--param", "-p", help=say("help.param"), metavar="K=V", show_default=False)
]
Schema = Annotated[str | None, typer.Option("--schema", help=say("help.schema"), metavar="FORM", show_default=False)]
Extract = Annotated[str | None, typer.Option("--extract", help=say("help.extract"), metavar="KIND", show_default=False)]
Expect = Annotated[str | None, typer.Option("--expect", help=say("help.expect"), metavar="TEXT", show_default=False)]
Sure = Annotated[int | None, typer.Option("--sure", help=say("help.sure"), metavar="N", show_default=False)]
Together = Annotated[bool, typer.Option("--together", help=say("help.together"), show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help=say("help.ask_dry_run"), show_default=False)]
NoStream = Annotated[bool, typer.Option("--no-stream", help=say("help.no_stream"), show_default=False)]
Jsonl = Annotated[bool, typer.Option("--jsonl", help=say("help.jsonl"), show_default=False)]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", help=say("help.output"), metavar="FILE", show_default=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", help=say("help.quiet"), show_default=False)]
Continue = Annotated[bool, typer.Option("--continue", "-c", help=say("help.continue"), show_default=False)]
ThreadId = Annotated[str | None, typer.Option("--id", help=say("help.id"), metavar="ID", show_default=False)]
NoLog = Annotated[bool, typer.Option("--no-log", help=say("help.no_log"), show_default=False)]
