"""Answers that keep to a grammar: which tokens may come next. Knows bytes of tokens and states, not what they mean.

Before each token the ids whose bytes lead nowhere in the automaton are taken out of the draw. One state's mask is
computed for the whole vocabulary at once, byte column by byte column over the tokens sorted by length, and kept: a
text visits the same few states again and again, and so does the next answer.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from .json_grammar import DEAD, Automaton
from .tokenizer import Tokenizer


class Constraint:
    """An automaton over a vocabulary. Made once for a schema; `begin()` is one answer that keeps to it."""

    def __init__(self, automaton: Automaton, tokenizer: Tokenizer, stop_ids: Collection[int]) -> None:
        self.automaton = automaton
        self.tokenizer = tokenizer
        self._stop_ids = torch.tensor(sorted(stop_ids))
        self._steps = torch.tensor([*automaton.steps, [DEAD] * 256])  # [S + 1, 256]; row DEAD is the last one
        self._ids, self._columns = _columns(tokenizer)
        self._masks: dict[int, Tensor] = {}

    def begin(self) -> Match:
        return Match(self)

    def allowed(self, state: int) -> Tensor:
        """Which ids may follow in `state`: [n_vocab] of bool."""
        if state not in self._masks:
            self._masks[state] = self._mask(state)
        return self._masks[state]

    def _mask(self, state: int) -> Tensor:
        states = torch.full((len(self._ids),), state)
        for column in self._columns:  # the tokens that are at least so long come first
            states[: len(column)] = self._steps[states[: len(column)], column]
        mask = torch.zeros(self.tokenizer.n_vocab, dtype=torch.bool)
        mask[self._ids] = states != DEAD
        if state in self.automaton.ends:
            mask[self._stop_ids] = True
        return mask


class Match:
    """One answer's place in the automaton."""

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self._state = 0

    def allowed(self) -> Tensor:
        """Which ids may come next: [n_vocab] of bool, never none."""
        return self._constraint.allowed(self._state)

    def push(self, token: int) -> None:
        """`token`, one of the allowed, was taken. A stop token stays where it is."""
        tokenizer = self._constraint.tokenizer
        if token < tokenizer.eod_id:
            self._state = self._constraint.automaton.walk(tokenizer.piece(token), self._state)

    @property
    def whole(self) -> bool:
        """Whether the answer may end here."""
        return self._state in self._constraint.automaton.ends


def _columns(tokenizer: Tokenizer) -> tuple[Tensor, list[Tensor]]:
    """The ids of text, longest first, and for each place in a token the bytes of those that reach it."""
    pieces = sorted(((tokenizer.piece(i), i) for i in range(tokenizer.eod_id)), key=lambda p: -len(p[0]))
    data = torch.frombuffer(bytearray(b"".join(piece for piece, _ in pieces)), dtype=torch.uint8).long()
    lengths = torch.tensor([len(piece) for piece, _ in pieces])
    starts = lengths.cumsum(0) - lengths
    counts = [int((lengths > place).sum()) for place in range(int(lengths[0]))]
    columns = [data[starts[:count] + place] for place, count in enumerate(counts)]
    return torch.tensor([i for _, i in pieces]), columns
