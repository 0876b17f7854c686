"""Asking the model in a chat: an answer as it comes, the same question again, an answer gone on with, an older one.

The dialogue is the chat's, the words on the screen the renderer's; the log hears of everything before and while it
happens. Knows no slash command and no line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bellevl.chat import Dialogue
from bellevl.prompt import Turn

from ..asking.record import timings, usage
from ..log import LoggedTurn
from ..pictures.boxes import box_records
from ..pictures.tiles import join_answers
from ..running.preflight import peak_memory
from ..running.session import Session, last_piece
from ..screen import look
from ..screen.look import stats_wanted
from ..screen.stats import stats_line
from ..words import say
from .interrupts import Interrupts
from .parameters import Parameters
from .shown import ShownAnswer, readable
from .threads import Threads

if TYPE_CHECKING:
    from bellevl.chat import Piece
    from bellevl.grounding import Box

    from ..log import Log
    from ..pictures.asked import AskedPicture
    from ..screen.render import Renderer


class Answers:
    """Answers in the current thread. `last` is the newest one's end, with its figures; `speed` its characters a
    second. `boxed` hears of the boxes of an answer that is over."""

    def __init__(
        self,
        session: Session,
        threads: Threads,
        parameters: Parameters,
        renderer: Renderer,
        interrupts: Interrupts,
        log: Log,
    ) -> None:
        self.chat, self.threads, self.parameters = session.chat, threads, parameters
        self.renderer, self.interrupts, self.log = renderer, interrupts, log
        self.last: Piece | None = None
        self.speed: float | None = None
        self.show_stats = stats_wanted()
        self.boxed: Callable[[list[Box]], object] = lambda boxes: None
        self._session = session
        self._forgotten: tuple[int, ...] = ()

    def ask(self, question: str) -> None:
        """A new question. Raises the errors of bellevl; the dialogue is then as it was."""
        before, keywords = self.chat.dialogue(), self.parameters.drawn()
        with self.interrupts:
            pieces = self.chat.stream(question, stop=self.interrupts.asked, **keywords)
            self.threads.current.forget_answers()
            self._show(pieces, self.log.turn(self._log_id(), question, keywords), before)

    def ask_pieces(self, question: str, pieces: Sequence[AskedPicture]) -> None:
        """The same question about each piece of the current picture; one turn of the dialogue and of the log. What was
        answered until a Ctrl-C stays."""
        before, keywords = self.chat.dialogue(), self.parameters.drawn()
        self.threads.current.forget_answers()
        texts: list[str] = []
        reason = "interrupted"
        with self.interrupts, self.log.turn(self._log_id(), question, keywords) as logged:
            try:
                for number, piece in enumerate(pieces, start=1):
                    self.renderer.say("chat.tile", number=number, count=len(pieces))
                    self.chat.go_back(Dialogue(piece.picture))
                    self._show(self.chat.stream(question, stop=self.interrupts.asked, **keywords), None, Dialogue())
                    texts.append(readable(self.chat.turns[-1].answer))
                    logged.push(join_answers(texts))
                    if (reason := self.chat.finish_reason or "stop") == "interrupted":
                        break
            finally:
                first = before.picture is not None and not any(turn.pictures for turn in before.turns)
                turn = Turn(question, join_answers(texts), pictures=int(first))
                turns = (*before.turns, turn) if texts else before.turns
                self.chat.go_back(replace(before, turns=turns, answer_ids=None, finish_reason="stop"))
                if not texts:
                    self.log.drop_last(self._log_id())
            logged.end(turn.answer or "", reason)

    def retry(self, seed: int | None = None) -> None:
        """The last question once more, with another seed. The answer it had can be had back with `previous`."""
        before, keywords = self.chat.dialogue(), self.parameters.drawn(new_seed=True, seed=seed)
        with self.interrupts:
            pieces = self.chat.retry(stop=self.interrupts.asked, **keywords)
            self.log.replace_last(self._log_id())
            try:
                self._show(pieces, self.log.turn(self._log_id(), before.turns[-1].question, keywords), before)
            finally:
                self._settle_retry(before)

    def go_on(self) -> None:
        """The last answer from where it stopped."""
        before = self.chat.dialogue()
        with self.interrupts:
            pieces = self.chat.continue_(stop=self.interrupts.asked, **self.parameters.drawn())
            self._show(pieces, self.log.continue_last(self._log_id()), before, before.turns[-1].answer or "")
        thread = self.threads.current
        if thread.answers:
            thread.answers[thread.at] = self.chat.dialogue()

    def previous(self) -> bool:
        """Puts the answer that the last question had before in the place of the one it has; False: there was none."""
        thread = self.threads.current
        if len(thread.answers) < 2:
            return False
        thread.at = (thread.at - 1) % len(thread.answers)
        self.chat.go_back(thread.answers[thread.at])
        self.show_answer()
        self.renderer.say("chat.previous", number=thread.at + 1, count=len(thread.answers))
        self._log_standing_answer()
        return True

    def undo(self) -> str | None:
        """Takes the last question and its answer back; the question. None: there was none."""
        turn = self.chat.undo()
        if turn is None:
            return None
        self.threads.current.forget_answers()
        self.log.drop_last(self._log_id())
        return turn.question

    def show_answer(self) -> None:
        """The last answer once more."""
        self.renderer.answer(readable(self.chat.turns[-1].answer))
        self.renderer.end_answer()

    def _show(self, pieces: Iterator[Piece], logged: LoggedTurn | None, before: Dialogue, begun: str = "") -> None:
        """An answer as it comes. When it fails before a word of it came, the dialogue is `before`. `logged` None: it is
        a part of a turn that is in the log already."""
        whole_turn, logged = logged is not None, logged or LoggedTurn(self.log, None)
        answer = ShownAnswer(look.asked.format == "raw", begun)

        def show(text: str) -> None:
            self.renderer.answer(answer.push(text))
            logged.push(answer.text)

        self.renderer.stage(say("stage.answer" if self._looks(before) else "stage.think"))
        try:
            with logged:
                piece = last_piece(pieces, show)
                self.renderer.answer(answer.flush())
                self._log_end(logged, answer, piece)
        except Exception:
            if not answer.shown:
                self._take_back(before, whole_turn)
            raise
        self.renderer.end_answer()
        self._tell_end(piece, len(answer.shown), whole_turn)
        if whole_turn and (boxes := answer.boxes.boxes):
            self.boxed(boxes)

    def _log_end(self, logged: LoggedTurn, answer: ShownAnswer, piece: Piece) -> None:
        assert piece.stats is not None
        boxes = self.records(answer.boxes.boxes)
        logged.end(answer.text, piece.finish_reason, usage(piece.stats), timings(self._session, piece.stats), boxes)

    def records(self, boxes: Sequence[Box]) -> list[dict[str, Any]]:
        """Boxes of an answer in the whole picture of the current thread."""
        picture = self.threads.current.picture
        return [] if picture is None else box_records(boxes, picture.uncut.size, picture.area)

    def _looks(self, before: Dialogue) -> bool:
        """Whether the picture is looked at for the first time."""
        return self.chat.picture is not None and before.features is None

    def _take_back(self, before: Dialogue, logged: bool) -> None:
        asked_more = len(self.chat.turns) > len(before.turns)
        self.chat.go_back(before)
        if asked_more and logged:
            self.log.drop_last(self._log_id())

    def _tell_end(self, piece: Piece, characters: int, whole_turn: bool) -> None:
        self.last, stats = piece, piece.stats
        assert stats is not None
        self.speed = characters / stats.decode_seconds if stats.decode_seconds and stats.new_tokens > 1 else None
        if piece.finish_reason == "interrupted":
            self.renderer.say("chat.interrupted")
        elif piece.finish_reason == "length":
            self.renderer.say("chat.length" if whole_turn else "chat.cut")
        if len(stats.forgotten) > len(self._forgotten):
            self.renderer.say("chat.forgotten", turns=turn_ranges(stats.forgotten))
        self._forgotten = stats.forgotten
        if self.show_stats:
            self.renderer.note(self.stats_line() or "")

    def stats_line(self) -> str | None:
        """What the last answer took; None: there was none."""
        if self.last is None or self.last.stats is None:
            return None
        device = self._session.device
        return stats_line(self.last.stats, None, peak_memory(device), device)

    def _settle_retry(self, before: Dialogue) -> None:
        """The new answer stands and the old one can be had back; without a word of the new one the old one stands."""
        if not self.chat.turns[-1].answer or self.chat.turns == list(before.turns):
            self.chat.go_back(before)
            self._log_standing_answer()
            return
        thread = self.threads.current
        thread.answers = [*(thread.answers or [before]), self.chat.dialogue()]
        thread.at = len(thread.answers) - 1

    def _log_standing_answer(self) -> None:
        """The log's last turn is what the dialogue's is."""
        self.log.replace_last(self._log_id())
        turn = self.chat.turns[-1]
        with self.log.turn(self._log_id(), turn.question) as logged:
            answer = ShownAnswer()
            answer.push(turn.answer or "")
            answer.flush()
            logged.end(answer.text, self.chat.finish_reason, boxes=self.records(answer.boxes.boxes))

    def _log_id(self) -> str:
        thread = self.threads.current
        if thread.log_id is None:
            thread.log_id = self.log.start(thread.picture, self._session.plan.choice.name, self.chat.system)
        return thread.log_id


def turn_ranges(turns: Sequence[int]) -> str:
    """Turns counted from 0 -> "2–4, 6" counted from 1."""
    ranges: list[list[int]] = []
    for turn in sorted(turns):
        if ranges and turn == ranges[-1][1] + 1:
            ranges[-1][1] = turn
        else:
            ranges.append([turn, turn])
    return ", ".join(f"{a + 1}" if a == b else f"{a + 1}–{b + 1}" for a, b in ranges)
