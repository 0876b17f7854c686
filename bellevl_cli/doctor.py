"""`bellevl doctor`: what this machine can run, how, and what to mend. Each line is ok, a note or an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from bellevl.errors import BellevlError

from . import guard
from .doctor_checks import CHECKS, ERROR, OK, Finding
from .exits import FAILURE, LeaveError
from .options import ModelOptions, SamplingOptions
from .running.session import answer_tokens, last_piece, load, plan
from .screen.clean import AnswerText, clean_line, json_line
from .screen.render import Renderer
from .screen.table import table_lines
from .words import cause, say

#: The tiny answer: what it is asked about, and how long it may get.
QUESTION_TOKENS = 24
SIDE, CIRCLE, COLOUR = 112, (24, 24, 88, 88), (40, 160, 60)


def run(net: bool, as_json: bool, renderer: Renderer | None = None) -> None:
    """Prints the findings. Raises LeaveError(1) when one is an error."""
    renderer = renderer or Renderer()
    findings = []
    for check in CHECKS:
        renderer.stage(f"{check.__name__.lstrip('_')} …")
        findings += _findings(check)
    renderer.stage(say("stage.model", name="nano"))
    findings += list(_answer(net))
    if as_json:
        renderer.line(json_line([vars(f) for f in findings]))
    else:
        rows = [(say(f"doctor.{f.level}"), f.title, clean_line(f.text)) for f in findings]
        for line in table_lines(rows):
            renderer.line(line)
    if any(f.level == ERROR for f in findings):
        raise LeaveError(FAILURE)


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; one that cannot be done (no torch, say) is an error of its own and ends nothing else."""
    name = check.__name__.lstrip("_")
    try:
        return list(check())
    except Exception as error:
        text = clean_line(f"{type(error).__name__}: {error}")[:300]
        return [Finding(name, ERROR, name, text, {"error": type(error).__name__})]


def _answer(net: bool) -> Iterator[Finding]:
    """The embedded model looks at a small picture, under the network guard; `net` reports what it saw."""
    with guard.watch() as refused:
        try:
            text, seconds, tokens = _tiny_answer()
        except Exception as error:
            said = cause(error) if isinstance(error, BellevlError) else f"{type(error).__name__}: {error}"
            yield Finding("answer", ERROR, say("doctor.answer"), said, {"error": type(error).__name__})
        else:
            shown = say("doctor.answer_text", text=text, seconds=f"{seconds:.1f}", tokens=tokens)
            facts = {"text": text, "seconds": round(seconds, 3), "tokens": tokens}
            yield Finding("answer", OK, say("doctor.answer"), shown, facts)
    if net:
        count = len(refused)
        text = say("doctor.network", count=count)
        yield Finding("network", ERROR if count else OK, "", text, {"connections": count})


def _tiny_answer() -> tuple[str, float, int]:
    """(text, seconds, tokens) of the embedded model's answer about a green circle."""
    from PIL import Image, ImageDraw

    from bellevl.nano import folder

    chosen = plan(ModelOptions(folder(), "cpu"))
    sampling = SamplingOptions(max_tokens=QUESTION_TOKENS, greedy=True)
    session = load(chosen, answer_tokens(chosen, QUESTION_TOKENS), lambda memory: None)
    session.chat.row = None  # so short an answer says nothing about others
    answer, started = AnswerText(), time.perf_counter()
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).ellipse(CIRCLE, fill=COLOUR)
    pieces = session.chat.stream(say("doctor.question"), image=picture, **sampling.keywords())
    piece = last_piece(pieces, answer.push)
    return answer.text, time.perf_counter() - started, piece.tokens
