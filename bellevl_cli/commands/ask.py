"""The options of `bellevl ask`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import (
    Color,
    ContextSize,
    Debug,
    Device,
    Encoding,
    Format,
    Greedy,
    Json,
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
from ..pictures.options import AllowHuge, Boxes, BoxesDir, Clip, Crop, Draw, Frame, Ocr, Tiles
from ..screen.clean import typed_text
from ..screen.render import first_sign
from ..words import say
from .scripts import (
    Continue,
    DryRun,
    Expect,
    Extract,
    Jsonl,
    NoLog,
    NoStream,
    OutputFile,
    Params,
    Question,
    Quiet,
    Schema,
    Sure,
    TemplateName,
    ThreadId,
    Together,
)


def ask(
    words: Annotated[
        list[str] | None, typer.Argument(help=say("help.words"), metavar=say("help.name_words"), show_default=False)
    ] = None,
    question: Question = None,
    template: TemplateName = None,
    params: Params = None,
    together: Together = False,
    clip: Clip = False,
    crop: Crop = None,
    tiles: Tiles = None,
    frame: Frame = 1,
    allow_huge: AllowHuge = False,
    ocr: Ocr = None,
    draw: Draw = None,
    boxes: Boxes = None,
    boxes_dir: BoxesDir = None,
    model: ModelFolder = None,
    device: Device = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    greedy: Greedy = False,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    ctx: ContextSize = None,
    max_memory: MaxMemory = None,
    kv: Kv = None,
    vision: Vision = None,
    lang: Lang = None,
    script: Script = None,
    schema: Schema = None,
    extract: Extract = None,
    expect: Expect = None,
    sure: Sure = None,
    json: Json = False,
    jsonl: Jsonl = False,
    output: OutputFile = None,
    no_stream: NoStream = False,
    continue_: Continue = False,
    thread: ThreadId = None,
    no_log: NoLog = False,
    dry_run: DryRun = False,
    encoding: Encoding = None,
    color: Color = None,
    format: Format = None,
    raw: Raw = False,
    plain: Plain = False,
    stats: Stats = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    if not quiet:
        first_sign()
    from ..asking.ask import run
    from ..asking.wishes import AskOptions, OutputWishes, ThreadWishes
    from ..pictures.wishes import PictureWishes

    run(
        AskOptions(
            words=tuple(words or ()),
            question=question,
            output=OutputWishes(json, jsonl, no_stream, output, quiet, extract, expect),
            model=ModelOptions(
                model,
                device,
                None if system is None else typed_text(system),
                ctx,
                max_memory,
                lang,
                script,
                kv=kv,
                vision=vision,
            ),
            sampling=SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
            thread=ThreadWishes(continue_, thread, no_log),
            template=template,
            params=tuple(params or ()),
            schema=schema,
            sure=sure,
            together=together,
            pictures=PictureWishes(clip, frame, allow_huge, crop, tiles, draw, boxes, boxes_dir),
            ocr=ocr,
            dry_run=dry_run,
        )
    )
