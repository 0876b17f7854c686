"""The records that question kinds make, and the table they are entered in.

It knows no question kind itself; questions.py and more_questions.py fill the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..world.scene import Scene
from .facts import Target, unmark
from .phrases import QUESTIONS, YES_NO_EN

Rng = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """A question and its only right answer.

    `deciding` are the character spans (start, end) of the answer that carry the decision; `follows` is the
    index, among the turns of the same picture, of the turn that this one continues, or None.
    """

    kind: str
    question: str
    answer: str
    deciding: tuple[tuple[int, int], ...]
    follows: int | None = None


@dataclass(frozen=True)
class Draft:
    """A question with its answer still marked, and what it was about, so that it can be followed up."""

    kind: str
    question: str
    marked: str
    target: Target | None = None
    yes: bool = False

    def turn(self, follows: int | None = None) -> Turn:
        answer, deciding = unmark(self.marked)
        return Turn(self.kind, self.question, answer, deciding, follows)


Maker = Callable[[Scene, Rng], Draft | None]
KINDS: dict[str, tuple[float, Maker]] = {}


def kind(name: str, weight: float) -> Callable[[Maker], Maker]:
    """Enter a question kind and its default weight in KINDS."""

    def enter(maker: Maker) -> Maker:
        KINDS[name] = (weight, maker)
        return maker

    return enter


def pick(rng: Rng, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def coin(rng: Rng, share: float = 0.5) -> bool:
    return bool(rng.random() < share)


def word(rng: Rng, wording: str, **fields: Any) -> str:
    """One of a kind's wordings with its fields filled in, punctuated as people type it."""
    return _typed(rng, pick(rng, QUESTIONS[wording]).format(**fields))


def _typed(rng: Rng, question: str) -> str:
    """A Chinese question now and then loses its last mark (15 %) or gets a half-width one (7 %)."""
    draw = rng.random()
    if draw < 0.15 and question[-1] in "？。":
        return question[:-1]
    return question[:-1] + "?" if draw < 0.22 and question[-1] == "？" else question


def english_yes_no(rng: Rng, question: str) -> str:
    """With the suffix that benchmarks append, or (30 %) without it."""
    return question + (YES_NO_EN if coin(rng, 0.7) else "")


def yes_no_en(yes: bool) -> str:
    return "⟦Yes⟧" if yes else "⟦No⟧"
