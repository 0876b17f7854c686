"""The picture world: what it draws is what it says, on every split, and its material carries its notices."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from nano_scenes import asked, middle, named
from PIL import Image, ImageChops

from bellevl.nano.questions import ask
from bellevl.nano.world import backgrounds, drawing, names
from bellevl.nano.world.scene import (
    HELD_OUT_PAIRS,
    N_SHAPES,
    SPLIT_CODE,
    Item,
    Mix,
    Place,
    compose,
    draw_scene,
    held_out_text,
    scene_rng,
)
from bellevl.nano.world.targets import n_classes, n_colours, n_scenes, patch_targets

ATLAS = Path(drawing.ATLAS)
OPENMOJI = Path(__file__).parent / "data" / "openmoji" / "openmoji.webp"


def test_the_same_seed_draws_the_same_scene_and_questions() -> None:
    """Equal generator states give equal pixels, facts and turns; other seeds and splits give others."""
    for seed in range(25):
        a, b = scene_rng("train", seed), scene_rng("train", seed)
        first, second = draw_scene(a), draw_scene(b)
        assert first.picture.tobytes() == second.picture.tobytes()
        assert first.things == second.things
        assert ask(first, a) == ask(second, b)
    pictures = {draw_scene(scene_rng(s, k)).picture.tobytes() for s in SPLIT_CODE for k in range(25)}
    assert len(pictures) == 75


def test_training_never_shows_held_out_pairs_or_lines() -> None:
    """No training picture or question holds a held-out shape-colour pair, number or word; "novel" holds only those."""
    for scene, turns in asked("train"):
        assert not {(t.class_id, t.colour_id) for t in scene.objects} & HELD_OUT_PAIRS
        assert scene.text is None or not held_out_text(scene.text)
        for turn in turns:
            assert not set(named(turn.question + turn.answer)) & HELD_OUT_PAIRS, turn
    for scene, _ in asked("novel"):
        assert {(t.class_id, t.colour_id) for t in scene.objects if t.kind == "shape"} <= HELD_OUT_PAIRS
        assert scene.text is None or held_out_text(scene.text)


def test_eleven_pairs_and_a_tenth_of_the_lines_are_held_out() -> None:
    """11 of 80 shape-colour pairs, 8-12 % of the numbers of two and three digits and of the words."""
    assert len(HELD_OUT_PAIRS) == 11
    assert len({shape for shape, _ in HELD_OUT_PAIRS}) == 8, "every shape has a held-out colour"
    numbers = [str(n) for n in range(10, 1000)]
    for lines in (numbers, names.ENGLISH_WORDS, names.CHINESE_WORDS):
        assert 0.08 <= np.mean([held_out_text(line) for line in lines]) <= 0.12
    assert not any(held_out_text(str(digit)) for digit in range(10))


def test_training_never_claims_a_held_out_line() -> None:
    """Yes/no questions about printed text only claim lines that training may show."""
    claims = [
        re.search('[“"](.+?)[”"]', turn.question)
        for _, turns in asked("train") for turn in turns if turn.kind in ("read_yn", "read_yn_en")
    ]  # fmt: skip
    assert len(claims) > 50
    assert not [claim[1] for claim in claims if claim and held_out_text(claim[1])]


def ink_of(canvas: Image.Image, before: Image.Image, threshold: int) -> tuple[int, int, int, int]:
    changed = ImageChops.difference(canvas, before).convert("L")
    box = changed.point([0] * threshold + [255] * (256 - threshold)).getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize("what", ["shape", "emoji"])
def test_boxes_are_tight_around_the_drawn_pixels(what: str) -> None:
    """Every side of a box lies within two pixels (emoji: four, of 224) of the changed pixels' own bounds."""
    rng = np.random.default_rng(7)
    for index in range(160):
        paper = Image.new("RGB", (224, 224), (255, 255, 255) if index % 2 else (60, 70, 90))
        canvas = paper.copy()
        extent = float(rng.uniform(36, 150))
        if what == "shape":
            box = drawing.draw_shape(rng, canvas, index % 8, index % 10, (112, 112), extent)
        else:
            style = drawing.TRAINED_STYLES[index % 3]
            box = drawing.draw_emoji(rng, canvas, style, index % len(names.EMOJI), (112, 112), extent)
        ink = ink_of(canvas, paper, 10)
        assert np.abs(np.array(box) - ink).max() <= (2 if what == "shape" else 4), (index, box, ink)
        assert max(box[2] - box[0], box[3] - box[1]) == pytest.approx(0.95 * extent, rel=0.13)


def test_printed_characters_have_their_own_boxes() -> None:
    """A line's box encloses its ink within two pixels (of 224), and each character has a box in order."""
    for text, face in (("52", "latin-serif.ttf"), ("train", "latin-italic.ttf"), ("学校", "cjk-serif-bold.otf")):
        paper = Image.new("RGB", (224, 224), "white")
        canvas = paper.copy()
        boxes = np.array(drawing.draw_text(canvas, text, face, 60, (112, 112), (0, 0, 0)))
        ink = np.array(ink_of(canvas, paper, 40))
        whole = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
        assert np.abs(whole - ink).max() <= 2
        assert len(boxes) == len(text) and (np.diff(boxes[:, 0]) > 0).all()


def test_every_character_has_a_glyph_in_its_fonts() -> None:
    """No printed character falls back to an empty box: each differs from a character no font has."""
    for character in names.CHARACTERS:
        for face in drawing.fonts_for(character):
            letters = drawing.font(face, 40)
            assert letters.getmask(character).getbbox() is not None, (character, face)
            assert bytes(letters.getmask(character)) != bytes(letters.getmask("\ue000")), (character, face)


def test_things_do_not_overlap_and_lie_inside() -> None:
    """No two boxes of a scene share area, and every box lies within the picture."""
    for split in SPLIT_CODE:
        for scene, _ in asked(split):
            for index, thing in enumerate(scene.things):
                x0, y0, x1, y1 = thing.box
                assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
                for other in scene.things[:index]:
                    apart_x = x1 <= other.box[0] or other.box[2] <= x0
                    assert apart_x or y1 <= other.box[1] or other.box[3] <= y0, (scene.kind, thing, other)


def test_a_large_picture_reduces_to_the_small_one() -> None:
    """The same seed at 448 pixels, reduced to 112, nearly equals the picture drawn at 112."""
    items, places = [Item(0, 0), Item(N_SHAPES, -1, "noto")], [Place(0.3, 0.3, 0.4), Place(0.7, 0.7, 0.4)]
    small = compose(scene_rng("train", 5), items, 3, places=places)
    large = compose(scene_rng("train", 5), items, 3, places=places, size=448)
    reduced = large.picture.resize((112, 112), Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(small.picture, float) - np.asarray(reduced, float))
    assert difference.mean() < 6
    for a, b in zip(small.things, large.things, strict=True):
        assert np.abs(np.array(a.box) - b.box).max() < 0.02


@pytest.mark.parametrize("scene_id", range(len(names.SCENES)))
def test_scenes_are_painted_to_size_and_vary(scene_id: int) -> None:
    """A scene painter fills the whole square and draws different pictures for different seeds."""
    painter = backgrounds.SCENE_PAINTERS[scene_id]
    pictures = [painter(np.random.default_rng(seed), 96) for seed in range(3)]
    assert all(picture.size == (96, 96) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_patch_targets_agree_with_the_things() -> None:
    """Each thing's centre patch, if its own, has its class, colour and box; free patches are background."""
    seen = 0
    for scene, _ in asked("train")[:200]:
        dense = patch_targets(scene, 8)
        assert dense.classes.shape == (64,) and dense.boxes.shape == (64, 4)
        assert dense.classes.max() < n_classes and dense.colours.max() < n_colours
        assert 0 <= dense.scene < n_scenes and dense.scene == scene.scene_id + 1
        assert ((dense.classes > 0) == dense.occupied).all()
        assert (dense.boxes[~dense.occupied] == 0).all() and not dense.colours[~dense.occupied].any()
        for thing in scene.objects:
            x, y = middle(thing)
            cell = int(y * 8) * 8 + int(x * 8)
            if dense.centre[cell]:
                seen += np.allclose(dense.boxes[cell], thing.box, atol=1e-6)
                assert dense.classes[cell] > 0
    assert seen > 200


def test_a_centred_thing_owns_the_patches_it_covers() -> None:
    """A square over the picture's middle half owns the inner 4 x 4 of 8 x 8 patches and no corner."""
    scene = compose(scene_rng("train", 1), [Item(2, 4)], -1, places=[Place(0.5, 0.5, 0.5)])
    owned = patch_targets(scene, 8).classes.reshape(8, 8)
    assert (owned[2:6, 2:6] == 1 + 2).all()
    assert owned[0].sum() == owned[-1].sum() == owned[:, 0].sum() == 0


def test_a_mix_narrows_pictures_and_questions() -> None:
    """Weights of 0 draw no such picture, and only_listed asks nothing but what is listed."""
    mix = Mix(
        spatial=1,
        count=0,
        single=0,
        scene=0,
        text=0,
        shape_share=1.0,
        scene_share=0.0,
        questions=(("position", 1.0), ("relation", 1.0)),
        only_listed=True,
    )
    for seed in range(40):
        rng = scene_rng("train", seed)
        scene = draw_scene(rng, mix=mix)
        assert scene.kind == "spatial" and all(t.kind == "shape" for t in scene.things)
        asked_kinds = {turn.kind for turn in ask(scene, rng, mix) if turn.follows is None}
        assert asked_kinds <= {"position", "relation"}


def test_an_unseen_style_can_be_drawn() -> None:
    """The OpenMoji sheet, which is not in the package, draws the same emoji in another style."""
    mix = Mix(styles=(str(OPENMOJI),), shape_share=0.0)
    scene = draw_scene(scene_rng("heldout", 3), "heldout", "single", mix=mix)
    usual = draw_scene(scene_rng("heldout", 3), "heldout", "single", mix=Mix(shape_share=0.0, styles=("noto",)))
    assert scene.things[0].class_id == usual.things[0].class_id
    assert scene.picture.tobytes() != usual.picture.tobytes()


def test_the_atlas_is_small_and_carries_its_notices() -> None:
    """At most 6 MB; every file is named in NOTICES.md with its licence; OpenMoji stays outside the package."""
    files = [path for path in ATLAS.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    notices = (ATLAS / "NOTICES.md").read_text(encoding="utf-8")
    for path in files:
        assert path.name == "NOTICES.md" or path.name in notices
    for licence in ("Apache License 2.0", "Creative Commons Attribution 4.0", "MIT", "SIL Open Font License 1.1"):
        assert licence in notices
    assert "SIL OPEN FONT LICENSE" in (ATLAS / "OFL.txt").read_text()
    assert not [path for path in ATLAS.parent.rglob("*") if "openmoji" in path.name.lower()]
    assert "CC BY-SA 4.0" in (OPENMOJI.parent / "NOTICES.md").read_text(encoding="utf-8")


def test_names_are_distinct_and_every_sprite_has_ink() -> None:
    """No two things share a name in either language, and every style draws every emoji."""
    for label in ("zh", "en", "en_plural"):
        labels = [getattr(noun, label) for noun in (*names.SHAPES, *names.EMOJI) if noun.zh != "鱼"]
        assert len(set(labels)) == len(labels), label
    for style in (*drawing.TRAINED_STYLES, str(OPENMOJI)):
        for index in range(len(names.EMOJI)):
            assert min(drawing.sprite(style, index).size) >= 30, (style, names.EMOJI[index].zh)
