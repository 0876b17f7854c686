"""One question about one picture, answered: the model's pieces become clean text, boxes and a place in the log.

When the reader of stdout goes away the model stops at the next token. Writes nothing itself.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from ..options import SamplingOptions
from ..pictures.asked import AskedPicture
from ..pictures.boxes import BoxText, PlacedBox, place
from ..running.session import Session, last_piece
from ..screen.clean import AnswerText

if TYPE_CHECKING:
    from bellevl.chat import Piece
    from bellevl.constraint import Constraint

    from ..log import LoggedTurn


@dataclass(frozen=True)
class Question:
    """What is asked about one picture, or about several at once. `goes_on`: the dialogue has the picture already."""

    text: str
    pictures: tuple[AskedPicture, ...]
    sampling: SamplingOptions
    constraint: Constraint | None = None
    raw: bool = False
    goes_on: bool = False


@dataclass(frozen=True)
class Answer:
    """`text` is what a person reads, `raw` what the model wrote, boxes' markup included; `piece` the last one.
    `placed` are the boxes, in the whole picture."""

    text: str
    raw: str
    piece: Piece
    placed: tuple[PlacedBox, ...] = ()
    bad_boxes: tuple[str, ...] = ()


class Reader:
    """Whoever reads a stream, and whether they are still there. Where the system cannot tell, they are."""

    def __init__(self, stream: TextIO) -> None:
        self._poll: Any = None
        if hasattr(select, "poll"):
            try:
                poll = select.poll()
                poll.register(stream.fileno(), 0)
                self._poll = poll
            except (OSError, ValueError):
                self._poll = None

    def gone(self) -> bool:
        events = self._poll.poll(0) if self._poll is not None else []
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in events)


def answer(
    session: Session,
    question: Question,
    show: Callable[[str], object],
    turn: LoggedTurn | None = None,
    reader: Reader | None = None,
) -> Answer:
    """`show` gets the text in pieces as it can be shown. Raises BrokenPipeError when `reader` has gone."""
    boxes, shown, raw = BoxText(question.raw), AnswerText(), AnswerText()

    def take(text: str) -> None:
        raw.push(text)
        if turn is not None:
            turn.push(raw.text)
        show(shown.push(boxes.push(text)))

    first, *more = (() if question.goes_on else question.pictures) or (None,)
    piece = last_piece(
        session.chat.stream(
            question.text,
            image=None if first is None else first.picture,
            more=[one.picture for one in more if one is not None],
            stop=None if reader is None else reader.gone,
            constraint=None if question.constraint is None else question.constraint.begin(),
            **question.sampling.keywords(),
        ),
        take,
    )
    show(shown.push(boxes.flush()))
    if piece.finish_reason == "interrupted" and reader is not None:
        raise BrokenPipeError
    return Answer(shown.text, raw.text, piece, _placed(boxes, question.pictures), tuple(boxes.bad_boxes))


def _placed(boxes: BoxText, pictures: tuple[AskedPicture, ...]) -> tuple[PlacedBox, ...]:
    """Boxes about several pictures say nowhere which one they are in."""
    if len(pictures) != 1:
        return ()
    return tuple(place(boxes.boxes, pictures[0].uncut.size, pictures[0].area))
