"""Conversations about one picture packed into one row: system prompt and picture once, then every conversation.

    prefix (system)  prefix (picture)  conversation 1  conversation 2  ...
    group 0          group -1          group 1         group 2

A token sees earlier tokens of its own group, the system prompt and, where its conversation is about the picture, the
picture. Positions restart behind the prefix for every conversation, as if it were the only one; some start later, as
if turns in between had been forgotten. So the picture is paid for once and every number equals a row of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..prompt import DEFAULT_SYSTEM, encode_answer
from ..tokenizer import Tokenizer
from .questions import Turn

#: Restated words count less than the word that carries the decision; digits of a box by what they are worth.
RESTATED = 0.3
BOX_DIGITS = (1.0, 0.6, 0.15)


@dataclass
class Row:
    """One packed sequence of at most `room` tokens. `answers` marks (begin, end, kind) of every answer in it."""

    room: int
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    sees_picture: list[bool] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    answers: list[tuple[int, int, str]] = field(default_factory=list)

    def append(self, ids: list[int], group: int, start: int, sees: bool, weights: list[float] | None = None) -> int:
        """Adds tokens at positions `start`...; returns the position behind them."""
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.groups += [group] * len(ids)
        self.sees_picture += [sees] * len(ids)
        self.weights += weights or [0.0] * len(ids)
        return start + len(ids)

    @property
    def left(self) -> int:
        return self.room - len(self.ids)


class RowBuilder:
    """Builds rows with one tokenizer and one number of picture tokens."""

    def __init__(self, tokenizer: Tokenizer, n_queries: int) -> None:
        self.tokenizer = tokenizer
        #: the conversations that fitted the row built last
        self.placed: list[list[Turn]] = []
        t = tokenizer
        newline = t.encode("\n")
        self.open_user = [t.im_start_id, *t.encode("user"), *newline]
        self.open_assistant = [t.im_end_id, *newline, t.im_start_id, *t.encode("assistant"), *newline]
        self.close = [t.im_end_id]
        self.newline = newline
        system = [
            t.im_start_id,
            *t.encode("system"),
            *newline,
            *t.encode(DEFAULT_SYSTEM),
            t.im_end_id,
            *newline,
        ]
        self.system = system + self.open_user
        slots = [t.image_pad_id] * n_queries
        self.picture = [*t.encode("Picture 1: "), t.image_start_id, *slots, t.image_end_id, *newline]

    def build(self, conversations: list[list[Turn]], room: int, rng: np.random.Generator) -> Row:
        """Packs as many of the conversations as fit."""
        row = Row(room)
        behind_system = row.append(self.system, 0, 0, False)
        behind_picture = row.append(self.picture, -1, behind_system, True)
        group = 1
        self.placed = []
        for turns in conversations:
            sees = turns[0].kind != "talk"
            start = behind_picture if sees else behind_system
            late = int(rng.integers(1, 160)) if sees and rng.random() < 0.25 else 0
            parts = [self._turn(turn, first=i == 0) for i, turn in enumerate(turns)]
            if sum(len(ids) for ids, _, _ in parts) > row.left:
                continue
            position = start + late
            self.placed.append(turns)
            for (ids, weights, answer_at), turn in zip(parts, turns, strict=True):
                row.answers.append((len(row.ids) + answer_at, len(row.ids) + len(ids), turn.kind))
                position = row.append(ids, group, position, sees, weights)
            group += 1
        return row

    def _turn(self, turn: Turn, first: bool) -> tuple[list[int], list[float], int]:
        """Ids and weights of a question and its answer up to im_end, and where the answer begins."""
        question = [] if first else [*self.newline, *self.open_user]
        question = [*question, *self.tokenizer.encode(turn.question), *self.open_assistant]
        answer, weights = self.answer(turn)
        ids = [*question, *answer, *self.close]
        return ids, [0.0] * len(question) + weights + [RESTATED], len(question)

    def answer(self, turn: Turn) -> tuple[list[int], list[float]]:
        """Token ids of an answer and the weight of each: 1 where it touches a deciding span, else RESTATED."""
        ids = encode_answer(self.tokenizer, turn.answer)
        spans = [(_bytes(turn.answer[:start]), _bytes(turn.answer[:stop])) for start, stop in turn.deciding]
        weights, begin = [], 0
        for token in ids:
            end = begin + len(self.tokenizer.piece(token))
            weights.append(1.0 if any(begin < stop and end > start for start, stop in spans) else RESTATED)
            begin = end
        return ids, box_weights(ids, weights, self.tokenizer)


def _bytes(text: str) -> int:
    return len(text.encode())


def box_weights(ids: list[int], weights: list[float], tokenizer: Tokenizer) -> list[float]:
    """Between box marks, each number's digits weigh hundreds 1, tens 0.6, units 0.15."""
    inside, result = False, list(weights)
    run: list[int] = []
    for i, token in enumerate(ids):
        if token in (tokenizer.box_start_id, tokenizer.box_end_id):
            inside = token == tokenizer.box_start_id
        digit = inside and tokenizer.decode([token]).isdigit()
        if digit:
            run.append(i)
        if run and (not digit or i == len(ids) - 1):
            for place, at in enumerate(reversed(run)):
                result[at] = BOX_DIGITS[max(2 - place, 0)] if place < 3 else 1.0
            run = []
    return result


def stack(rows: list[Row], answer_room: int) -> dict[str, np.ndarray]:
    """Rows of one room as arrays [B, T]; `slots` [B, A] are the positions whose next token is learned."""
    size = rows[0].room
    batch = {
        "ids": np.stack([_pad(row.ids, size, 0) for row in rows]),
        "positions": np.stack([_pad(row.positions, size, 0) for row in rows]),
        "groups": np.stack([_pad(row.groups, size, -2) for row in rows]),
        "sees": np.stack([_pad(row.sees_picture, size, False) for row in rows]),
    }
    slots, weights, decides = zip(*(_slots(row, answer_room) for row in rows), strict=True)
    return batch | {"slots": np.stack(slots), "weights": np.stack(weights), "decides": np.stack(decides)}


def _pad(values: list, size: int, value: object) -> np.ndarray:
    return np.array(values + [value] * (size - len(values)))


def _slots(row: Row, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions before every weighted token, what each counts in the loss, and whether it decides; padded with 0.

    An answer counts as the root of its length: a caption of twenty tokens must not drown a position of one.
    """
    shares = np.zeros(len(row.ids), dtype=np.float32)
    for begin, end, _ in row.answers:
        weights = np.array(row.weights[begin:end], dtype=np.float32)
        shares[begin:end] = weights / np.sqrt(weights.sum())
    learned = [i for i, weight in enumerate(row.weights) if weight > 0][:room]
    spare = [0] * (room - len(learned))
    slots = np.array([i - 1 for i in learned] + spare)
    decides = np.array([row.weights[i] >= 1 for i in learned] + spare, dtype=bool)
    return slots, np.array([shares[i] for i in learned] + spare, dtype=np.float32), decides
