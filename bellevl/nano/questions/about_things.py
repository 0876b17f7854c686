"""Question kinds about what is there: captions, names, existence, colour, shape, counts, scenes, small talk.

Yes/no questions are balanced and their negatives resemble what is there. It enters its kinds in
turns.KINDS and does not know how often they are drawn together or what follows them.
"""

from __future__ import annotations

import numpy as np

from ..world import names
from ..world.scene import Scene
from .facts import (
    Target,
    absent,
    askable,
    full_target,
    groups,
    join_en,
    listed_zh,
    marked_en,
    marked_zh,
    matching,
    present,
    with_article,
)
from .phrases import NUMBERS_EN, NUMBERS_ZH, TALK
from .turns import Draft, Rng, coin, english_yes_no, kind, pick, word, yes_no_en


@kind("caption", 1.0)
def caption(scene: Scene, rng: Rng) -> Draft | None:
    return Draft("caption", word(rng, "caption"), _caption_zh(scene))


def _caption_zh(scene: Scene) -> str:
    if scene.text is not None:
        also = f"，还有{listed_zh(scene)}" if scene.objects else ""
        return f"图中写着“⟦{scene.text}⟧”{also}。"
    there = f"图中有{listed_zh(scene)}" if scene.objects else "图中没有物体"
    return f"{there}，背景是⟦{scene.background}⟧。" if scene.background else f"{there}。"


@kind("caption_en", 0.3)
def caption_en(scene: Scene, rng: Rng) -> Draft | None:
    if scene.text is not None or not scene.objects:
        return None
    found = groups(scene)
    listed = join_en(marked_en(target, n) for target, n in found)
    place = f", and the background is ⟦{names.SCENES[scene.scene_id].en}⟧" if scene.background else ""
    verb = "is" if found[0][1] == 1 else "are"
    return Draft("caption_en", word(rng, "caption_en"), f"There {verb} {listed} in the picture{place}.")


def _single(scene: Scene) -> Target | None:
    return full_target(scene.objects[0]) if scene.kind == "single" else None


@kind("name", 2.0)
def name(scene: Scene, rng: Rng) -> Draft | None:
    target = _single(scene)
    return Draft("name", word(rng, "name"), f"这是{marked_zh(target)}。", target) if target else None


@kind("name_en", 0.7)
def name_en(scene: Scene, rng: Rng) -> Draft | None:
    target = _single(scene)
    return Draft("name_en", word(rng, "name_en"), f"This is {marked_en(target)}.", target) if target else None


def _candidate(scene: Scene, rng: Rng, yes: bool) -> Target | None:
    """A target to ask the existence of. Absent ones resemble what is there more often than not."""
    if yes:
        found = present(scene)
        return pick(rng, found) if found else None
    candidates = absent(scene)
    draw = rng.random()
    if draw < 0.5:  # the same shape in another colour, or another shape in the same colour
        shapes = [t for t in scene.objects if t.colour_id >= 0]
        near = [
            c for c in candidates if c.colour_id >= 0
            and any((c.class_id == t.class_id) != (c.colour_id == t.colour_id) for t in shapes)
        ]  # fmt: skip
    elif draw < 0.9 and scene.objects:  # a kind like one that is there: shape, coloured shape or emoji
        model = pick(rng, present(scene))
        near = [c for c in candidates if c.is_shape == model.is_shape and (c.colour_id < 0) == (model.colour_id < 0)]
    else:
        near = candidates
    pool = near or [c for c in candidates if not c.is_shape]
    return pick(rng, pool)


def _existence(scene: Scene, rng: Rng) -> tuple[Target, int] | None:
    """A target and how many there are; absent for half of the questions."""
    if not scene.objects and not coin(rng, 0.15):
        return None
    yes = coin(rng) and bool(scene.objects)
    target = _candidate(scene, rng, yes)
    return (target, len(matching(scene, target))) if target else None


def exist_answer(target: Target, n: int) -> str:
    return f"⟦有⟧，图中有{target.counted_zh(n)}。" if n else f"⟦没有⟧，图中没有{target.zh}。"


@kind("exist_zh", 1.2)
def exist_zh(scene: Scene, rng: Rng) -> Draft | None:
    found = _existence(scene, rng)
    if found is None:
        return None
    target, n = found
    return Draft("exist_zh", word(rng, "exist_zh", t=target.zh), exist_answer(target, n), target, n > 0)


@kind("exist_yn", 0.8)
def exist_yn(scene: Scene, rng: Rng) -> Draft | None:
    found = _existence(scene, rng)
    if found is None:
        return None
    target, n = found
    if coin(rng, 0.3):
        answer = "⟦是⟧。" if n else "⟦否⟧。"
        return Draft("exist_yn", word(rng, "exist_yn_strict", t=target.zh), answer, target, n > 0)
    return Draft("exist_yn", word(rng, "exist_yn", t=target.zh), "⟦有⟧。" if n else "⟦没有⟧。", target, n > 0)


@kind("exist_en", 0.8)
def exist_en(scene: Scene, rng: Rng) -> Draft | None:
    found = _existence(scene, rng)
    if found is None:
        return None
    target, n = found
    question = english_yes_no(rng, word(rng, "exist_en", a=with_article(target.en)))
    return Draft("exist_en", question, yes_no_en(n > 0))


def _one_colour(scene: Scene) -> list[Target]:
    """Shapes that occur in one colour only, with that colour."""
    full = {full_target(thing) for thing in scene.objects if thing.colour_id >= 0}
    shapes = [target.class_id for target in full]
    return sorted((t for t in full if shapes.count(t.class_id) == 1), key=lambda t: t.class_id)


@kind("colour", 1.2)
def colour(scene: Scene, rng: Rng) -> Draft | None:
    options = _one_colour(scene)
    if not options:
        return None
    target = pick(rng, options)
    shape = Target(target.class_id)
    marked = f"是⟦{names.COLOURS[target.colour_id].zh}⟧的。"
    single = len(matching(scene, target)) == 1
    return Draft("colour", word(rng, "colour", t=shape.zh), marked, shape if single else None)


def _claimed_colour(scene: Scene, rng: Rng) -> tuple[Target, int] | None:
    """A shape of one colour, and a colour to claim for it that is right half of the time."""
    options = _one_colour(scene)
    if not options:
        return None
    target = pick(rng, options)
    if coin(rng):
        return target, target.colour_id
    others = [c for c in range(len(names.COLOURS)) if c != target.colour_id]
    others = [c for c in others if askable(scene.split, Target(target.class_id, c))]
    nearby = [c for c in others if any(thing.colour_id == c for thing in scene.objects)]
    return target, pick(rng, nearby if nearby and coin(rng) else others)


@kind("colour_yn", 0.6)
def colour_yn(scene: Scene, rng: Rng) -> Draft | None:
    claim = _claimed_colour(scene, rng)
    if claim is None:
        return None
    target, claimed = claim
    shape, true = Target(target.class_id), names.COLOURS[target.colour_id].zh
    verdict = "是的" if claimed == target.colour_id else "不是"
    question = word(rng, "colour_yn", t=shape.zh, c=names.COLOURS[claimed].zh)
    return Draft("colour_yn", question, f"⟦{verdict}⟧，{shape.zh}是⟦{true}⟧的。")


@kind("colour_en", 0.4)
def colour_en(scene: Scene, rng: Rng) -> Draft | None:
    options = [t for t in _one_colour(scene) if len(matching(scene, t)) == 1]
    if not options:
        return None
    target = pick(rng, options)
    answer = f"It is ⟦{names.COLOURS[target.colour_id].en}⟧."
    return Draft("colour_en", word(rng, "colour_en", e=Target(target.class_id).en), answer)


@kind("colour_yn_en", 0.4)
def colour_yn_en(scene: Scene, rng: Rng) -> Draft | None:
    claim = _claimed_colour(scene, rng)
    if claim is None or len(matching(scene, claim[0])) != 1:
        return None
    target, claimed = claim
    asked = Target(target.class_id, claimed)
    fields = {"e": Target(target.class_id).en, "c": names.COLOURS[claimed].en, "a": with_article(asked.en)}
    question = english_yes_no(rng, word(rng, "colour_yn_en", **fields))
    return Draft("colour_yn_en", question, yes_no_en(claimed == target.colour_id))


@kind("shape", 1.0)
def shape(scene: Scene, rng: Rng) -> Draft | None:
    """The shape of the only thing of a colour; emoji have no single colour, so 图形 rules them out."""
    colours = [thing.colour_id for thing in scene.objects if thing.colour_id >= 0]
    options = [t for t in scene.objects if t.colour_id >= 0 and colours.count(t.colour_id) == 1]
    if not options:
        return None
    target = full_target(pick(rng, options))
    only_shapes = len(colours) == len(scene.objects)
    wording = "shape_only" if only_shapes and coin(rng, 0.4) else "shape"
    question = word(rng, wording, c=names.COLOURS[target.colour_id].zh)
    return Draft("shape", question, f"是⟦{target.noun.zh}⟧。", target)


def _counted(scene: Scene, rng: Rng) -> tuple[Target, int] | None:
    """A target that is there, several of it more likely than one, and its number."""
    found = [(target, len(matching(scene, target))) for target in present(scene)]
    if not found or scene.text is not None:
        return None
    weights = np.array([1.0 if n == 1 else 8.0 for _, n in found])
    if scene.kind != "count" and weights.max() == 1.0 and coin(rng, 0.85):
        return None
    return found[int(rng.choice(len(found), p=weights / weights.sum()))]


@kind("count", 1.5)
def count(scene: Scene, rng: Rng) -> Draft | None:
    found = _counted(scene, rng)
    if found is None:
        return None
    target, n = found
    question = word(rng, "count", m=target.noun.measure, t=target.zh)
    return Draft("count", question, f"有⟦{NUMBERS_ZH[n]}⟧{target.noun.measure}{target.zh}。", target)


@kind("count_all", 0.6)
def count_all(scene: Scene, rng: Rng) -> Draft | None:
    if not scene.objects or scene.text is not None or scene.kind == "single":
        return None
    return Draft("count_all", word(rng, "count_all"), f"一共有⟦{NUMBERS_ZH[len(scene.objects)]}⟧个。")


@kind("count_yn_en", 0.3)
def count_yn_en(scene: Scene, rng: Rng) -> Draft | None:
    found = _counted(scene, rng)
    if found is None:
        return None
    target, n = found
    if n == 1 and coin(rng, 0.85):
        return None  # a true claim about one thing would be a question of existence
    claimed = n if n > 1 and coin(rng) else pick(rng, [k for k in (n - 1, n + 1) if k > 1])
    claim = f"{NUMBERS_EN[claimed]} {target.en_plural}"
    question = english_yes_no(rng, word(rng, "count_yn_en", k=claim))
    return Draft("count_yn_en", question, yes_no_en(claimed == n))


@kind("scene", 1.2)
def scene_name(scene: Scene, rng: Rng) -> Draft | None:
    return Draft("scene", word(rng, "scene"), f"背景是⟦{scene.background}⟧。") if scene.background else None


def _claimed_scene(scene: Scene, rng: Rng) -> int:
    others = [s for s in range(len(names.SCENES)) if s != scene.scene_id]
    return scene.scene_id if coin(rng) else pick(rng, others)


@kind("scene_yn", 0.5)
def scene_yn(scene: Scene, rng: Rng) -> Draft | None:
    if not scene.background:
        return None
    claimed = _claimed_scene(scene, rng)
    verdict = "是的" if claimed == scene.scene_id else "不是"
    question = word(rng, "scene_yn", s=names.SCENES[claimed].zh)
    return Draft("scene_yn", question, f"⟦{verdict}⟧，背景是⟦{scene.background}⟧。")


@kind("scene_en", 0.4)
def scene_en(scene: Scene, rng: Rng) -> Draft | None:
    if not scene.background:
        return None
    return Draft("scene_en", word(rng, "scene_en"), f"The background is ⟦{names.SCENES[scene.scene_id].en}⟧.")


@kind("scene_yn_en", 0.4)
def scene_yn_en(scene: Scene, rng: Rng) -> Draft | None:
    if not scene.background:
        return None
    claimed = _claimed_scene(scene, rng)
    question = english_yes_no(rng, word(rng, "scene_yn_en", s=names.SCENES[claimed].en))
    return Draft("scene_yn_en", question, yes_no_en(claimed == scene.scene_id))


@kind("talk", 0.12)
def talk(scene: Scene, rng: Rng) -> Draft | None:
    """Small talk; the whole answer is the decision."""
    question, answer = pick(rng, TALK)
    return Draft("talk", question, f"⟦{answer}⟧")
