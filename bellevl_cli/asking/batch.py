"""`bellevl batch`: the same question about every picture of a folder, with one loading of the model.

A line of JSON is written as soon as a picture is done, so nothing is lost when it is stopped, and the same command goes
on from there. A picture that cannot be read is a line with "error", and the next one follows.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bellevl.errors import BellevlError, CheckpointError, PictureError
from bellevl.picture_files import find_picture

from .. import guard
from ..exits import FAILURE, INTERRUPTED, UNMET, LeaveError, UsageError, exit_code
from ..models.quantizing import readable_time
from ..options import ModelOptions, SamplingOptions
from ..pictures.asked import shown_name
from ..pictures.wishes import PictureWishes
from ..running.session import Plan, Session, answer_tokens, plan
from ..running.starting import settled, start, with_seed
from ..screen.clean import typed_text
from ..screen.render import Renderer
from ..words import cause, hint, say
from .answering import Question, Reader, answer
from .captions import Sidecars, write_csv
from .judging import judge
from .ledger import Ledger, Record, file_digest, key_of
from .listing import list_pictures, read_endings
from .record import answer_record
from .request import default_question, fill_template, names_picture, read_question
from .schema import Form
from .wishes import OutputWishes

if TYPE_CHECKING:
    from bellevl.constraint import Constraint


@dataclass(frozen=True)
class BatchOptions:
    """`words` are folders, lists and pictures, and behind them the question."""

    words: tuple[str, ...]
    question: str | None = None
    output: Path | None = None
    recursive: bool = False
    endings: str | None = None
    limit: int | None = None
    csv: Path | None = None
    sidecar: str | None = None
    overwrite: bool = False
    template: str | None = None
    params: tuple[str, ...] = ()
    schema: str | None = None
    model: ModelOptions = field(default_factory=ModelOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    wishes: PictureWishes = field(default_factory=PictureWishes)


@dataclass
class Counts:
    """How far the batch is."""

    total: int
    skipped: int = 0
    answered: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.skipped + self.answered + self.failed


def run(options: BatchOptions, renderer: Renderer | None = None) -> None:
    """Answers about all pictures. Raises LeaveError(1) where some failed, the errors of bellevl before that."""
    guard.install()
    renderer = renderer or Renderer()
    if options.limit is not None and options.limit < 1:
        raise UsageError(say("usage.least", name="--limit", value=options.limit, least=1))
    options.wishes.check()
    options, sources, question = _question(options, renderer)
    form = Form.of(options.schema)
    pictures = list_pictures(sources, options.recursive, read_endings(options.endings))[: options.limit]
    chosen = plan(options.model)
    if chosen.config.visual is None:
        raise CheckpointError("model.text_only", folder=chosen.choice.folder)
    sampling = with_seed(options.sampling, chosen)
    settled(sampling, chosen)
    if chosen.choice.embedded:
        renderer.say("ask.embedded")
    silent = options.output is None and (options.csv is not None or options.sidecar is not None)
    with Ledger(options.output, None if silent else renderer.out) as ledger:
        sidecars = None if options.sidecar is None else Sidecars(options.sidecar, pictures, options.overwrite)
        counts = Counts(len(pictures))
        batch = Batch(
            chosen, question, options.sampling, sampling, form, options.wishes, ledger, sidecars, renderer, counts
        )
        try:
            batch.run(pictures)
        except KeyboardInterrupt as error:
            message = "batch.stopped" if options.output is None else "batch.interrupted"
            renderer.say(message, done=counts.done, total=counts.total)
            raise LeaveError(INTERRUPTED) from error
        finally:
            if options.csv is not None and counts.done:
                write_csv(options.csv, ledger.latest())
        batch.say_end()
    if counts.failed:
        raise LeaveError(FAILURE)


def _question(options: BatchOptions, renderer: Renderer) -> tuple[BatchOptions, tuple[str, ...], str]:
    """(options with the template's, sources, question)."""
    sources, written = split_sources(options.words, options.question)
    if not sources:
        raise UsageError(say("usage.missing", name=say("help.name_source_pictures")))
    asked = read_question(written, sources)
    asked, model, schema = fill_template(options.template, options.params, asked, options.model)
    options = replace(options, model=model, schema=options.schema or schema)
    if not asked:
        asked = default_question()
        renderer.say("ask.default_question", question=asked)
    return options, sources, asked


def split_sources(words: tuple[str, ...], question: str | None) -> tuple[tuple[str, ...], str | None]:
    """(folders, lists and pictures; question): the last word is the question unless it is there or named a picture."""
    if question is not None or len(words) < 2 or os.path.exists(words[-1]) or names_picture(words[-1]):
        return words, question
    return words[:-1], words[-1]


@dataclass
class Batch:
    """One question, many pictures. The model is loaded when the first one needs it."""

    chosen: Plan
    question: str
    given: SamplingOptions
    sampling: SamplingOptions
    form: Form
    wishes: PictureWishes
    ledger: Ledger
    sidecars: Sidecars | None
    renderer: Renderer
    counts: Counts

    def __post_init__(self) -> None:
        self._session: Session | None = None
        self._constraint: Constraint | None = None
        self._reader = Reader(self.renderer.out) if self.ledger.path is None else None
        self._seconds = 0.0
        self._text = self.form.told(self.question)

    def run(self, pictures: list[str]) -> None:
        for picture in pictures:
            self._stage(picture)
            try:
                self._do(picture)
            except PictureError as error:
                self._failed(picture, None, error)

    def say_end(self) -> None:
        self.renderer.clear_stage()
        counts = self.counts
        self.renderer.say(
            "batch.end", answered=counts.answered, skipped=counts.skipped, failed=counts.failed, total=counts.total
        )
        if self.sidecars is not None and self.sidecars.kept:
            self.renderer.say("batch.kept", count=self.sidecars.kept)

    def _do(self, name: str) -> None:
        """One picture: skipped, copied from one of the same bytes, or answered."""
        path = find_picture(name)
        shown = typed_text(str(path))
        if self.ledger.path is None and self.sidecars is not None and self.sidecars.exists(path):
            self.counts.skipped += 1
            return
        sha256 = file_digest(path)
        key = self._key(sha256)
        if (record := self.ledger.find(key, shown)) is not None:
            self.counts.skipped += 1
        elif (record := self.ledger.same(key)) is not None:
            origin = record["image"]["path"]
            record = {**record, "image": {**record["image"], "path": shown}, "same_as": origin}
            self.ledger.append(record)
            self.counts.answered += 1
        else:
            record = self._answer(path, key)
        if self.sidecars is not None and "error" not in record:
            self.sidecars.write(path, record["text"])

    def _answer(self, path: Path, key: str) -> Record:
        asked = self.wishes.open(str(path))
        session = self._loaded()
        self._stage(str(path))
        began = time.monotonic()
        question = Question(self._text, (asked,), self.sampling, self._constraint, raw=self.form.wanted)
        given = answer(session, question, lambda text: None, None, self._reader)
        verdict = judge(given, self.form.wanted, OutputWishes())
        self._seconds += time.monotonic() - began
        record = answer_record(
            session, asked, given.text, given.piece, self.sampling, [], boxes=given.placed, bad_boxes=given.bad_boxes,
            **verdict.more, key=key, question=self.question,
        )  # fmt: skip
        if verdict.trouble is not None:
            record["error"] = {"id": "schema.unmet", "code": UNMET, "cause": verdict.trouble, "hint": ""}
            self.counts.failed += 1
            self.renderer.say("batch.failed", name=asked.name, cause=verdict.trouble)
        else:
            self.counts.answered += 1
        if self.wishes.keeps_boxes:
            self.wishes.keep(asked, given.placed)
        self.ledger.append(record)
        return record

    def _failed(self, picture: str, key: str | None, error: BellevlError) -> None:
        self.counts.failed += 1
        told = {"id": error.message, "code": exit_code(error), "cause": cause(error), "hint": hint(error)}
        self.ledger.append({"key": key, "image": {"path": typed_text(picture)}, "error": told})
        self.renderer.say("batch.failed", name=shown_name(Path(picture)), cause=told["cause"])

    def _key(self, sha256: str) -> str:
        params = asdict(settled(self.given, self.chosen))  # with the seed that was asked for, not one that was drawn
        return key_of(
            picture=sha256, question=self._text, system=self.chosen.system, params=params, schema=self.form.schema,
            model=self.chosen.choice.name, quantization=self.chosen.quantization_name,
            crop=self.wishes.crop, frame=self.wishes.frame,
        )  # fmt: skip

    def _loaded(self) -> Session:
        if self._session is None:
            tokens = answer_tokens(self.chosen, self.sampling.max_tokens)
            self._session = start(self.chosen, tokens, self.renderer)
            self._constraint = self.form.constraint(self._session)
        return self._session

    def _stage(self, picture: str) -> None:
        """`12/340 cat.jpg, 3:20 left`, by the time that pictures took in this run."""
        counts = self.counts
        left = "…"
        if counts.answered:
            left = readable_time(self._seconds / counts.answered * (counts.total - counts.done))
        name = shown_name(Path(picture))
        self.renderer.stage(say("batch.stage", number=counts.done + 1, total=counts.total, name=name, left=left))
