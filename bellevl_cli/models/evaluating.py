"""`bellevl evaluate`: a model's figures as a table or one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bellevl.config import read_config

from .. import guard
from ..screen.clean import clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..words import say

if TYPE_CHECKING:
    from quantize.calibration import CalibrationSet

#: Rows of the table, in order -> what they are called.
KINDS = {"all": "fidelity.all", "text": "fidelity.text", "picture": "fidelity.picture", "answer": "fidelity.answer"}


@dataclass(frozen=True)
class FidelityOptions:
    """What was asked on the command line."""

    reference: Path
    other: Path
    data: Path | None = None
    samples: int = 32
    seqlen: int = 1024
    receipt: bool = False
    as_json: bool = False


def run_fidelity(options: FidelityOptions, renderer: Renderer | None = None) -> None:
    """Compares two forms of a model. Raises CheckpointError, QuantizeError for conversations that cannot be used."""
    guard.install()
    renderer = renderer or Renderer()
    for folder in (options.reference, options.other):
        read_config(folder)
    from bellevl.evaluation.fidelity import Conversation, fidelity
    from bellevl.tokenizer import load_tokenizer

    def tell(done: float) -> None:
        renderer.stage(say("fidelity.progress", done=f"{100 * done:.0f}%"))

    chosen = _conversations(options)
    conversations = [Conversation(sample.ids, sample.pictures) for sample in chosen.samples]
    found = fidelity(options.reference, options.other, conversations, load_tokenizer(options.reference), tell)
    record = {"data": "held-out" if options.data is None else typed_text(str(options.data)), **found.record()}
    if options.receipt:
        _into_receipt(options.other, record, renderer)
    if options.as_json:
        renderer.line(json_line(record))
        return
    for line in _table(record):
        renderer.line(line)


def _conversations(options: FidelityOptions) -> CalibrationSet:
    from bellevl.tokenizer import load_tokenizer
    from quantize.calibration import calibration_set, held_out_set
    from quantize.recipe import Recipe

    config, _ = read_config(options.reference)
    tokenizer = load_tokenizer(options.reference)
    recipe = Recipe(nsamples=options.samples, seqlen=options.seqlen)  # also checks the two numbers
    if options.data is None:
        return held_out_set(tokenizer, config, options.reference, recipe.nsamples, recipe.seqlen)
    return calibration_set(options.data, tokenizer, config, options.reference, recipe)


def _into_receipt(folder: Path, record: dict[str, Any], renderer: Renderer) -> None:
    from quantize.record.receipt import read_receipt, write_receipt

    receipt = read_receipt(folder)
    if receipt is None:
        renderer.say("fidelity.no_receipt", folder=clean_line(typed_text(str(folder))))
        return
    write_receipt(folder, {**receipt, "fidelity": record})


def _table(record: dict[str, Any]) -> list[str]:
    rows = [say("fidelity.head").split("|")]
    for kind, message in KINDS.items():
        figures = record if kind == "all" else record["by"].get(kind)
        if figures is not None:
            rows.append([say(message), *_cells(figures)])
    return table_lines(rows)


def _cells(figures: dict[str, Any]) -> list[str]:
    perplexities = [figures["perplexity_float"], figures["perplexity_int4"]]
    return [
        str(figures["tokens"]),
        f"{figures['kl_mean']:.5f}",
        f"{figures['kl_p99']:.4f}",
        f"{100 * figures['top1_agreement']:.2f}%",
        *("-" if value is None else f"{value:.3f}" for value in perplexities),
    ]
