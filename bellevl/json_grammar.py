"""A JSON schema to the automaton of the bytes that fulfil it. Knows no token and no model.

Schemas without references nest to a fixed depth, so their texts are a regular language: each part of a schema becomes
a few states that read bytes, and the subset construction makes one table of them. Every way through the table ends in
valid UTF-8 JSON; a state is only there if it leads to such an end. Objects are written with all their properties in
the schema's order, one space is allowed behind a comma and a colon, numbers come without exponent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .errors import PromptError

#: No way on: the state behind a byte that does not belong there.
DEAD = -1

#: Digits before and behind the point. Without a bound a number need never end.
INTEGER_DIGITS, FRACTION_DIGITS = 15, 10

#: More states than this are no schema that a person wrote (maxLength or maxItems in the thousands).
LARGEST = 20_000

#: Keywords that say nothing about what is valid.
REMARKS = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"})
#: Keywords that are kept to, by type. Any other might be broken by an answer, so a schema with it is refused.
KEYWORDS = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength"}),
}
SIMPLE = ("string", "integer", "number", "boolean", "null", "object", "array")

Start = int
#: A part of the language: given the state behind it, the state before it.
Part = Callable[[int], Start]


@dataclass(frozen=True)
class Automaton:
    """`steps[state][byte]` is the next state or DEAD; state 0 is the start, `ends` are those where a text is whole."""

    steps: tuple[tuple[int, ...], ...]
    ends: frozenset[int]

    def walk(self, data: bytes, state: int = 0) -> int:
        """The state behind `data`, or DEAD."""
        for byte in data:
            if state == DEAD:
                break
            state = self.steps[state][byte]
        return state

    def accepts(self, data: bytes) -> bool:
        """Whether `data` is a whole text of the language."""
        return self.walk(data) in self.ends


@dataclass
class _States:
    """States that read ranges of bytes or nothing; `final` is the end."""

    ranges: list[list[tuple[int, int, int]]] = field(default_factory=list)
    free: list[list[int]] = field(default_factory=list)

    def new(self) -> int:
        if len(self.ranges) >= LARGEST:
            raise _refused("it allows too many forms (maxLength or maxItems too large)")
        self.ranges.append([])
        self.free.append([])
        return len(self.ranges) - 1

    def read(self, low: int, high: int, then: int) -> int:
        """A state that reads one byte of `low`..`high`."""
        state = self.new()
        self.ranges[state].append((low, high, then))
        return state

    def either(self, starts: Sequence[int]) -> int:
        """A state that goes on as any of `starts`."""
        state = self.new()
        self.free[state] += starts
        return state

    def literal(self, data: bytes, then: int) -> int:
        for byte in reversed(data):
            then = self.read(byte, byte, then)
        return then

    def closure(self, states: Sequence[int]) -> frozenset[int]:
        """`states` and all that are reached from them for nothing."""
        seen, left = set(states), list(states)
        while left:
            for state in self.free[left.pop()]:
                if state not in seen:
                    seen.add(state)
                    left.append(state)
        return frozenset(seen)


def build_automaton(schema: Any) -> Automaton:
    """The automaton of `schema`. Raises PromptError("prompt.schema") for one that cannot be kept to."""
    states = _States()
    final = states.new()
    try:
        start = _value(states, schema)(final)
    except RecursionError as error:
        raise _refused("it is nested too deeply") from error
    return _determine(states, start, final)


def _refused(reason: str) -> PromptError:
    return PromptError("prompt.schema", reason=reason)


def _value(states: _States, schema: Any) -> Part:
    """What `schema` allows."""
    if schema is True or schema == {}:
        raise _refused("a part of it allows anything; give it a type")
    if not isinstance(schema, dict):
        raise _refused("a part of it is not an object")
    for name, listed in (("enum", schema.get("enum")), ("const", [schema.get("const")])):
        if name in schema:
            _only(schema, frozenset({name, "type"}))
            return _enumerated(states, listed, schema.get("type"))
    if "anyOf" in schema:
        _only(schema, frozenset({"anyOf"}))
        return _any(states, [_value(states, choice) for choice in _listed(schema["anyOf"], "anyOf")])
    kinds = schema.get("type", "object" if "properties" in schema else None)
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not kinds or any(kind not in SIMPLE for kind in kinds):
        raise _refused(f"the type {_shown(schema.get('type'))} is not known")
    _only(schema, frozenset({"type"}).union(*(KEYWORDS.get(kind, frozenset()) for kind in kinds)))
    return _any(states, [_typed(states, kind, schema) for kind in kinds])


def _only(schema: dict[str, Any], known: frozenset[str]) -> None:
    """Raises PromptError for a keyword that is not kept to."""
    for name in schema:
        if name not in known and name not in REMARKS:
            raise _refused(f"the keyword {_shown(name)} is not supported here")


def _typed(states: _States, kind: str, schema: dict[str, Any]) -> Part:
    if kind == "object":
        return _object(states, schema)
    if kind == "array":
        return _array(states, schema)
    if kind == "string":
        return _string(states, _count(schema, "minLength"), _count(schema, "maxLength"))
    if kind in ("integer", "number"):
        return lambda then: _number(states, kind == "number", then)
    words = {"boolean": (b"true", b"false"), "null": (b"null",)}[kind]
    return lambda then: states.either([states.literal(word, then) for word in words])


def _any(states: _States, parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return lambda then: states.either([part(then) for part in parts])


def _enumerated(states: _States, values: Any, kind: Any) -> Part:
    values = _listed(values, "enum")
    if kind is not None:
        kinds = kind if isinstance(kind, list) else [kind]
        values = [value for value in values if any(_is_of(value, one) for one in kinds)]
    if not values:
        raise _refused("an enum has no value of its type")
    texts = [json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") for value in values]
    return lambda then: states.either([states.literal(text, then) for text in texts])


def _is_of(value: Any, kind: Any) -> bool:
    """Whether JSON calls `value` a `kind`."""
    if isinstance(value, bool) or value is None:
        return bool(kind == ("null" if value is None else "boolean"))
    if isinstance(value, (int, float)):
        return kind == "number" or (kind == "integer" and value == int(value))
    return bool(kind == ("string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"))


def _object(states: _States, schema: dict[str, Any]) -> Part:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or not properties:
        raise _refused("an object has no properties")
    if missing := [name for name in schema.get("required", ()) if name not in properties]:
        raise _refused(f"{_shown(missing[0])} is required and is not among the properties")
    parts = [(json.dumps(name, ensure_ascii=False), _value(states, inner)) for name, inner in properties.items()]

    def part(then: int) -> int:
        then = states.literal(b"}", then)
        for at in reversed(range(len(parts))):
            name, value = parts[at]
            then = _spaced(states, f"{name}:".encode("utf-8", "replace"), value(then))
            then = _spaced(states, b",", then) if at else then
        return states.literal(b"{", then)

    return part


def _array(states: _States, schema: dict[str, Any]) -> Part:
    least, most = _count(schema, "minItems") or 0, _count(schema, "maxItems")
    if most is not None and least > most:
        raise _refused("minItems is greater than maxItems")
    item = _value(states, schema.get("items", True))

    def part(then: int) -> int:
        end = states.literal(b"]", then)
        if most is None:  # behind an item: the end, or a comma and one more
            count, behind = max(least, 1), states.new()
            states.free[behind] += [_spaced(states, b",", item(behind)), end]
        else:
            count, behind = most, end
        for before in reversed(range(count)):  # how many items stand before this one
            start = item(behind) if before == 0 else _spaced(states, b",", item(behind))
            behind = start if before < least else states.either([start, end])
        return states.literal(b"[", behind)

    return part


def _spaced(states: _States, data: bytes, then: int) -> int:
    """`data` and perhaps a space."""
    return states.literal(data, states.either([then, states.literal(b" ", then)]))


def _string(states: _States, least: int | None, most: int | None) -> Part:
    least = least or 0
    if most is not None and least > most:
        raise _refused("minLength is greater than maxLength")

    def part(then: int) -> int:
        end = states.literal(b'"', then)
        if most is None:
            count, behind = least, states.new()
            states.free[behind] += [_character(states, behind), end]
        else:
            count, behind = most, end
        for before in reversed(range(count)):
            start = _character(states, behind)
            behind = start if before < least else states.either([start, end])
        return states.literal(b'"', behind)

    return part


def _character(states: _States, then: int) -> int:
    """One character inside of a string: UTF-8 but for control characters, or an escape of two bytes."""
    tail = states.read(0x80, 0xBF, then)
    two = states.read(0x80, 0xBF, tail)
    ways = [(0x20, 0x21, then), (0x23, 0x5B, then), (0x5D, 0x7E, then)]
    ways += [(0xC2, 0xC2, states.read(0xA0, 0xBF, then)), (0xC3, 0xDF, tail)]
    ways += [(0xE0, 0xE0, states.read(0xA0, 0xBF, tail)), (0xE1, 0xEC, two), (0xEE, 0xEF, two)]
    ways += [(0xED, 0xED, states.read(0x80, 0x9F, tail))]  # no surrogates
    ways += [(0xF0, 0xF0, states.read(0x90, 0xBF, two)), (0xF1, 0xF3, states.read(0x80, 0xBF, two))]
    ways += [(0xF4, 0xF4, states.read(0x80, 0x8F, two))]
    escaped = states.new()
    states.ranges[escaped] += [(byte, byte, then) for byte in b'"\\/bfnrt']
    start = states.new()
    states.ranges[start] += [*ways, (0x5C, 0x5C, escaped)]
    return start


def _number(states: _States, fraction: bool, then: int) -> int:
    """-?(0|[1-9][0-9]*), with a fraction where it may have one."""
    if fraction:
        then = states.either([then, states.literal(b".", _digits(states, FRACTION_DIGITS, then, least=1))])
    first = states.new()
    more = _digits(states, INTEGER_DIGITS - 1, then)
    states.ranges[first] += [(0x30, 0x30, then), (0x31, 0x39, more)]
    return states.either([first, states.literal(b"-", first)])


def _digits(states: _States, most: int, then: int, least: int = 0) -> int:
    behind = then
    for before in reversed(range(most)):
        start = states.read(0x30, 0x39, behind)
        behind = start if before < least else states.either([start, then])
    return behind


def _count(schema: dict[str, Any], name: str) -> int | None:
    value = schema.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _refused(f"{name} is not a whole number of at least 0")
    return value


def _listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _refused(f"{name} is not a list of values")
    return value


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


def _determine(states: _States, start: int, final: int) -> Automaton:
    """The subset construction: sets of states become one state each."""
    first = states.closure([start])
    numbers, order = {first: 0}, [first]
    rows: list[tuple[int, ...]] = []
    for members in order:
        row = [DEAD] * 256
        for low, high, targets in _cut(edge for state in members for edge in states.ranges[state]):
            behind = states.closure(targets)
            if behind not in numbers:
                if len(order) >= LARGEST:
                    raise _refused("it allows too many forms (maxLength or maxItems too large)")
                numbers[behind] = len(order)
                order.append(behind)
            row[low : high + 1] = [numbers[behind]] * (high + 1 - low)
        rows.append(tuple(row))
    return Automaton(tuple(rows), frozenset(n for members, n in numbers.items() if final in members))


def _cut(edges: Any) -> list[tuple[int, int, list[int]]]:
    """Ranges that may overlap -> ranges that do not, each with all its targets."""
    edges = list(edges)
    borders = sorted({low for low, _, _ in edges} | {high + 1 for _, high, _ in edges})
    cut = []
    for low, above in pairwise(borders):
        targets = [then for start, end, then in edges if start <= low and above - 1 <= end]
        if targets:
            cut.append((low, above - 1, targets))
    return cut
