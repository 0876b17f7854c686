"""A long picture asked about tile by tile, and the answers as one. Writes nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..pictures.asked import AskedPicture
from ..pictures.boxes import BoxText, PlacedBox
from ..pictures.tiles import join_answers
from ..running.session import Session
from ..screen.clean import AnswerText
from .answering import Answer, Question, Reader, answer

if TYPE_CHECKING:
    from bellevl.chat import Piece


def answer_tiles(
    session: Session,
    question: Question,
    pieces: Sequence[AskedPicture],
    stage: Callable[[int], object],
    reader: Reader | None = None,
) -> tuple[Answer, list[dict[str, Any]]]:
    """(the answers joined, with all boxes in the whole picture; what JSON says about each tile).

    `stage` hears the number of the tile that is next, from 1.
    """
    answers = []
    for number, piece in enumerate(pieces, start=1):
        stage(number)
        answers.append(answer(session, replace(question, pictures=(piece,)), lambda text: None, None, reader))
    told = [
        {"area": list(piece.area or ()), "text": given.text, "finish_reason": given.piece.finish_reason}
        for piece, given in zip(pieces, answers, strict=True)
    ]
    return _joined(answers, pieces, question.raw), told


def _joined(answers: Sequence[Answer], pieces: Sequence[AskedPicture], raw: bool) -> Answer:
    """Boxes are counted through; where there are some, no line is left out, for it may be a box's."""
    placed = _placed(answers, pieces)
    bad = tuple(one for given in answers for one in given.bad_boxes)
    piece = _together([given.piece for given in answers])
    if not placed:
        return Answer(join_answers([a.text for a in answers]), join_answers([a.raw for a in answers]), piece, (), bad)
    whole = "\n".join(given.raw for given in answers)
    boxes, text = BoxText(raw), AnswerText()
    text.push(boxes.push(whole) + boxes.flush())
    return Answer(text.text, whole, piece, placed, bad)


def _placed(answers: Sequence[Answer], pieces: Sequence[AskedPicture]) -> tuple[PlacedBox, ...]:
    boxes = [box for given in answers for box in given.placed]
    return tuple(replace(box, number=number) for number, box in enumerate(boxes, start=1))


def _together(pieces: Sequence[Piece]) -> Piece:
    """The figures of all answers, added up. One that was cut short cuts the whole."""
    stats = [piece.stats for piece in pieces if piece.stats is not None]
    total = replace(
        stats[0],
        **{
            name: sum(getattr(one, name) for one in stats)
            for name in ("prompt_tokens", "new_tokens", "vision_seconds", "prefill_seconds", "decode_seconds")
        },
    )
    reasons = [piece.finish_reason for piece in pieces]
    reason = next((reason for reason in reasons if reason != "stop"), "stop")
    return replace(pieces[-1], tokens=sum(piece.tokens for piece in pieces), finish_reason=reason, stats=total)
