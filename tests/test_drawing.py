"""Boxes drawn on pictures: where they are, in which colour, and labels that can be read in Chinese."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bellevl import drawing
from bellevl.drawing import COLOURS, Marked, caption, colours_of, draw_boxes, draw_marked, font_of
from bellevl.grounding import Box


def ink(image: Image.Image) -> int:
    """How many pixels are near white: the letters of labels, on black."""
    return int((np.asarray(image) > 200).all(axis=2).sum())


def test_box_is_drawn_where_it_is() -> None:
    """The frame's colour covers the box's outermost pixels and none beyond them on the sides without a label."""
    box = Box("", (250, 500, 750, 900))
    drawn = np.asarray(draw_boxes(Image.new("RGB", (400, 300), "white"), [box]))
    ys, xs = np.nonzero((drawn != 255).any(axis=2))
    left, top, right, bottom = box.pixels(400, 300)
    assert (xs.min(), xs.max(), ys.max()) == (left, right - 1, bottom - 1)
    assert (drawn[top, left:right] != 255).any(axis=1).all()


@pytest.mark.parametrize("corner", [(0, 0, 20, 20), (980, 0, 1000, 20), (980, 980, 1000, 1000), (0, 980, 9, 1000)])
def test_label_stays_in_the_picture(corner: tuple[int, int, int, int]) -> None:
    """A label at any edge is written whole: as much of it shows as in the middle."""

    def label_ink(box: Box) -> int:
        return ink(draw_boxes(Image.new("RGB", (400, 300), "black"), [box]))

    assert label_ink(Box("狗", corner)) == label_ink(Box("狗", (400, 400, 420, 420))) > 20


def test_long_label_is_cut_to_the_picture() -> None:
    """A label wider than the picture ends in … and its number, inside the picture; a tiny picture still works."""
    label = "一只非常大的黄色拉布拉多犬坐在草地上看着远处的山" * 3
    drawn = np.asarray(draw_marked(Image.new("RGB", (200, 100), "black"), [Marked(label, 7, (0, 60, 199, 99))]))
    assert (drawn[:, -1] <= 200).any() and ink(Image.fromarray(drawn)) > 50
    text, font = drawing._fitting(Marked(label, 7, (0, 0, 9, 9)), font_of(12), 200)
    assert text.endswith("…[7]") and font.getlength(text) <= 200
    assert draw_marked(Image.new("RGB", (3, 3)), [Marked("狗", 1, (0, 0, 3, 3))]).size == (3, 3)


def test_drawing_leaves_the_picture_alone() -> None:
    """The boxes are on a copy, labels have a colour each, and without boxes nothing changes."""
    image = Image.new("RGB", (200, 200), "white")
    drawn = draw_boxes(image, [Box("a", (0, 0, 900, 900)), Box("b", (100, 300, 500, 990))])
    assert image.getextrema() == ((255, 255), (255, 255), (255, 255))
    assert drawn.getpixel((100, 0)) != drawn.getpixel((20, 150)) != (255, 255, 255)
    assert np.array_equal(np.asarray(draw_boxes(image, [])), np.asarray(image))


def test_a_label_keeps_its_colour() -> None:
    """The same label is the same colour in another picture and order; different ones differ while colours last."""
    assert colours_of(["狗"])["狗"] == colours_of(["狗", "狗"])["狗"] in COLOURS
    many = [f"物体{n}" for n in range(len(COLOURS))]
    assert sorted(colours_of(many).values()) == sorted(COLOURS)
    assert len(colours_of([*many, "再一个"])) == len(COLOURS) + 1


def test_labels_do_not_cover_each_other() -> None:
    """Two boxes at one place have both their labels readable: twice the letters of one."""
    image = Image.new("RGB", (400, 400), "black")
    one = ink(draw_marked(image, [Marked("狗", 1, (100, 100, 300, 300))]))
    both = ink(draw_marked(image, [Marked("狗", n, (100, 100, 300, 300)) for n in (1, 1)]))
    assert both == 2 * one


def test_labels_are_written_in_any_common_chinese() -> None:
    """The bundled font has simplified and traditional characters, kana and signs; what it lacks is left out."""
    font = font_of(20)
    assert font.getname()[0] == "Noto Sans CJK SC"  # type: ignore[union-attr]
    for label in ("狗", "發票號碼", "あア", "《餐馆》，。￥€", "Ünïcode naïve"):
        assert caption(label, 1, font) == f"{label}[1]"
    assert caption("狗🐶", 2, font) == "狗[2]"
    assert caption("🐶", 3, font) == "[3]"


def test_without_the_font_labels_are_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package came without its font, boxes are drawn with Pillow's own."""
    monkeypatch.setattr(drawing, "FONT", drawing.FONT.with_name("no.otf"))
    font_of.cache_clear()
    try:
        assert ink(draw_boxes(Image.new("RGB", (300, 300), "black"), [Box("dog", (100, 100, 900, 900))])) > 20
    finally:
        font_of.cache_clear()
