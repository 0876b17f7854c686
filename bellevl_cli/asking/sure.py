"""`--sure 3`: the same question answered again with other seeds, and what the answers do not agree on.

Sentences are compared by their words, whatever their punctuation, case and width: a sentence that only one of three
answers has is one that the model may have made up. Knows no model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SENTENCE = re.compile(r"[^。！？!?；;\n]+?(?:[。！？!?；;\n]+|\.(?=\s|$)|$)")


@dataclass(frozen=True)
class Agreement:
    """`chosen` is the answer that the others bear out best; each of its sentences and how many answers have it; and
    the sentences that only others have, with the same count."""

    answers: int
    chosen: int
    sentences: tuple[tuple[str, int], ...]
    others: tuple[tuple[str, int], ...]

    @property
    def agree(self) -> int:
        """How many answers bear out every sentence of the chosen one."""
        return min((count for _, count in self.sentences), default=self.answers)

    @property
    def doubtful(self) -> tuple[tuple[str, int], ...]:
        """Sentences that not every answer has."""
        return tuple(one for one in (*self.sentences, *self.others) if one[1] < self.answers)

    def record(self, texts: Sequence[str], seeds: Sequence[int | None]) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "agree": self.agree,
            "chosen": self.chosen,
            "doubtful": [{"sentence": sentence, "answers": count} for sentence, count in self.doubtful],
            "texts": list(texts),
            "seeds": list(seeds),
        }


def compare(texts: Sequence[str]) -> Agreement:
    """What several answers to one question have in common."""
    split = [sentences(text) for text in texts]
    counts: dict[str, int] = {}
    for one in split:
        for key in dict.fromkeys(map(_key, one)):
            counts[key] = counts.get(key, 0) + 1
    chosen = max(range(len(texts)), key=lambda at: (_support(split[at], counts), -at))
    own = tuple((sentence, counts[_key(sentence)]) for sentence in split[chosen])
    seen = {_key(sentence) for sentence, _ in own}
    others = []
    for sentence in (s for at, one in enumerate(split) if at != chosen for s in one):
        if _key(sentence) not in seen:
            seen.add(_key(sentence))
            others.append((sentence, counts[_key(sentence)]))
    return Agreement(len(texts), chosen, own, tuple(others))


def sentences(text: str) -> list[str]:
    """The sentences of a text that have a word in them."""
    found = (sentence.strip() for sentence in _SENTENCE.findall(text))
    return [sentence for sentence in found if _key(sentence)]


def _support(own: Sequence[str], counts: dict[str, int]) -> float:
    """How many answers have a sentence of this one, on average."""
    return sum(counts[_key(sentence)] for sentence in own) / len(own) if own else 0.0


def _key(sentence: str) -> str:
    """Letters and figures alone, in one case and width."""
    return "".join(c for c in unicodedata.normalize("NFKC", sentence).casefold() if c.isalnum())
