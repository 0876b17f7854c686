"""What can be said about a scene: targets a question may name, how many things match, and word forms.

It turns the facts of a scene into Chinese and English phrases. It does not know which question is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..world import names
from ..world.layout import zone_margin, zone_of
from ..world.scene import HELD_OUT_PAIRS, N_EMOJI, N_SHAPES, Box, Scene, Split, Thing
from .phrases import NUMBERS_EN, NUMBERS_ZH

ZONE_MARGIN = 0.035  # a centre nearer to a zone border than this is not asked about
_MARK = re.compile("⟦(.*?)⟧", re.DOTALL)


@dataclass(frozen=True)
class Target:
    """What a question names: an emoji, a shape of any colour (`colour_id` -1), or a coloured shape."""

    class_id: int
    colour_id: int = -1

    @property
    def is_shape(self) -> bool:
        return self.class_id < N_SHAPES

    @property
    def noun(self) -> names.Noun:
        return names.SHAPES[self.class_id] if self.is_shape else names.EMOJI[self.class_id - N_SHAPES]

    @property
    def zh(self) -> str:
        return f"{names.COLOURS[self.colour_id].zh}的{self.noun.zh}" if self.colour_id >= 0 else self.noun.zh

    @property
    def en(self) -> str:
        return f"{names.COLOURS[self.colour_id].en} {self.noun.en}" if self.colour_id >= 0 else self.noun.en

    @property
    def en_plural(self) -> str:
        plural = self.noun.en_plural
        return f"{names.COLOURS[self.colour_id].en} {plural}" if self.colour_id >= 0 else plural

    def counted_zh(self, n: int) -> str:
        """两只猫, with its number marked as deciding."""
        return f"⟦{NUMBERS_ZH[n]}⟧{self.noun.measure}{self.zh}"

    def counted_en(self, n: int) -> str:
        return with_article(self.en) if n == 1 else f"{NUMBERS_EN[n]} {self.en_plural}"

    def matches(self, thing: Thing) -> bool:
        return thing.class_id == self.class_id and self.colour_id in (-1, thing.colour_id)


def with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def unmark(marked: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Drop the marks ⟦ ⟧ and return the text with the spans (start, end) that they enclosed."""
    spans, text, end = [], "", 0
    for match in _MARK.finditer(marked):
        text += marked[end : match.start()]
        spans.append((len(text), len(text) + len(match[1])))
        text += match[1]
        end = match.end()
    return text + marked[end:], tuple(spans)


def matching(scene: Scene, target: Target) -> list[Thing]:
    return [thing for thing in scene.objects if target.matches(thing)]


def present(scene: Scene) -> list[Target]:
    """All targets that at least one object matches, in a fixed order."""
    found = {Target(t.class_id) for t in scene.objects}
    found |= {Target(t.class_id, t.colour_id) for t in scene.objects if t.colour_id >= 0}
    return sorted(found, key=lambda target: (target.class_id, target.colour_id))


def unique(scene: Scene) -> list[tuple[Target, Thing]]:
    """Targets that exactly one object matches, with that object."""
    found = [(target, matching(scene, target)) for target in present(scene)]
    return [(target, things[0]) for target, things in found if len(things) == 1]


def full_target(thing: Thing) -> Target:
    """The most exact name of a thing: shapes with their colour."""
    return Target(thing.class_id, thing.colour_id)


def askable(split: Split, target: Target) -> bool:
    """Whether a question may name this target: training never names a held-out pair."""
    return split != "train" or (target.class_id, target.colour_id) not in HELD_OUT_PAIRS


def every_target() -> list[Target]:
    plain = [Target(class_id) for class_id in range(N_SHAPES + N_EMOJI)]
    return plain + [Target(s, c) for s in range(N_SHAPES) for c in range(len(names.COLOURS))]


def absent(scene: Scene) -> list[Target]:
    """Targets that may be named as absent: nothing in the picture is, or could be argued to be, one."""
    seen = {Target(thing.class_id).zh for thing in scene.objects}
    contested = frozenset().union(*(names.confusable_with(name) for name in seen)) - seen if seen else frozenset()
    there = set(present(scene))
    return [
        target
        for target in every_target()
        if target not in there and target.noun.zh not in contested and askable(scene.split, target)
    ]


def groups(scene: Scene) -> list[tuple[Target, int]]:
    """Objects of one kind and colour merged and counted, in reading order from left to right."""
    counts: dict[Target, int] = {}
    for thing in sorted(scene.objects, key=lambda t: (t.box[0], t.box[1])):
        counts[full_target(thing)] = counts.get(full_target(thing), 0) + 1
    return list(counts.items())


def join_zh(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{'、'.join(first)}和{last}" if first else last


def join_en(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def listed_zh(scene: Scene) -> str:
    """一只猫和两个红色的圆形, with numbers, measure words, colours and names marked as deciding."""
    return join_zh(marked_zh(target, n) for target, n in groups(scene))


def marked_zh(target: Target, n: int = 1) -> str:
    colour = f"⟦{names.COLOURS[target.colour_id].zh}⟧的" if target.colour_id >= 0 else ""
    return f"⟦{NUMBERS_ZH[n]}⟧⟦{target.noun.measure}⟧{colour}⟦{target.noun.zh}⟧"


def marked_en(target: Target, n: int = 1) -> str:
    number, rest = target.counted_en(n).split(" ", 1)
    return f"⟦{number}⟧ ⟦{rest}⟧"


def clear_zone(thing: Thing) -> int | None:
    """The zone of a thing's centre, or None near a border between zones."""
    return zone_of(*thing.centre) if zone_margin(*thing.centre) >= ZONE_MARGIN else None


def box_numbers(box: Box) -> tuple[int, int, int, int]:
    """A box in thousandths of the picture, 0..999, as <box> answers write it."""
    x0, y0, x1, y1 = (min(999, round(edge * 1000)) for edge in box)
    return x0, y0, x1, y1
