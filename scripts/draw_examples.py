"""Draw the example pictures in examples/ from the picture world, at the size of an ordinary small picture.

Their seeds belong to the "heldout" split, so that the embedded model has never seen them. The contents are
chosen by hand; everything else (tints, tilts, backgrounds) is drawn.

Usage: draw_examples.py [folder]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bellevl.nano.world import names
from bellevl.nano.world.layout import Place
from bellevl.nano.world.scene import N_SHAPES, Item, compose, scene_rng

SIZE = 448
FIRST_SEED = 900_055


@dataclass(frozen=True)
class Example:
    """A file name, a scene (or "" for a plain background) and things: name, style or colour, x, y, extent."""

    file: str
    scene: str
    things: tuple[tuple[str, str, float, float, float], ...]


EXAMPLES = (
    Example("草地.png", "草地", (("兔子", "noto", 0.24, 0.7, 0.34), ("向日葵", "fluent", 0.76, 0.68, 0.36))),
    Example(
        "shapes.png", "",
        (("圆形", "红色", 0.22, 0.24, 0.3), ("正方形", "蓝色", 0.78, 0.22, 0.27), ("五角星", "黄色", 0.5, 0.76, 0.34)),
    ),
    Example(
        "水果.png", "厨房",
        (
            ("苹果", "fluent", 0.2, 0.3, 0.25), ("苹果", "fluent", 0.52, 0.24, 0.25),
            ("苹果", "fluent", 0.8, 0.34, 0.25), ("香蕉", "noto", 0.46, 0.77, 0.32),
        ),
    ),
    Example("night.png", "夜空", (("火箭", "fluent", 0.75, 0.25, 0.36), ("猫头鹰", "noto", 0.25, 0.75, 0.34))),
    Example("海面.png", "海面", (("帆船", "noto", 0.25, 0.42, 0.38), ("鲸鱼", "twemoji", 0.75, 0.74, 0.36))),
    Example("cat.png", "", (("猫", "noto", 0.5, 0.5, 0.62),)),
)  # fmt: skip


def item(name: str, look: str) -> Item:
    """The thing of a Chinese name: a shape in a colour, or an emoji in a style."""
    shapes = [noun.zh for noun in names.SHAPES]
    if name in shapes:
        return Item(shapes.index(name), [colour.zh for colour in names.COLOURS].index(look))
    return Item(N_SHAPES + [noun.zh for noun in names.EMOJI].index(name), -1, look)


def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scenes = ["", *(scene.zh for scene in names.SCENES)]
    for seed, example in enumerate(EXAMPLES, start=FIRST_SEED):
        items = [item(name, look) for name, look, *_ in example.things]
        places = [Place(x, y, extent) for _, _, x, y, extent in example.things]
        scene_id = scenes.index(example.scene) - 1
        scene = compose(scene_rng("heldout", seed), items, scene_id, size=SIZE, places=places, split="heldout")
        scene.picture.save(folder / example.file, optimize=True)
        print(folder / example.file)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "examples")
