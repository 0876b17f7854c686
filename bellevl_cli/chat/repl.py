"""`bellevl chat`: reads a line, does what it means, again. Prints nothing itself: the renderer does.

Ctrl-C during an answer stops it and keeps what there is; twice within two seconds leaves.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from bellevl.errors import BellevlError, CheckpointError

from .. import guard
from ..asking.ask import settled, start, with_seed
from ..exits import MEMORY, LeaveError, describe, exit_code
from ..options import ModelOptions, SamplingOptions
from ..pictures.asked import AskedPicture, open_asked
from ..screen.clean import AnswerText
from ..screen.render import Renderer
from ..session import Plan, Session, last_piece, plan, window
from ..words import say
from . import slash

if TYPE_CHECKING:
    from bellevl.chat import Piece

    from .lines import Lines

#: Two Ctrl-C within these seconds leave the chat.
TWICE_SECONDS = 2.0


class Interrupts:
    """Ctrl-C while an answer runs: a flag that the answer looks at. The second one in two seconds raises.

    Where nobody sits at a prompt (not `patient`), the first one raises: a script is stopped as a whole.
    """

    def __init__(self, patient: bool = True) -> None:
        self.patient = patient
        self._last = float("-inf")
        self.stopped = False

    def __enter__(self) -> Interrupts:
        self.stopped = False
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def again(self) -> bool:
        """Notes a Ctrl-C; whether it is the second within two seconds."""
        now = time.monotonic()
        twice, self._last = now - self._last < TWICE_SECONDS, now
        return twice

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.again() or not self.patient:
            raise KeyboardInterrupt
        self.stopped = True


class ChatLoop:
    """A chat: its session, its picture, and what commands do to them."""

    def __init__(self, session: Session, sampling: SamplingOptions, renderer: Renderer, lines: Lines) -> None:
        self.session = session
        self.sampling = sampling
        self.renderer = renderer
        self.lines = lines
        self.interrupts = Interrupts(patient=lines.interactive)
        self.failure = 0
        self._picture: AskedPicture | None = None
        self._new_picture = False
        self._leaving = False

    def run(self) -> None:
        """Until /exit or the end of input. Raises KeyboardInterrupt after two Ctrl-C."""
        while not self._leaving:
            try:
                text = self.lines.read()
            except EOFError:
                return
            except KeyboardInterrupt:
                self._interrupted_at_prompt()
                continue
            self._survive(text)

    def attach(self, path: str) -> bool:
        """A new picture for the next question; on failure the old one stays."""
        if self.session.plan.config.visual is None:
            raise CheckpointError("model.text_only", folder=self.session.plan.choice.folder)
        self.set_picture(open_asked(path))
        return True

    def set_picture(self, picture: AskedPicture) -> None:
        visual = self.session.plan.config.visual
        assert visual is not None
        width, height = picture.picture.size
        self.renderer.say(
            "chat.picture", name=picture.name, width=width, height=height, seen=visual.image_size,
            tokens=visual.n_queries,
        )  # fmt: skip
        if self.session.chat.turns:
            self.renderer.say("chat.new_thread")
        self._picture, self._new_picture = picture, True

    def ask(self, question: str) -> None:
        """Answers `question` about the picture, if there is one."""
        image = self._picture.picture.image if self._picture is not None and self._new_picture else None
        self.renderer.stage(say("stage.answer" if image is not None else "stage.think"))
        self._show(self.session.chat.stream(question, image=image, stop=self._stopped, **self._drawn()))
        self._new_picture = False

    def retry(self) -> None:
        if not self.session.chat.turns:
            self.tell(say("chat.nothing_to_retry"))
            return
        if self._new_picture:  # the last question again, but about the picture that is shown now
            self.ask(self.session.chat.turns[-1].question)
            return
        self.renderer.stage(say("stage.think"))
        self._show(self.session.chat.retry(stop=self._stopped, **self._drawn()))

    def clear(self) -> None:
        self.session.chat.clear()
        kept = "" if self._picture is None else say("chat.kept_picture", name=self._picture.name)
        self.tell(say("chat.cleared", picture=kept))

    def leave(self) -> None:
        self._leaving = True

    def tell(self, text: str) -> None:
        self.renderer.note(text)

    def handle(self, text: str) -> None:
        """Does what a line means."""
        line = slash.parse(text)
        if line.kind == "command":
            slash.run(self, line)
        elif line.kind == "picture":
            if self.attach(line.name) and line.text:
                self.ask(line.text)
        elif line.kind == "question":
            self.ask(line.text)

    def _survive(self, text: str) -> None:
        """An error a person can cause and a Ctrl-C end the line, not the chat."""
        try:
            with self.lines.unechoed():
                self.handle(text)
        except KeyboardInterrupt:
            self.renderer.end_line()
            if not self.lines.interactive or self.interrupts.again():
                raise
            self.renderer.say("chat.interrupted")
        except Exception as error:
            if not isinstance(error, BellevlError) and exit_code(error) != MEMORY:
                raise
            self.renderer.note(describe(error) or "")
            self.failure = self.failure or exit_code(error)

    def _show(self, pieces: Iterator[Piece]) -> None:
        answer = AnswerText()
        with self.interrupts:
            piece = last_piece(pieces, lambda text: self.renderer.answer(answer.push(text)))
        self.renderer.end_answer()
        if piece.finish_reason == "interrupted":
            self.renderer.say("chat.interrupted")
        elif piece.finish_reason == "length":
            self.renderer.say("chat.length", tokens=piece.tokens)
        forgotten = 0 if piece.stats is None else _count(piece.stats.forgotten)
        if forgotten:
            self.renderer.say("chat.forgotten", count=forgotten)

    def _stopped(self) -> bool:
        return self.interrupts.stopped

    def _drawn(self) -> dict[str, Any]:
        return with_seed(self.sampling, self.session.plan).keywords()

    def _interrupted_at_prompt(self) -> None:
        """Clears the line; on an empty one says how to leave, and leaves the second time."""
        if self.lines.interactive and self.lines.pending:
            return
        if not self.lines.interactive or self.interrupts.again():
            raise KeyboardInterrupt
        self.tell(say("chat.press_ctrl_d"))


def _count(forgotten: object) -> int:
    """Turns are reported by their places or by their number."""
    return forgotten if isinstance(forgotten, int) else len(forgotten)  # type: ignore[arg-type]


def run(picture: str | None, options: ModelOptions, sampling: SamplingOptions) -> None:
    """The command. A picture that cannot be opened ends it before any model is loaded."""
    guard.install()
    renderer = Renderer()
    asked = None if picture is None else open_asked(picture)
    chosen = plan(options)
    if asked is not None and chosen.config.visual is None:
        raise CheckpointError("model.text_only", folder=chosen.choice.folder)
    loop = _open_loop(chosen, sampling, renderer)
    if asked is not None:
        loop.set_picture(asked)
    loop.run()
    if loop.failure and not loop.lines.interactive:
        raise LeaveError(loop.failure)


def _open_loop(chosen: Plan, sampling: SamplingOptions, renderer: Renderer) -> ChatLoop:
    from .lines import open_lines

    if chosen.choice.embedded:
        renderer.say("ask.embedded")
    lines = open_lines()
    settled(sampling, chosen)
    with lines.unechoed():
        session = start(chosen, window(chosen, sampling.max_tokens), renderer)
    if lines.interactive:
        renderer.say("chat.welcome", name=chosen.choice.name)
    return ChatLoop(session, sampling, renderer, lines)
