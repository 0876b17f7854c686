"""`bellevl ask`: pictures, a question, answers. The pictures are looked at before any model is thought of.

words -> request -> first look at the pictures -> plan of the model -> [dry run] -> model -> an answer each
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bellevl.errors import CheckpointError

from .. import guard
from ..exits import UNMET, LeaveError, UsageError
from ..log import open_kept, open_log, reopen
from ..pictures.asked import AskedPicture
from ..running.session import Plan, answer_tokens, plan
from ..running.starting import say_estimate, settled, start, with_seed
from ..screen.clean import clean_line, typed_text
from ..screen.render import Renderer
from ..words import say
from . import extract
from .asker import Asker
from .looking import Opener, first_look
from .outputs import choose_output
from .reading import question_with_ocr, read_only
from .record import answer_record as answer_record
from .request import Request, read_request
from .schema import Form
from .target import Target
from .wishes import AskOptions as AskOptions
from .wishes import OutputWishes

if TYPE_CHECKING:
    from ..log import StoredThread, StoredTurn

#: The fewest and the most answers that --sure compares.
FEWEST, MOST = 2, 20


def run(options: AskOptions, renderer: Renderer | None = None) -> None:
    """Answers to stdout. Raises the errors of bellevl, LeaveError where an answer is not what was asked for."""
    guard.install()
    check_wishes(options)
    request = read_request(options)
    stored = open_kept().thread(options.thread.id) if options.thread.goes_on else None
    openers = first_look(request.pictures, options.pictures)
    with _output(options.output, renderer) as (renderer, target):
        if stored is not None:
            openers = _stored_picture(stored, renderer)
        _check_one(options, len(openers))
        met = True
        if options.ocr == "only":
            read_only(openers, options.output.records, renderer)
        else:
            met = _answer_all(options, request, openers, stored, renderer)
        if target is not None and target.written:
            target.commit()
            renderer.say("ask.written", path=clean_line(typed_text(str(options.output.file))))
    if not met:
        raise LeaveError(UNMET)


def check_wishes(options: AskOptions) -> None:
    """Raises UsageError for options that cannot be or that contradict each other."""
    output = options.output
    if output.extract is not None and output.extract not in extract.EXTRACTORS:
        kinds = " ".join(extract.EXTRACTORS)
        raise UsageError(say("extract.unknown", name=clean_line(typed_text(output.extract)), kinds=kinds))
    if output.expect is not None:
        _check_expression(output.expect)
    if options.sure is not None and not FEWEST <= options.sure <= MOST:
        raise UsageError(say("sure.range", least=FEWEST, most=MOST))
    if options.ocr not in (None, "on", "only"):
        raise UsageError(say("ocr.choice", value=clean_line(typed_text(str(options.ocr)))))
    for one, other in _contradictions(options):
        raise UsageError(say("usage.both", one=one, other=other))


def _contradictions(options: AskOptions) -> Iterator[tuple[str, str]]:
    """Pairs of options that exclude each other."""
    if options.output.json and options.output.jsonl:
        yield "--json", "--jsonl"
    tiles = options.pictures.tile_count() != 1
    for name, given in (("--schema", options.schema), ("--sure", options.sure), ("--together", options.together)):
        if tiles and given:
            yield "--tiles", name
    if options.together and options.ocr:
        yield "--together", "--ocr"


def _check_expression(expected: str) -> None:
    try:
        extract.meets("", expected)
    except re.error as error:
        raise UsageError(say("expect.wrong", expected=clean_line(expected), reason=error)) from error


@contextmanager
def _output(wishes: OutputWishes, given: Renderer | None) -> Iterator[tuple[Renderer, Target | None]]:
    """Where answers and notes go."""
    with ExitStack() as stack:
        target = None if wishes.file is None else stack.enter_context(Target(wishes.file))
        if given is not None:
            yield given, target
            return
        err = stack.enter_context(open(os.devnull, "w", encoding="utf-8")) if wishes.quiet else None
        yield Renderer(None if target is None else target.stream, err), target


def _answer_all(
    options: AskOptions, request: Request, openers: list[Opener], stored: StoredThread | None, renderer: Renderer
) -> bool:
    """Plans, loads and asks. Whether every answer was what was asked for."""
    form = Form.of(request.schema)
    request = replace(request, question=form.told(request.question))
    options = _with_system(options, request.system, stored)
    chosen = plan(options.model)
    if openers and chosen.config.visual is None:
        raise CheckpointError("model.text_only", folder=chosen.choice.folder)
    options = replace(options, sampling=with_seed(options.sampling, chosen))
    _check_drawn(options, chosen)  # a wrong value is told before the model is loaded
    warnings = _say_first(chosen, request, len(openers), renderer)
    if options.dry_run:
        from .dry import show

        show(options, request, openers, stored, chosen, renderer)
        return True
    groups = [openers] if request.together or not openers else [[opener] for opener in openers]
    tokens = answer_tokens(chosen, options.sampling.max_tokens) * (len(openers) if request.together else 1)
    say_estimate(chosen, renderer)
    session = start(chosen, tokens, renderer)
    with open_log(not options.thread.no_log, renderer.note) as log:
        whole = options.output.no_stream or form.wanted or options.output.extract is not None
        output = choose_output(renderer, options.output.json, options.output.jsonl, whole, len(groups) > 1)
        asker = Asker(session, options, renderer, output, log, warnings, form.constraint(session))
        for group in groups:
            _ask_group(asker, request.question, [opener() for opener in group], stored)
    return not asker.unmet


def _ask_group(asker: Asker, question: str, pictures: Sequence[AskedPicture], stored: StoredThread | None) -> None:
    """One answer: about pictures that are shown now, or as an earlier dialogue goes on."""
    if asker.options.ocr == "on" and pictures:
        question = question_with_ocr(question, pictures[0], asker.renderer)
    if stored is None:
        asker.ask(question, tuple(pictures))
        return
    from bellevl.prompt import Turn

    turns = [Turn(one.question, one.answer, pictures=int(not at and bool(pictures))) for at, one in _numbered(stored)]
    asker.session.chat.restore(turns, pictures[0].picture if pictures else None)
    asker.ask(question, tuple(pictures), stored.id)


def _numbered(stored: StoredThread) -> list[tuple[int, StoredTurn]]:
    """The turns that have an answer."""
    return list(enumerate(turn for turn in stored.turns if turn.answer))


def _stored_picture(stored: StoredThread, renderer: Renderer) -> list[Opener]:
    """The picture of an earlier dialogue. Raises PictureError where it is gone."""
    asked = reopen(stored, renderer.note)
    return [] if asked is None else [lambda: asked]


def _with_system(options: AskOptions, system: str | None, stored: StoredThread | None) -> AskOptions:
    """A system prompt that nobody typed: the template's, that of the dialogue that goes on."""
    if options.model.system is not None:
        return options
    system = system or (stored.system if stored is not None else None)
    return replace(options, model=replace(options.model, system=system))


def _check_one(options: AskOptions, pictures: int) -> None:
    """Raises UsageError where several pictures would be drawn into one file."""
    if options.pictures.draw is not None and pictures > 1:
        raise UsageError(say("ask.draw_one"))


def _check_drawn(options: AskOptions, chosen: Plan) -> None:
    """Raises PromptError for a setting out of range, UsageError where answers to compare would all be the same."""
    if settled(options.sampling, chosen).deterministic and options.sure is not None:
        raise UsageError(say("sure.greedy"))


def _say_first(chosen: Plan, request: Request, pictures: int, renderer: Renderer) -> list[str]:
    """Notes before the answer; those that a program should know too are returned."""
    warnings = []
    if chosen.choice.embedded:
        warnings.append(say("ask.embedded"))
    if request.together and pictures > 1:
        warnings.append(say("ask.together"))
    for warning in warnings:
        renderer.note(warning)
    if request.defaulted:
        renderer.say("ask.default_question", question=request.question)
    return warnings
