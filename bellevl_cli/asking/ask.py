"""`bellevl ask`: one picture, one question, one answer. The picture is looked at before any model is thought of."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bellevl import __version__
from bellevl.errors import CheckpointError

from .. import guard
from ..exits import UsageError
from ..options import ModelOptions, SamplingOptions
from ..pictures.asked import AskedPicture, is_picture_name, is_picture_path, open_asked
from ..preflight import Memory, readable_bytes
from ..screen.clean import AnswerText, clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..session import Plan, Session, answer_tokens, last_piece, load, plan
from ..words import say

if TYPE_CHECKING:
    from bellevl.chat import Piece
    from bellevl.sampling import Sampling


@dataclass(frozen=True)
class AskOptions:
    """What was asked on the command line; an empty question is the default one."""

    picture: str
    question: str
    json: bool
    model: ModelOptions
    sampling: SamplingOptions


def run(options: AskOptions, renderer: Renderer | None = None) -> None:
    """Answers to stdout. Raises the errors of bellevl."""
    guard.install()
    renderer = renderer or Renderer()
    if is_picture_name(options.question) and is_picture_path(options.question):
        raise UsageError(say("ask.order", name=clean_line(options.question)))
    asked = open_asked(options.picture)
    chosen = plan(options.model)
    if chosen.config.visual is None:
        raise CheckpointError("model.text_only", folder=chosen.choice.folder)
    warnings = _say_first(chosen, options, renderer)
    question = options.question.strip() or say("default_question")
    sampling = with_seed(options.sampling, chosen)
    settled(sampling, chosen)  # a wrong value is told before the model is loaded
    session = start(chosen, answer_tokens(chosen, sampling.max_tokens), renderer)
    _answer(session, asked, question, sampling, options.json, warnings, renderer)


def start(chosen: Plan, tokens: int, renderer: Renderer) -> Session:
    """Loads, with the stages shown."""
    renderer.stage(say("stage.model", name=chosen.choice.name))

    def said(memory: Memory) -> None:
        if not chosen.choice.embedded and memory.free is not None:
            need, free = readable_bytes(memory.need), readable_bytes(memory.free)
            renderer.say("memory.said", name=chosen.choice.name, need=need, free=free)
            renderer.stage(say("stage.model", name=chosen.choice.name))

    try:
        return load(chosen, tokens, said)
    finally:
        renderer.clear_stage()


def with_seed(sampling: SamplingOptions, chosen: Plan) -> SamplingOptions:
    """A seed for an answer that is drawn, so that the same answer can be had again."""
    drawn = chosen.generation.do_sample and not sampling.greedy and sampling.temperature != 0
    if not drawn or sampling.seed is not None:
        return sampling
    return replace(sampling, seed=secrets.randbelow(2**31))


def settled(sampling: SamplingOptions, chosen: Plan) -> Sampling:
    """All settings of an answer. Raises PromptError for a value out of range. Imports torch."""
    from bellevl.sampling import Sampling

    return Sampling.of(chosen.generation, **sampling.keywords())


def _say_first(chosen: Plan, options: AskOptions, renderer: Renderer) -> list[str]:
    """Notes before the answer; those that a program should know too are returned."""
    warnings = []
    if chosen.choice.embedded:
        warnings.append(say("ask.embedded"))
        renderer.note(warnings[0])
    if not options.question.strip():
        renderer.say("ask.default_question", question=say("default_question"))
    return warnings


def _answer(
    session: Session,
    asked: AskedPicture,
    question: str,
    sampling: SamplingOptions,
    as_json: bool,
    warnings: list[str],
    renderer: Renderer,
) -> None:
    answer = AnswerText()

    def show(text: str) -> None:
        shown = answer.push(text)
        if not as_json:
            renderer.answer(shown)

    renderer.stage(say("stage.answer"))
    pieces = session.chat.stream(question, image=asked.picture.image, **sampling.keywords())
    try:
        piece = last_piece(pieces, show)
    except KeyboardInterrupt:
        renderer.end_line()
        raise
    if as_json:
        record = answer_record(session, asked, answer.text, piece, sampling, warnings)
        renderer.line(json_line(record))
    else:
        renderer.end_answer()
    if piece.finish_reason == "length":
        renderer.say("ask.length", tokens=piece.tokens)


def answer_record(
    session: Session,
    asked: AskedPicture,
    text: str,
    piece: Piece,
    sampling: SamplingOptions,
    warnings: list[str],
) -> dict[str, Any]:
    """What `--json` prints. Keys stay as they are; new ones may come."""
    visual, stats = session.plan.config.visual, piece.stats
    assert visual is not None and stats is not None
    params = asdict(settled(sampling, session.plan))
    params.pop("seed")
    return {
        "text": text,
        "image": {
            "path": asked.name if asked.picture.path is None else typed_text(str(asked.picture.path)),
            "sha256": asked.sha256,
            "size": list(asked.picture.size),
            "seen": [visual.image_size, visual.image_size],
        },
        "model": session.plan.choice.name,
        "quantization": session.plan.quantization_name,
        "seed": sampling.seed,
        "params": params,
        "usage": {"prompt_tokens": stats.prompt_tokens, "completion_tokens": stats.new_tokens},
        "timings": {
            "load_seconds": round(session.load_seconds, 3),
            "vision_seconds": round(stats.vision_seconds, 3),
            "prefill_seconds": round(stats.prefill_seconds, 3),
            "first_token_seconds": round(stats.vision_seconds + stats.prefill_seconds, 3),
            "decode_seconds": round(stats.decode_seconds, 3),
        },
        "finish_reason": piece.finish_reason,
        "warnings": warnings,
        "version": __version__,
    }
