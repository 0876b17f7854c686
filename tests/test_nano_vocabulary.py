"""The nano model's vocabulary: a tiktoken file of the right size whose tokens keep decisions apart."""

from __future__ import annotations

import functools
from collections import Counter

import pytest
import tiktoken
from nano_scenes import asked

from bellevl.nano import vocabulary


@functools.cache
def encoding() -> tiktoken.Encoding:
    ranks = vocabulary.read_ranks()
    return tiktoken.Encoding("nano", pat_str=vocabulary.PATTERN, mergeable_ranks=ranks, special_tokens={})


def test_the_vocabulary_is_a_tiktoken_file_of_the_right_size() -> None:
    """Ranks count up from 0, the 256 bytes come first, and with 217 specials it is a multiple of 128."""
    ranks = vocabulary.read_ranks()
    assert sorted(ranks.values()) == list(range(len(ranks))) and len(ranks) == vocabulary.N_RANKS
    assert [ranks[bytes([value])] for value in range(256)] == list(range(256))
    assert (len(ranks) + 217) % 128 == 0
    assert max(map(len, ranks)) <= vocabulary.MAX_TOKEN_BYTES


def test_the_vocabulary_round_trips_any_text() -> None:
    """The world's text and text it never saw decode to themselves."""
    texts = [t.question + t.answer for _, turns in asked("novel")[:150] for t in turns]
    for text in [*texts, "龘靐齉 and 🦄 é ﷽\n\n\ttabs", "今天北京的天气怎么样？"]:
        assert encoding().decode(encoding().encode(text, disallowed_special=())) == text


def test_slot_words_keep_tokens_of_their_own() -> None:
    """In real answers no token crosses the edge of a decision: colours, names and numbers start and end tokens."""
    crossings = []
    for _, turns in asked("train")[:300]:
        for turn in turns:
            if turn.kind.endswith("_en") or turn.kind in ("talk", "exist_en") or "<" in turn.answer:
                continue
            edges, offset = {0}, 0
            for token in encoding().encode(turn.answer):
                offset += len(encoding().decode_single_token_bytes(token))
                edges.add(offset)
            for span in turn.deciding:
                if not {len(turn.answer[:edge].encode()) for edge in span} <= edges:
                    crossings.append(turn.answer)
    assert not crossings
    for word in vocabulary.slot_words():
        assert len(encoding().encode(word)) == 1, word


def test_training_ranks_is_deterministic_byte_pair_encoding() -> None:
    """On a tiny text the most frequent pair is merged first, and ties go to the smaller pair."""
    counts = Counter({b"aab": 3, b"xyz": 2})
    ranks = vocabulary.train_ranks(counts, 259)
    assert ranks[256:] == [b"aa", b"aab", b"xy"]
    with pytest.raises(ValueError, match="fills only"):
        vocabulary.train_ranks(counts, 300)
