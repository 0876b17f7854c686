"""The options of `bellevl serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import ContextSize, Debug, Device, Kv, MaxMemory, ModelFolder, ModelOptions, System, Vision
from ..screen.clean import typed_text
from ..words import say


def serve(
    host: Annotated[
        str, typer.Option("--host", help=say("help.serve_host"), metavar="IP", show_default=False)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", help=say("help.serve_port"), metavar="N", show_default=False)
    ] = 8014,
    token: Annotated[
        str | None, typer.Option("--token", help=say("help.serve_token"), metavar="TEXT", show_default=False)
    ] = None,
    model: ModelFolder = None,
    device: Device = None,
    context: ContextSize = None,
    max_memory: MaxMemory = None,
    kv: Kv = None,
    vision: Vision = None,
    system: System = None,
    debug: Debug = False,
) -> None:
    from ..serve.run import ServeOptions, run

    system = None if system is None else typed_text(system)
    chosen = ModelOptions(model, device, system, context, max_memory, kv=kv, vision=vision)
    run(ServeOptions(typed_text(host), port, token, chosen))
