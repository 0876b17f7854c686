"""The picture world of the embedded model: draws a scene and says exactly what is in it.

`draw_scene` is deterministic for a given generator state. Pictures are drawn at twice their size and
reduced bicubically, so that they look like what a larger picture becomes when the model resizes it. It
knows no question, no token and no tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from . import backgrounds, drawing, names
from .layout import EDGE, Place, scatter

Rng = np.random.Generator
Split = Literal["train", "heldout", "novel"]
PictureKind = Literal["spatial", "count", "single", "scene", "text"]
Box = tuple[float, float, float, float]

N_SHAPES, N_COLOURS, N_EMOJI = len(names.SHAPES), len(names.COLOURS), len(names.EMOJI)
TEXT_CLASS = N_SHAPES + N_EMOJI  # class ids: shapes, then emoji, then printed text
SPLIT_CODE: dict[Split, int] = {"train": 0, "heldout": 1, "novel": 2}

# Shape-colour pairs that no training picture or question shows: (shape, colour) by index in names.
HELD_OUT_PAIRS: frozenset[tuple[int, int]] = frozenset(
    {(0, 5), (0, 7), (1, 3), (2, 6), (3, 8), (3, 4), (4, 1), (5, 0), (5, 9), (6, 1), (7, 2)}
)


@dataclass(frozen=True)
class Thing:
    """One drawn thing. `box` is (x0, y0, x1, y1) in 0..1, tight around its pixels; `colour_id` is -1
    for everything but shapes. For text, `name_zh` and `name_en` are the printed line itself."""

    kind: Literal["shape", "emoji", "text"]
    class_id: int
    colour_id: int
    name_zh: str
    name_en: str
    measure: str
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Glyph:
    """One printed character and the box of its ink."""

    character: str
    box: Box


@dataclass(frozen=True)
class Scene:
    """A picture and everything that is true of it. `scene_id` is -1 and `background` "" when plain."""

    picture: Image.Image
    things: tuple[Thing, ...]
    scene_id: int
    background: str
    text: str | None
    glyphs: tuple[Glyph, ...]
    kind: PictureKind
    split: Split

    @property
    def objects(self) -> tuple[Thing, ...]:
        """Things that are not printed text."""
        return tuple(thing for thing in self.things if thing.kind != "text")


@dataclass(frozen=True)
class Mix:
    """What to draw and ask: relative weights of picture kinds, and overrides of question weights.

    `questions` replaces the weights of the named question kinds; with `only_listed` every kind that is
    not named is never asked. `shape_share` is the share of shapes among objects, `scene_share` of
    procedural scenes behind spatial and count pictures, spatial pictures show `min_objects` to `max_objects`.
    """

    spatial: float = 0.36
    count: float = 0.20
    single: float = 0.14
    scene: float = 0.15
    text: float = 0.15
    shape_share: float = 0.5
    scene_share: float = 0.3
    min_objects: int = 1
    max_objects: int = 4
    styles: tuple[str, ...] = drawing.TRAINED_STYLES
    questions: tuple[tuple[str, float], ...] = field(default=())
    only_listed: bool = False


@dataclass(frozen=True)
class Item:
    """What to draw before it has a place: a shape with a colour, or an emoji (`colour_id` -1) in a style."""

    class_id: int
    colour_id: int = -1
    style: str = "noto"


def scene_rng(split: Split, seed: int) -> Rng:
    """The generator of one picture: equal seeds of different splits never give the same stream."""
    return np.random.default_rng([SPLIT_CODE[split], seed])


def held_out_text(text: str) -> bool:
    """Whether a printed line is one of the 10 % that training never shows (single digits always are shown)."""
    if text.isdigit():
        return len(text) > 1 and (int(text) * 7 + len(text)) % 10 == 3
    words = names.ENGLISH_WORDS if text.isascii() else names.CHINESE_WORDS
    return words.index(text) % 10 == 4


def allowed_pair(split: Split, shape_id: int, colour_id: int) -> bool:
    """Whether a split shows this shape in this colour: all in "heldout", complements in the other two."""
    held_out = (shape_id, colour_id) in HELD_OUT_PAIRS
    return split == "heldout" or held_out == (split == "novel")


def _shape_item(rng: Rng, split: Split) -> Item:
    while True:
        shape_id, colour_id = int(rng.integers(N_SHAPES)), int(rng.integers(N_COLOURS))
        if allowed_pair(split, shape_id, colour_id):
            return Item(shape_id, colour_id)


def _item(rng: Rng, split: Split, mix: Mix) -> Item:
    if rng.random() < mix.shape_share:
        return _shape_item(rng, split)
    return Item(N_SHAPES + int(rng.integers(N_EMOJI)), -1, str(rng.choice(mix.styles)))


def _like(rng: Rng, item: Item, split: Split) -> Item:
    """A thing that is easily mixed up with another: the same kind, for shapes often in another colour."""
    if item.colour_id < 0 or rng.random() < 0.4:
        return item
    colours = [c for c in range(N_COLOURS) if allowed_pair(split, item.class_id, c)]
    return replace(item, colour_id=int(rng.choice(colours)))


def _spatial_items(rng: Rng, split: Split, mix: Mix, low: int, high: int) -> list[Item]:
    items: list[Item] = []
    for _ in range(int(rng.integers(low, high + 1))):
        again = items and rng.random() < 0.12
        items.append(_like(rng, items[0], split) if again else _item(rng, split, mix))
    return items


def _count_items(rng: Rng, split: Split, mix: Mix) -> list[Item]:
    target = _item(rng, split, mix)
    mixed = rng.random() < 0.3
    items = []
    for _ in range(int(rng.integers(1, 5))):
        style = str(rng.choice(mix.styles)) if mixed and target.colour_id < 0 else target.style
        items.append(replace(target, style=style))
    for _ in range(int(rng.integers(0, 3))):
        other = _like(rng, target, split) if target.colour_id >= 0 and rng.random() < 0.25 else _item(rng, split, mix)
        if (other.class_id, other.colour_id) != (target.class_id, target.colour_id):
            items.append(other)
    return [items[i] for i in rng.permutation(len(items))]


def _extents(rng: Rng, n: int) -> list[float]:
    """Sides of n things as shares of the picture: 18 to 46 of 112 pixels, smaller where there are many."""
    high = 0.41 if n <= 2 else 0.36 if n <= 4 else 0.29
    return [float(np.exp(rng.uniform(np.log(0.165), np.log(high)))) for _ in range(n)]


def _background(rng: Rng, side: int, items: list[Item]) -> Image.Image:
    """A plain kind of background that none of the shapes' colours drowns in, if a few tries find one."""
    fills = [np.array(names.COLOURS[item.colour_id].rgb) for item in items if item.colour_id >= 0]
    for _ in range(6):
        colour = backgrounds.plain_colour(rng)
        if all(np.abs(fill - colour).sum() > 170 for fill in fills):
            break
    return backgrounds.plain(rng, side, colour)


def _named(item: Item, box: Box) -> Thing:
    if item.colour_id >= 0:
        noun: names.Noun = names.SHAPES[item.class_id]
        return Thing("shape", item.class_id, item.colour_id, noun.zh, noun.en, noun.measure, box)
    noun = names.EMOJI[item.class_id - N_SHAPES]
    return Thing("emoji", item.class_id, -1, noun.zh, noun.en, noun.measure, box)


def _unit(box: drawing.PixelBox, side: int) -> Box:
    x0, y0, x1, y1 = (min(1.0, max(0.0, edge / side)) for edge in box)
    return x0, y0, x1, y1


def place_items(rng: Rng, canvas: Image.Image, items: list[Item], places: list[Place]) -> list[Thing]:
    """Draw items at their places and return them as things with tight boxes."""
    side = canvas.width
    things = []
    for item, place in zip(items, places, strict=True):
        centre, extent = (place.x * side, place.y * side), place.extent * side
        if item.colour_id >= 0:
            box = drawing.draw_shape(rng, canvas, item.class_id, item.colour_id, centre, extent)
        else:
            box = drawing.draw_emoji(rng, canvas, item.style, item.class_id - N_SHAPES, centre, extent)
        things.append(_named(item, _unit(box, side)))
    return things


def finish(rng: Rng, canvas: Image.Image, size: int) -> Image.Image:
    """Reduce to the wanted size; now and then soften, and vary the exposure a little."""
    picture = canvas.resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8) * size / 112))
    gain, lift = rng.uniform(0.93, 1.05), rng.uniform(-5, 5)
    table = np.clip(np.arange(256) * gain + lift, 0, 255).round().astype(np.uint8)
    return Image.fromarray(table[np.asarray(picture)])


def _random_line(rng: Rng, split: Split) -> str:
    """A printed line: a number of one to three digits (45 %), an English word (20 %) or a Chinese one."""
    while True:
        draw = rng.random()
        if draw < 0.45:
            length = int(rng.integers(2 if split == "novel" else 1, 4))
            text = str(rng.integers(10 ** (length - 1) if length > 1 else 0, 10**length))
        else:
            text = str(rng.choice(names.ENGLISH_WORDS if draw < 0.65 else names.CHINESE_WORDS))
        if split == "heldout" or held_out_text(text) == (split == "novel"):
            return text


def _text_colour(rng: Rng, paper: np.ndarray) -> backgrounds.RGB:
    """A dark, light or vivid ink that stands out from the paper."""
    for _ in range(8):
        ink = (20, 20, 24) if rng.random() < 0.4 else names.COLOURS[int(rng.integers(N_COLOURS))].rgb
        if abs(float((paper - ink) @ (0.299, 0.587, 0.114))) > 90:
            return backgrounds.jitter(rng, ink, 15)
    return drawing.contrast_with(paper)


def _print_line(rng: Rng, canvas: Image.Image, text: str, centre_y: float) -> tuple[Thing, tuple[Glyph, ...]]:
    """Print a line at a random size around a height (unit); it always fits into the picture."""
    side = canvas.width
    face = str(rng.choice(drawing.fonts_for(text)))
    width, height = drawing.text_size(text, face, 100)
    largest = min(0.92 * side / width, 0.5 * side / height) * 100
    size = max(12, round(largest * rng.uniform(0.55, 1.0) / 2) * 2)
    width, height = drawing.text_size(text, face, size)
    half_w, half_h = width / side / 2 + EDGE, height / side / 2 + EDGE
    x = float(rng.uniform(half_w, 1 - half_w)) if half_w < 0.5 else 0.5
    y = float(np.clip(centre_y, half_h, 1 - half_h))
    paper = drawing.mean_colour(canvas, (0, 0, side, side))
    boxes = drawing.draw_text(canvas, text, face, size, (x * side, y * side), _text_colour(rng, paper))
    glyphs = tuple(Glyph(c, _unit(b, side)) for c, b in zip(text, boxes, strict=True))
    whole = np.array([glyph.box for glyph in glyphs])
    box: Box = (*whole[:, :2].min(0).tolist(), *whole[:, 2:].max(0).tolist())
    return Thing("text", TEXT_CLASS, -1, text, text, "", box), glyphs


def _draw_text_scene(rng: Rng, split: Split, mix: Mix, size: int) -> Scene:
    """A printed line on plain paper; one time in four with one small thing above or below it."""
    items = [_item(rng, split, mix)] if rng.random() < 0.25 else []
    canvas = _background(rng, 2 * size, items)
    above = bool(rng.random() < 0.5)
    centre_y = float(rng.uniform(0.25, 0.75)) if not items else 0.74 if above else 0.26
    text = _random_line(rng, split)
    line, glyphs = _print_line(rng, canvas, text, centre_y)
    room = line.box[1] if above else 1 - line.box[3]
    extent = min(0.38, room - 0.06)
    things = [line]
    if items and extent >= 0.16:
        x = float(rng.uniform(extent / 2 + EDGE, 1 - extent / 2 - EDGE))
        y = room / 2 if above else 1 - room / 2
        things += place_items(rng, canvas, items, [Place(x, y, extent)])
    return Scene(finish(rng, canvas, size), tuple(things), -1, "", text, glyphs, "text", split)


def compose(
    rng: Rng,
    items: list[Item],
    scene_id: int,
    *,
    size: int = 112,
    places: list[Place] | None = None,
    kind: PictureKind = "spatial",
    split: Split = "train",
) -> Scene:
    """Draw given items on scene `scene_id` (-1: a plain background), at given or random places."""
    side = 2 * size
    canvas = backgrounds.SCENE_PAINTERS[scene_id](rng, side) if scene_id >= 0 else _background(rng, side, items)
    places = scatter(rng, _extents(rng, len(items))) if places is None else places
    things = tuple(place_items(rng, canvas, items, places))
    background = names.SCENES[scene_id].zh if scene_id >= 0 else ""
    return Scene(finish(rng, canvas, size), things, scene_id, background, None, (), kind, split)


def draw_scene(
    rng: Rng, split: Split = "train", kind: PictureKind | None = None, size: int = 112, mix: Mix | None = None
) -> Scene:
    """Draw one random picture of `size` x `size` pixels.

    `kind` None draws it by the weights of `mix`. Split "train" never shows the held-out pairs and lines,
    "heldout" shows all of them at their natural share, "novel" shows no others.
    """
    mix = mix or Mix()
    if kind is None:
        kinds: tuple[PictureKind, ...] = ("spatial", "count", "single", "scene", "text")
        weights = np.array([getattr(mix, name) for name in kinds])
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    if kind == "text":
        return _draw_text_scene(rng, split, mix, size)
    any_scene = int(rng.integers(len(names.SCENES)))
    scene_id = any_scene if kind == "scene" or (kind != "single" and rng.random() < mix.scene_share) else -1
    places = None
    if kind == "single":
        items = [_item(rng, split, mix)]
        extent = float(rng.uniform(0.36, 0.74))
        half = extent / 2 + EDGE
        x, y = np.clip(rng.normal(0.5, 0.1, 2), half, 1 - half).tolist()
        places = [Place(x, y, extent)]
        scene_id = any_scene if rng.random() < 0.15 else -1
    elif kind == "count":
        items = _count_items(rng, split, mix)
    elif kind == "scene":
        items = _spatial_items(rng, split, mix, 0, 3)
    else:
        items = _spatial_items(rng, split, mix, mix.min_objects, mix.max_objects)
    return compose(rng, items, scene_id, size=size, places=places, kind=kind, split=split)
