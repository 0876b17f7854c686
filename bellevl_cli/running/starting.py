"""From a plan to a session with the stages shown, and how its answers will be drawn. Knows no question."""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from ..options import SamplingOptions
from ..screen import typeahead
from ..screen.look import stats_wanted
from ..screen.render import Renderer
from ..screen.stats import stats_line
from ..words import say
from . import speeds
from .preflight import Memory, is_small, peak_memory, readable_bytes
from .session import Plan, Session, load

if TYPE_CHECKING:
    from bellevl.chat import Piece
    from bellevl.sampling import Sampling


#: An estimate below this is not worth a line.
WORTH_SAYING_SECONDS = 3.0


def start(chosen: Plan, tokens: int, renderer: Renderer) -> Session:
    """Loads, with the stages shown. Where only the CPU is left for a large model, a person is asked once."""
    renderer.stage(say("stage.model", name=chosen.choice.name))

    def said(memory: Memory) -> None:
        if not chosen.choice.embedded and memory.free is not None:
            need, free = readable_bytes(memory.need), readable_bytes(memory.free)
            renderer.say("memory.said", name=chosen.choice.name, need=need, free=free)
            renderer.stage(say("stage.model", name=chosen.choice.name))

    try:
        session = load(chosen, tokens, said, renderer.progress, lambda speed: _accepts_cpu(chosen, speed, renderer))
        _say_slow_kernel(session, renderer)
    finally:
        renderer.clear_stage()
    session.chat.seen = lambda seconds: renderer.restage(say("stage.seen", seconds=f"{seconds:.1f}"))
    session.chat.wrong = lambda wanted: renderer.say("language.wrong", wanted=wanted)
    session.chat.retrying = lambda: renderer.say("memory.retrying")
    return session


def say_estimate(chosen: Plan, renderer: Renderer) -> None:
    """What a question will take, where this machine has learned it and it is worth waiting for."""
    expected = speeds.estimate(chosen.speed_row)
    if expected is not None and expected.seconds >= WORTH_SAYING_SECONDS:
        renderer.say(
            "estimate.said", seconds=f"{expected.seconds:.0f}", load=f"{expected.load_seconds:.1f}",
            vision=f"{expected.vision_seconds:.1f}", characters=expected.characters,
        )  # fmt: skip


def say_stats(session: Session, piece: Piece, renderer: Renderer, loaded: bool = False) -> None:
    """The timing line, where `--stats` asks for it; `loaded`: the model was loaded for this answer."""
    if stats_wanted() and piece.stats is not None:
        peak = peak_memory(session.device)
        seconds = session.load_seconds if loaded else None
        renderer.note(stats_line(piece.stats, seconds, peak, session.device))


def _accepts_cpu(chosen: Plan, speed: float, renderer: Renderer) -> bool:
    """Asks whoever sits at the terminal; a script has nobody to say yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    renderer.say("memory.cpu", name=chosen.choice.name, speed=f"{speed:.2g}")
    renderer.clear_stage()
    sys.stderr.write(say("memory.cpu_ask"))
    sys.stderr.flush()
    with typeahead.lifted():
        accepted = sys.stdin.readline().strip().lower() in ("y", "yes", "是", "好", "继续")
    if accepted:
        renderer.stage(say("stage.model", name=chosen.choice.name))
    return accepted


def _say_slow_kernel(session: Session, renderer: Renderer) -> None:
    """One line where a large model's int4 layers are slow."""
    if session.plan.quantization is None or is_small(session.plan.config):
        return
    from .int4_kernel import slow_kernel_line

    if line := slow_kernel_line(session.chat.model):
        renderer.note(line)


def with_seed(sampling: SamplingOptions, chosen: Plan) -> SamplingOptions:
    """A seed for an answer that is drawn, so that the same answer can be had again."""
    drawn = chosen.generation.do_sample and not sampling.greedy and sampling.temperature != 0
    if not drawn or sampling.seed is not None:
        return sampling
    return replace(sampling, seed=secrets.randbelow(2**31))


def settled(sampling: SamplingOptions, chosen: Plan) -> Sampling:
    """All settings of an answer. Raises PromptError for a value out of range."""
    from bellevl.sampling import Sampling

    return Sampling.of(chosen.generation, **sampling.keywords())
