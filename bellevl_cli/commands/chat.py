"""The options of `bellevl chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..exits import UsageError
from ..options import (
    Color,
    ContextSize,
    Debug,
    Device,
    Encoding,
    Format,
    Greedy,
    Kv,
    Lang,
    MaxMemory,
    MaxTokens,
    ModelFolder,
    ModelOptions,
    Plain,
    Raw,
    SamplingOptions,
    Script,
    Seed,
    Stats,
    System,
    Temperature,
    TopP,
    Vision,
)
from ..screen.clean import typed_text
from ..screen.render import first_sign
from ..words import say


def chat(
    picture: Annotated[
        str | None, typer.Argument(help=say("help.chat_picture"), metavar=say("help.name_picture"), show_default=False)
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", "-c", help=say("help.chat_continue"), show_default=False)
    ] = False,
    thread: Annotated[
        str | None, typer.Option("--id", help=say("help.chat_id"), metavar="ID", show_default=False)
    ] = None,
    model: ModelFolder = None,
    device: Device = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    greedy: Greedy = False,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    context: ContextSize = None,
    max_memory: MaxMemory = None,
    kv: Kv = None,
    vision: Vision = None,
    lang: Lang = None,
    script: Script = None,
    no_log: Annotated[bool, typer.Option("--no-log", help=say("help.chat_no_log"), show_default=False)] = False,
    stats: Stats = False,
    plain: Plain = False,
    color: Color = None,
    form: Format = None,
    raw: Raw = False,
    encoding: Encoding = None,
    debug: Debug = False,
) -> None:
    if picture is not None and (go_on or thread is not None):
        raise UsageError(say("chat.picture_and_thread"))
    first_sign()
    from ..chat.repl import ChatOptions, run

    run(
        ChatOptions(
            picture,
            ModelOptions(
                model,
                device,
                None if system is None else typed_text(system),
                context,
                max_memory,
                lang,
                script,
                kv=kv,
                vision=vision,
            ),
            SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
            log=not no_log,
            thread=typed_text(thread) if thread is not None else "" if go_on else None,
        )
    )
