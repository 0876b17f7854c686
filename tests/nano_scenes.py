"""Scenes of the picture world with their turns, and a reading of its Chinese phrases that knows nothing of facts.py."""

from __future__ import annotations

import functools
import re

from bellevl.nano.questions import Turn, ask
from bellevl.nano.world import names
from bellevl.nano.world.scene import N_SHAPES, SPLIT_CODE, Scene, Split, Thing, draw_scene, scene_rng

SHAPES = {noun.zh: index for index, noun in enumerate(names.SHAPES)}
EMOJI = {noun.zh: N_SHAPES + index for index, noun in enumerate(names.EMOJI)}
COLOURS = {colour.zh: index for index, colour in enumerate(names.COLOURS)}
NUMBER = {word: n for n, word in enumerate("零一两三四五六七八九")}
PHRASE = re.compile(f"(?:({'|'.join(COLOURS)})的)?({'|'.join(sorted({**SHAPES, **EMOJI}, key=len, reverse=True))})")


@functools.cache
def asked(split: Split, count: int = 900) -> list[tuple[Scene, tuple[Turn, ...]]]:
    """Scenes of a split with eight turns each."""
    found = []
    for seed in range(count):
        rng = scene_rng(split, seed)
        scene = draw_scene(rng, split)
        found.append((scene, ask(scene, rng, n=8)))
    return found


def every(kinds: str) -> list[tuple[Scene, Turn]]:
    """All turns of the named kinds with their scenes, from all splits."""
    wanted = kinds.split()
    return [
        (scene, turn) for split in SPLIT_CODE for scene, turns in asked(split) for turn in turns if turn.kind in wanted
    ]


def named(text: str) -> list[tuple[int, int]]:
    """(class, colour or -1) of every thing that a Chinese text names, in order."""
    return [
        (SHAPES[noun] if noun in SHAPES else EMOJI[noun], COLOURS[colour] if colour else -1)
        for colour, noun in PHRASE.findall(text)
    ]


def having(scene: Scene, target: tuple[int, int]) -> list[Thing]:
    return [t for t in scene.objects if t.class_id == target[0] and target[1] in (-1, t.colour_id)]


def middle(thing: Thing) -> tuple[float, float]:
    return (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2
