"""Question kinds about where things are, boxes and printed text.

Nothing is asked whose answer a careful person could dispute: named things are unique, zones keep a margin,
and relations differ clearly along one axis. It enters its kinds in turns.KINDS.
"""

from __future__ import annotations

from ..world import names
from ..world.layout import ZONES_ZH, zone_of
from ..world.scene import Box, Scene, Thing, held_out_text
from .facts import Target, box_numbers, clear_zone, full_target, marked_zh, unique
from .turns import Draft, Rng, coin, english_yes_no, kind, pick, word, yes_no_en

RELATION_MARGIN = 0.15  # least distance of two centres along the axis asked about
WORDS_X, WORDS_Y = ("左边", "右边"), ("上面", "下面")
WORDS_EN = {"左边": "on the left of", "右边": "on the right of", "上面": "above", "下面": "below"}


def _named_things(scene: Scene, rng: Rng) -> list[tuple[Target, Thing]]:
    """One unambiguous name for each thing that has one, with and without colour in random turns."""
    options: dict[Thing, list[Target]] = {}
    for target, thing in unique(scene):
        options.setdefault(thing, []).append(target)
    return [(pick(rng, targets), thing) for thing, targets in options.items()]


def in_zone(thing: Thing) -> str:
    zone = clear_zone(thing)
    assert zone is not None, "asked for the zone of a thing near a border"
    return f"在图片的⟦{ZONES_ZH[zone]}⟧。"


@kind("position", 1.5)
def position(scene: Scene, rng: Rng) -> Draft | None:
    options = [(target, thing) for target, thing in _named_things(scene, rng) if clear_zone(thing) is not None]
    if not options or (scene.kind == "single" and coin(rng, 0.85)):
        return None  # a large single thing is nearly always in the middle
    target, thing = pick(rng, options)
    return Draft("position", word(rng, "position", t=target.zh), target.zh + in_zone(thing), target)


def _alone_in(scene: Scene, zone: int) -> Thing | None:
    """The only thing in a zone: every other thing's box stays out of it."""
    row, column = divmod(zone, 3)
    left, top, right, bottom = column / 3, row / 3, (column + 1) / 3, (row + 1) / 3
    inside = [
        t for t in scene.things
        if t.box[0] < right and t.box[2] > left and t.box[1] < bottom and t.box[3] > top
    ]  # fmt: skip
    return inside[0] if len(inside) == 1 and inside[0].kind != "text" else None


@kind("zone_name", 0.6)
def zone_name(scene: Scene, rng: Rng) -> Draft | None:
    options = [t for t in scene.objects if (z := clear_zone(t)) is not None and _alone_in(scene, z) is t]
    if not options or scene.kind == "single":
        return None
    thing = pick(rng, options)
    zone = ZONES_ZH[zone_of(*thing.centre)]
    return Draft("zone_name", word(rng, "zone_name", z=zone), f"{zone}是{marked_zh(full_target(thing))}。")


def _relation(scene: Scene, rng: Rng) -> tuple[Target, Target, bool, str] | None:
    """Two named things, whether they are compared left-right, and the true word."""
    things = _named_things(scene, rng)
    options = []
    for a, first in things:
        for b, second in things:
            dx, dy = first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]
            if first is second:
                continue
            if abs(dx) >= RELATION_MARGIN and abs(dx) >= 0.5 * abs(dy):
                options.append((a, b, True, WORDS_X[int(dx > 0)]))
            if abs(dy) >= RELATION_MARGIN and abs(dy) >= 0.5 * abs(dx):
                options.append((a, b, False, WORDS_Y[int(dy > 0)]))
    return pick(rng, options) if options else None


@kind("relation", 1.2)
def relation(scene: Scene, rng: Rng) -> Draft | None:
    found = _relation(scene, rng)
    if found is None:
        return None
    a, b, sideways, true = found
    question = word(rng, "relation_x" if sideways else "relation_y", t=a.zh, u=b.zh)
    return Draft("relation", question, f"{a.zh}在{b.zh}的⟦{true}⟧。")


def _claimed_relation(rng: Rng, true: str) -> str:
    words = WORDS_X if true in WORDS_X else WORDS_Y
    return true if coin(rng) else words[1 - words.index(true)]


@kind("relation_yn", 0.8)
def relation_yn(scene: Scene, rng: Rng) -> Draft | None:
    found = _relation(scene, rng)
    if found is None:
        return None
    a, b, _, true = found
    claimed = _claimed_relation(rng, true)
    verdict = "是的" if claimed == true else "不是"
    question = word(rng, "relation_yn", t=a.zh, u=b.zh, w=claimed)
    return Draft("relation_yn", question, f"⟦{verdict}⟧，{a.zh}在{b.zh}的⟦{true}⟧。")


@kind("relation_yn_en", 0.4)
def relation_yn_en(scene: Scene, rng: Rng) -> Draft | None:
    found = _relation(scene, rng)
    if found is None:
        return None
    a, b, _, true = found
    claimed = _claimed_relation(rng, true)
    question = english_yes_no(rng, word(rng, "relation_yn_en", e=a.en, f=b.en, w=WORDS_EN[claimed]))
    return Draft("relation_yn_en", question, yes_no_en(claimed == true))


def boxed(target: Target, box: Box) -> str:
    x0, y0, x1, y1 = box_numbers(box)
    return f"<ref>{target.zh}</ref><box>(⟦{x0}⟧,⟦{y0}⟧),(⟦{x1}⟧,⟦{y1}⟧)</box>"


@kind("ground", 0.8)
def ground(scene: Scene, rng: Rng) -> Draft | None:
    options = _named_things(scene, rng)
    if not options:
        return None
    target, thing = pick(rng, options)
    return Draft("ground", word(rng, "ground", t=target.zh), boxed(target, thing.box))


@kind("box_name", 0.6)
def box_name(scene: Scene, rng: Rng) -> Draft | None:
    """What is in a box; half of the boxes are written as <box>, half as plain numbers that people type."""
    if not scene.objects:
        return None
    thing = pick(rng, scene.objects)
    x0, y0, x1, y1 = box_numbers(thing.box)
    box = f"({x0},{y0}),({x1},{y1})"
    box = f"<box>{box}</box>" if coin(rng) else box
    return Draft("box_name", word(rng, "box_name", b=box), f"是{marked_zh(full_target(thing))}。")


@kind("read", 3.0)
def read(scene: Scene, rng: Rng) -> Draft | None:
    return Draft("read", word(rng, "read"), f"图中写着“⟦{scene.text}⟧”。") if scene.text else None


@kind("read_en", 0.7)
def read_en(scene: Scene, rng: Rng) -> Draft | None:
    return Draft("read_en", word(rng, "read_en"), f'It says "⟦{scene.text}⟧".') if scene.text else None


def _claimed_text(scene: Scene, rng: Rng, text: str) -> str:
    """The printed line, or (half of the time) another of its kind: a number with one digit changed, a word."""
    if coin(rng):
        return text
    while True:
        if text.isdigit():
            place, digit = int(rng.integers(len(text))), str(rng.integers(1, 10))
            other = text[:place] + digit + text[place + 1 :]
        else:
            other = str(rng.choice(names.ENGLISH_WORDS if text.isascii() else names.CHINESE_WORDS))
        if other != text and (scene.split != "train" or not held_out_text(other)):
            return other


@kind("read_yn", 0.8)
def read_yn(scene: Scene, rng: Rng) -> Draft | None:
    if not scene.text:
        return None
    claimed = _claimed_text(scene, rng, scene.text)
    verdict = "是的" if claimed == scene.text else "不是"
    return Draft("read_yn", word(rng, "read_yn", x=claimed), f"⟦{verdict}⟧，图中写着“⟦{scene.text}⟧”。")


@kind("read_yn_en", 0.4)
def read_yn_en(scene: Scene, rng: Rng) -> Draft | None:
    if not scene.text:
        return None
    claimed = _claimed_text(scene, rng, scene.text)
    question = english_yes_no(rng, word(rng, "read_yn_en", x=claimed))
    return Draft("read_yn_en", question, yes_no_en(claimed == scene.text))
