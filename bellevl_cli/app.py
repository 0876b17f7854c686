"""`bellevl`: the commands and their options. What a command does has its own module, imported when it runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from bellevl import __version__

from . import exits
from .clean import typed_text
from .options import (
    Debug,
    Device,
    Greedy,
    Json,
    MaxTokens,
    ModelFolder,
    ModelOptions,
    SampleSeed,
    SamplingOptions,
    Seed,
    System,
    Temperature,
    TopP,
    debugging,
)
from .render import prepare_streams
from .words import say

#: Words that the parser writes into help itself -> their id.
PARSER_WORDS = {
    "Usage": "help.usage",
    "Options": "help.options",
    "Arguments": "help.arguments",
    "Commands": "help.commands",
    "Show this message and exit.": "help.help",
    "[required]": "help.required",
    "[OPTIONS]": "help.slot_options",
    "COMMAND [ARGS]...": "help.slot_command",
}


class _Translated:
    """Help whose headings are in the person's language. An error of the parser always knows its command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except exits.UsageError as error:
            if getattr(error, "ctx", None) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)  # type: ignore[misc]
        text = re.sub(r"\{(\S+?)\}| <(?:str|path)>", r"\1", "".join(formatter.buffer))
        for word, message in PARSER_WORDS.items():
            text = text.replace(f"{word}:", say(message) + ":") if word.isalpha() else text.replace(word, say(message))
        formatter.buffer[:] = [text]


class Command(_Translated, TyperCommand):
    """A command."""


class Group(_Translated, TyperGroup):
    """The program itself."""


app = typer.Typer(
    name="bellevl",
    cls=Group,
    help=say("help.program"),
    epilog=say("help.exit_codes"),
    rich_markup_mode=None,  # plain help: without rich it is there in a tenth of a second
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


@app.command(cls=Command, help=say("help.ask"))
def ask(
    picture: Annotated[
        str, typer.Argument(help=say("help.picture"), metavar=say("help.name_picture"), show_default=False)
    ],
    question: Annotated[
        str | None, typer.Argument(help=say("help.question"), metavar=say("help.name_question"), show_default=False)
    ] = None,
    model: ModelFolder = None,
    device: Device = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    greedy: Greedy = False,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    from .ask import AskOptions, run

    run(
        AskOptions(
            picture=picture,
            question=typed_text(question or ""),
            json=json,
            model=ModelOptions(model, device, None if system is None else typed_text(system)),
            sampling=SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
        )
    )


@app.command(cls=Command, help=say("help.chat"))
def chat(
    picture: Annotated[
        str | None, typer.Argument(help=say("help.chat_picture"), metavar=say("help.name_picture"), show_default=False)
    ] = None,
    model: ModelFolder = None,
    device: Device = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    greedy: Greedy = False,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    debug: Debug = False,
) -> None:
    from .repl import run

    run(
        picture,
        ModelOptions(model, device, None if system is None else typed_text(system)),
        SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
    )


@app.command(cls=Command, help=say("help.quantize"))
def quantize(
    source: Annotated[
        Path, typer.Argument(help=say("help.source"), metavar=say("help.name_source"), show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(help=say("help.target"), metavar=say("help.name_target"), show_default=False)
    ],
    calibration: Annotated[
        Path | None, typer.Option(help=say("help.calibration"), metavar="PATH", show_default=False)
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help=say("help.group_size"), metavar="N", show_default=False)
    ] = None,
    asym: Annotated[bool, typer.Option("--asym", help=say("help.asym"), show_default=False)] = False,
    act_order: Annotated[bool, typer.Option("--act-order", help=say("help.act_order"), show_default=False)] = False,
    damp: Annotated[float | None, typer.Option(help=say("help.damp"), metavar="X", show_default=False)] = None,
    samples: Annotated[int | None, typer.Option(help=say("help.samples"), metavar="N", show_default=False)] = None,
    seqlen: Annotated[int | None, typer.Option(help=say("help.seqlen"), metavar="N", show_default=False)] = None,
    seed: SampleSeed = None,
    debug: Debug = False,
) -> None:
    from .quantize_command import QuantizeOptions, run

    run(QuantizeOptions(source, target, calibration, group_size, asym, act_order, damp, samples, seqlen, seed))


@app.command(cls=Command, help=say("help.show"))
def show(model: ModelFolder = None, json: Json = False, debug: Debug = False) -> None:
    from .show import run

    run(model, json)


@app.command(cls=Command, help=say("help.doctor"))
def doctor(
    net: Annotated[bool, typer.Option("--net", help=say("help.net"), show_default=False)] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    from .doctor import run

    run(net, json)


def main() -> None:
    """The program: parses, runs, and ends with the exit code that exits.py gives."""
    prepare_streams()
    sys.exit(exits.run(_invoke, debugging))


def _invoke() -> None:
    """Typer's parser without its own handling of errors, which would print and exit by itself."""
    command = typer.main.get_command(app)
    with command.make_context("bellevl", sys.argv[1:]) as context:
        command.invoke(context)
