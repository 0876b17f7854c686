"""Turns that continue an earlier one: 它在哪里？ 那狗呢？ 把它框出来。

A follow-up is only made when what it refers to is clear from the turn before. It does not know how often
follow-ups are drawn.
"""

from __future__ import annotations

from ..world import names
from ..world.scene import Scene
from .about_places import boxed, in_zone
from .about_things import exist_answer
from .facts import Target, absent, clear_zone, matching, present
from .phrases import NUMBERS_ZH
from .turns import Draft, Rng, coin, pick, word


def _again_exists(scene: Scene, rng: Rng, before: Target) -> Draft | None:
    """那狗呢？ after a question about existence: another target, there or absent with equal chance."""
    there = [target for target in present(scene) if target.class_id != before.class_id]
    pool = there if coin(rng) else [t for t in absent(scene) if t.class_id != before.class_id]
    if not pool:
        return None
    target = pick(rng, pool)
    return Draft("again", word(rng, "again", t=target.zh), exist_answer(target, len(matching(scene, target))))


def _again_counts(scene: Scene, rng: Rng, before: Target) -> Draft | None:
    """那狗呢？ after a question about a number: another target that is there."""
    there = [target for target in present(scene) if target.class_id != before.class_id]
    if not there:
        return None
    target = pick(rng, there)
    number = NUMBERS_ZH[len(matching(scene, target))]
    return Draft("again", word(rng, "again", t=target.zh), f"有⟦{number}⟧{target.noun.measure}{target.zh}。")


def _about_it(scene: Scene, rng: Rng, draft: Draft) -> Draft | None:
    """它…？ about the only thing that the turn before was about."""
    target = draft.target
    things = matching(scene, target) if target else []
    if target is None or len(things) != 1:
        return None
    thing = things[0]
    known = scene.kind == "single" or draft.kind in ("position", "position_follow")
    clear = clear_zone(thing) is not None and not known
    if not clear and coin(rng, 0.6):
        return None
    options = [Draft("ground_follow", word(rng, "ground_follow"), boxed(target, thing.box))]
    if clear:
        options += [Draft("position_follow", word(rng, "position_follow"), "它" + in_zone(thing), target)] * 3
    if thing.colour_id >= 0 and target.colour_id < 0 and draft.kind not in ("colour", "colour_follow"):
        marked = f"它是⟦{names.COLOURS[thing.colour_id].zh}⟧的。"
        options += [Draft("colour_follow", word(rng, "colour_follow"), marked, target)] * 6
    return pick(rng, options)


def follow_up(scene: Scene, rng: Rng, draft: Draft) -> Draft | None:
    """A turn that continues `draft`, or None when nothing unambiguous follows from it."""
    target = draft.target
    if target is None:
        return None
    if draft.kind == "count":
        return _again_counts(scene, rng, target)
    if draft.kind in ("exist_zh", "exist_yn"):
        if not draft.yes or coin(rng, 0.3):
            return _again_exists(scene, rng, target) if draft.kind == "exist_zh" else None
        if draft.kind == "exist_yn" and coin(rng, 0.4):
            number = NUMBERS_ZH[len(matching(scene, target))]
            marked = f"有⟦{number}⟧{target.noun.measure}。"
            return Draft("count_follow", word(rng, "count_follow", m=target.noun.measure), marked)
    return _about_it(scene, rng, draft)
