"""Which options would make a model fit that does not, and what each saves. Only those are named that really would.

Counts as preflight does: no weight is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..words import say
from .preflight import Memory, estimate_vision, fits, readable_bytes, vision_apart

if TYPE_CHECKING:
    from .session import Plan


@dataclass(frozen=True)
class Change:
    """An option as it is typed, and the facts of an estimate that it changes."""

    option: str
    facts: dict[str, Any]


def enough(plan: Plan, tokens: int, device: str, shorter: Iterable[tuple[str, int]]) -> str:
    """What to add so that `plan` fits on `device` with `tokens` tokens in the cache; first what costs an answer least.
    `shorter`: options that make it fewer tokens, and how many."""
    facts = {"tokens": tokens, "device": device, "limit": plan.max_memory, "kv": plan.kv, "vision": plan.vision}
    changes = []
    if plan.kv == "float":
        changes.append(Change("--kv int8", {"kv": "int8"}))
    if plan.vision == "auto" and vision_apart(plan.config, device, "cpu") and fits(estimate_vision(plan.config)):
        changes.append(Change("--vision cpu", {"vision": "cpu"}))
    changes += [Change(option, {"tokens": fewer}) for option, fewer in shorter]
    if device != "cpu":
        changes.append(Change("--device cpu", {"device": "cpu", "limit": None}))
    return sentence(plan.estimate, facts, changes)


def sentence(estimate: Callable[..., Memory], facts: dict[str, Any], changes: Sequence[Change]) -> str:
    """What to add so that `estimate(**facts)` fits: every change that is enough alone, else the fewest that are enough
    together; "" where nothing is. Of changes of one kind the first counts, so the mildest stands first."""
    need = estimate(**facts).need
    for together in range(1, len(changes) + 1):
        found = [
            (some, memory)
            for some in itertools.combinations(changes, together)
            if _of_different_kinds(some) and fits(memory := estimate(**_changed(facts, some)))
        ]
        if found:
            named = _first_of_each_kind(found) if together == 1 else found[:1]
            options = [_named(some, need - memory.need) for some, memory in named]
            return say("memory.choice", options=say("memory.choice_or").join(options))
    return ""


def _named(some: Sequence[Change], saved: int) -> str:
    """As in "--kv int8 (saves 2.9 GB)"; another device saves nothing, it is another device."""
    options = " ".join(change.option for change in some)
    if any("device" in change.facts for change in some):
        return options
    return say("memory.saves", options=options, saved=readable_bytes(saved))


def _changed(facts: dict[str, Any], some: Iterable[Change]) -> dict[str, Any]:
    changed = dict(facts)
    for change in some:
        changed |= change.facts
    return changed


def _of_different_kinds(some: Sequence[Change]) -> bool:
    return len({tuple(change.facts) for change in some}) == len(some)


def _first_of_each_kind(
    found: Sequence[tuple[tuple[Change, ...], Memory]],
) -> list[tuple[tuple[Change, ...], Memory]]:
    kinds: dict[tuple[str, ...], tuple[tuple[Change, ...], Memory]] = {}
    for some, memory in found:
        kinds.setdefault(tuple(some[0].facts), (some, memory))
    return list(kinds.values())
