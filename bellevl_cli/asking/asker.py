"""A loaded model that is asked, picture after picture: each answer goes to the output and into the log.

Knows what makes an answer one that was not wanted (schema, --extract, --expect) and says so at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..log import Log
from ..pictures.answer_boxes import tell_kept
from ..pictures.asked import AskedPicture
from ..pictures.tiles import is_long
from ..running.session import Session
from ..running.starting import say_stats, settled
from ..screen import look
from ..screen.clean import clean_line
from ..screen.render import Renderer
from ..words import say
from . import record, sure
from .answering import Answer, Question, Reader, answer
from .judging import Verdict, judge
from .outputs import Output
from .tiling import answer_tiles
from .wishes import AskOptions

if TYPE_CHECKING:
    from bellevl.constraint import Constraint


@dataclass
class Asker:
    """`unmet` is true once an answer was not what was asked for."""

    session: Session
    options: AskOptions
    renderer: Renderer
    output: Output
    log: Log
    warnings: Sequence[str]
    constraint: Constraint | None = None
    unmet: bool = False

    def __post_init__(self) -> None:
        self._reader = Reader(self.renderer.out)
        self._first = True

    def ask(self, text: str, pictures: tuple[AskedPicture, ...], thread: str | None = None) -> None:
        """Answers one question; `thread` is the one of the log that it goes on with."""
        self.output.begin(" ".join(asked.name for asked in pictures))
        raw = look.asked.format == "raw" or self.constraint is not None  # JSON stays JSON
        question = Question(text, pictures, self.options.sampling, self.constraint, raw, thread is not None)
        thread = thread or self._new_thread(pictures)
        try:
            given, question, more = self._answered(question, thread)
            self._finish(given, question, thread, more)
        except KeyboardInterrupt:
            self.renderer.end_line()
            raise

    def _answered(self, question: Question, thread: str) -> tuple[Answer, Question, dict[str, Any]]:
        """The answer, the question that it answers, and what JSON says besides."""
        pieces = self._pieces(question)
        if len(pieces) > 1:
            return self._tiled(question, pieces, thread)
        if self.options.sure:
            return self._several(question, thread, self.options.sure)
        return self._once(question, thread), question, {}

    def _pieces(self, question: Question) -> list[AskedPicture]:
        """What is asked about, one after the other."""
        if len(question.pictures) != 1 or question.goes_on:
            return []
        [asked] = question.pictures
        if self.options.pictures.tiles is None and is_long(asked.picture):
            width, height = asked.picture.size
            self.renderer.say("tiles.offer", ratio=f"{max(width, height) / min(width, height):.1f}")
        return self.options.pictures.pieces(asked)

    def _tiled(
        self, question: Question, pieces: list[AskedPicture], thread: str
    ) -> tuple[Answer, Question, dict[str, Any]]:
        def stage(number: int) -> None:
            self.renderer.stage(say("tiles.progress", number=number, count=len(pieces)))

        with self.log.turn(thread, question.text, self._params(question)) as turn:
            given, tiles = answer_tiles(self.session, question, pieces, stage, self._reader)
            turn.end(given.raw, given.piece.finish_reason, boxes=record.box_record(given.placed))
        self.output.piece(given.text)
        return given, question, {"tiles": tiles}

    def _once(self, question: Question, thread: str) -> Answer:
        self.renderer.stage(say("stage.answer"))
        with self.log.turn(thread, question.text, self._params(question)) as turn:
            given = answer(self.session, question, self.output.piece, turn, self._reader)
            stats = given.piece.stats
            assert stats is not None
            usage, timings = record.usage(stats), record.timings(self.session, stats)
            turn.end(given.raw, given.piece.finish_reason, usage, timings, record.box_record(given.placed))
        return given

    def _several(self, question: Question, thread: str, times: int) -> tuple[Answer, Question, dict[str, Any]]:
        """The answer that the others bear out best, and how far they agree."""
        base = question.sampling.seed or 0
        asked = [replace(question, sampling=replace(question.sampling, seed=base + at)) for at in range(times)]
        answers: list[Answer] = []
        with self.log.turn(thread, question.text, self._params(question)) as turn:
            for one in asked:
                self.renderer.stage(say("sure.stage", number=len(answers) + 1, times=times))
                if answers and question.goes_on:
                    self.session.chat.undo()
                answers.append(answer(self.session, one, lambda text: None, None, self._reader))
            agreement = sure.compare([one.text for one in answers])
            chosen, question = answers[agreement.chosen], asked[agreement.chosen]
            turn.end(chosen.raw, chosen.piece.finish_reason, boxes=record.box_record(chosen.placed))
        self.output.piece(chosen.text)
        told = agreement.record([one.text for one in answers], [one.sampling.seed for one in asked])
        return chosen, question, {"agreement": told}

    def _finish(self, given: Answer, question: Question, thread: str, more: dict[str, Any]) -> None:
        """Prints what was not streamed, and says what is wrong with the answer."""
        verdict = judge(given, self.constraint is not None, self.options.output)
        more |= verdict.more
        if len(question.pictures) > 1:
            more["images"] = [record.image_record(self.session, one) for one in question.pictures]
        if self.log.on:
            more["thread"] = thread
        if given.raw != given.text:
            more["raw"] = given.raw
        told = record.answer_record(
            self.session,
            question.pictures[0] if question.pictures else None,
            given.text,
            given.piece,
            question.sampling,
            self.warnings,
            boxes=given.placed,
            bad_boxes=given.bad_boxes,
            **more,
        )
        if verdict.text is not None or self.options.output.records:
            self.output.end(verdict.text or "", told)
        self._say_after(given, verdict, more.get("agreement"))
        self._keep_boxes(given, question)

    def _say_after(self, given: Answer, verdict: Verdict, agreement: dict[str, Any] | None) -> None:
        self.renderer.clear_stage()
        if verdict.trouble is not None:
            self.unmet = True
            self.renderer.note(verdict.trouble)
            if verdict.text is None:
                self.renderer.note(given.raw)
        elif given.piece.finish_reason == "length":
            self.renderer.say("ask.length", tokens=given.piece.tokens)
        if agreement is not None:
            self.renderer.say("sure.agreement", agree=agreement["agree"], answers=agreement["answers"])
            for one in agreement["doubtful"]:
                count, answers = one["answers"], agreement["answers"]
                self.renderer.say("sure.doubt", count=count, answers=answers, text=clean_line(one["sentence"]))
        say_stats(self.session, given.piece, self.renderer, self._first)
        self._first = False

    def _keep_boxes(self, given: Answer, question: Question) -> None:
        """Draws and exports, where that was asked for. Raises OSError where nothing can be written."""
        if self.options.pictures.keeps_boxes and len(question.pictures) == 1:
            placed = list(given.placed)
            tell_kept(self.renderer, self.options.pictures.keep(question.pictures[0], placed), placed)

    def _new_thread(self, pictures: Sequence[AskedPicture]) -> str:
        system = self.session.chat.system
        return self.log.start(pictures[0] if pictures else None, self.session.plan.choice.name, system)

    def _params(self, question: Question) -> dict[str, Any]:
        return asdict(settled(question.sampling, self.session.plan))
