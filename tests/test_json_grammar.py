"""Schemas become automata whose every text is JSON of that schema, and tokens are masked by them."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
import torch
from vocabulary import real_tokenizer

from bellevl.choosing import keep_allowed
from bellevl.constraint import Constraint
from bellevl.errors import PromptError
from bellevl.json_grammar import DEAD, Automaton, build_automaton

WIDE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "名称": {"type": "string"},
        "price": {"type": "number"},
        "count": {"type": ["integer", "null"]},
        "ok": {"type": "boolean"},
        "colour": {"enum": ["红", "blue", 3]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 3},
        "inner": {"properties": {"a": {"const": None}, "b": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]}}},
        "free": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["price"],
}


def walk(automaton: Automaton, rng: random.Random, closing: float) -> str:
    """A random text of the language; `closing`: how often a string or list that may end does."""
    state, out = 0, b""
    while True:
        ways = [byte for byte in range(256) if automaton.steps[state][byte] != DEAD]
        if state in automaton.ends and (not ways or rng.random() < closing):
            return out.decode("utf-8")
        ends = [byte for byte in ways if byte in b'"]}']
        byte = rng.choice(ends) if ends and rng.random() < closing else rng.choice(ways)
        out += bytes([byte])
        state = automaton.steps[state][byte]


def test_every_text_fulfils_the_schema() -> None:
    """Whatever way is taken through the automaton, the text is valid UTF-8, parses, and is valid for the schema."""
    automaton, rng = build_automaton(WIDE), random.Random(5)
    for _ in range(200):
        value = json.loads(walk(automaton, rng, closing=0.3))
        jsonschema.validate(value, WIDE)
        assert list(value) == list(WIDE["properties"])


@pytest.mark.parametrize(
    ("schema", "texts", "others"),
    [
        ({"type": "integer"}, ["0", "-7", "120"], ["007", "+1", "1.0", "1e3", "", " 1", "1 "]),
        ({"type": "number"}, ["0", "-0.50", "12.25"], [".5", "1.", "1e9", "--1", "NaN"]),
        (
            {"type": "string", "minLength": 1, "maxLength": 2},
            ['"红"', '"ab"', r'"\n\""'],
            ['""', '"abc"', '"a', '"\t"'],
        ),
        ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
        ({"type": "string"}, ['"😀é"', '"' + "长" * 300 + '"'], [r'"\x"', '"a"b"', "'a'", r'"\ud800"']),
        ({"type": "array", "items": {"type": "null"}}, ["[]", "[null]", "[null, null,null]"], ["[null,]", "[,]", "["]),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, ["[]"], ["[null]"]),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 2},
            ["[null,null]", "[null,null,null]"],
            ["[null]", "[]"],
        ),
        ({"enum": ["a b", 1, [1, 2]], "type": ["string", "array"]}, ['"a b"', "[1, 2]"], ["1", '"a"']),
        ({"properties": {"a": {"type": "null"}}}, ['{"a":null}', '{"a": null}'], ["{}", '{"a":  null}', '{"b":null}']),
    ],
)
def test_languages(schema: dict[str, Any], texts: list[str], others: list[str]) -> None:
    """A text is accepted exactly where it is JSON of the schema in the form that is allowed."""
    automaton = build_automaton(schema)
    for text in texts:
        jsonschema.validate(json.loads(text), schema)
        assert automaton.accepts(text.encode()), text
    for text in others:
        assert not automaton.accepts(text.encode()), text


@pytest.mark.parametrize(
    "bad", [b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe7\xba"', b'"\x00"', b'"\xc2\x9b"', b'"\x7f"']
)
def test_strings_are_whole_characters(bad: bytes) -> None:
    """Overlong, half and control characters are no part of a string."""
    assert not build_automaton({"type": "string"}).accepts(bad)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (True, "allows anything"),
        ({}, "allows anything"),
        ([], "not an object"),
        ({"type": "date"}, "date"),
        ({"type": "string", "pattern": "a+"}, "pattern"),
        ({"type": "integer", "minimum": 3}, "minimum"),
        ({"$ref": "#/x"}, "not known"),
        ({"type": "object"}, "no properties"),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]}, '"b"'),
        ({"enum": []}, "enum"),
        ({"enum": [1], "type": "string"}, "enum"),
        ({"type": "array"}, "allows anything"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}, "minItems"),
        ({"type": "string", "maxLength": -1}, "maxLength"),
        ({"type": "string", "maxLength": 100_000}, "too many forms"),
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused(schema: Any, said: str) -> None:
    """Rather than to answer something that the schema does not allow, the schema is refused, with the reason."""
    with pytest.raises(PromptError) as caught:
        build_automaton(schema)
    assert caught.value.message == "prompt.schema" and said in str(caught.value)


def test_a_deep_schema_is_refused() -> None:
    """A schema nested deeper than Python's stack is an error, not a crash."""
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(PromptError):
        build_automaton(schema)


def test_masks_are_what_the_automaton_says() -> None:
    """In every state on the way, a token is allowed just where its bytes lead on, a stop token where all is whole."""
    tokenizer = real_tokenizer()
    automaton = build_automaton(WIDE)
    constraint = Constraint(automaton, tokenizer, (tokenizer.im_end_id, tokenizer.eod_id))
    match, state = constraint.begin(), 0
    text = '{"名称": "红色的方块", "price": 3.5,"count":null, "ok": true, "colour": "红", "tags": ["圆"], '
    text += '"inner": {"a": null, "b": 12}, "free": []}'
    for token in tokenizer.encode(text):
        allowed = match.allowed()
        assert bool(allowed[token])
        sample = random.Random(token).sample(range(tokenizer.eod_id), 300)
        for other in sample:
            assert bool(allowed[other]) == (automaton.walk(tokenizer.piece(other), state) != DEAD)
        assert not allowed[tokenizer.eod_id :].any()
        match.push(token)
        state = automaton.walk(tokenizer.piece(token), state)
    assert match.whole and match.allowed().nonzero()[:, 0].tolist() == sorted((tokenizer.im_end_id, tokenizer.eod_id))


def test_what_is_not_allowed_is_never_chosen() -> None:
    """Logits of ids that are not allowed, and of those beyond the vocabulary, are -inf; the others stay."""
    logits = torch.arange(6.0)[None]
    kept = keep_allowed(logits, torch.tensor([True, False, True, False]))
    assert kept[0].tolist() == [0.0, -torch.inf, 2.0, -torch.inf, -torch.inf, -torch.inf]
