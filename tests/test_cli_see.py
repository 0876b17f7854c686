"""What the model sees of a picture, and pieces and tiles of pictures."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Bellevl
from PIL import Image, ImageDraw, ImageFilter

from bellevl.drawing import font_of
from bellevl.errors import PictureError
from bellevl.grounding import Box
from bellevl.image import open_picture
from bellevl_cli.pictures import told
from bellevl_cli.pictures.asked import open_asked
from bellevl_cli.pictures.boxes import place
from bellevl_cli.pictures.crop import crop, crop_asked, parse_area, zoom
from bellevl_cli.pictures.looks import measure, text_height
from bellevl_cli.pictures.tiles import MOST_TILES, join_answers, tiles
from bellevl_cli.pictures.wishes import PictureWishes

CHINESE = "发票号码与金额合计如下请仔细核对后签字确认并保存备查感谢您的光临"
ENGLISH = "The quick brown fox jumps over the lazy dog and runs away again"


def page(
    text: str, pixels: int, size: tuple[int, int] = (900, 900), ink: str = "black", paper: str = "white"
) -> Image.Image:
    """Lines of text of that font size."""
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    for top in range(20, size[1] - 2 * pixels, round(1.7 * pixels)):
        draw.text((20, top), text, font=font_of(pixels), fill=ink)
    return image


def noise(size: tuple[int, int] = (600, 400)) -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


# ---- what is lost


@pytest.mark.parametrize("pixels", [12, 20, 32])
@pytest.mark.parametrize(("ink", "paper"), [("black", "white"), ("#d0d0d0", "#202020")])
def test_height_of_text(pixels: int, ink: str, paper: str) -> None:
    """Chinese text is found as high as its characters are, on light and dark, among larger text, too."""
    image = page(CHINESE, pixels, ink=ink, paper=paper)
    found = text_height(open_picture(image))
    assert found is not None and 0.75 * pixels <= found <= 1.1 * pixels
    mixed = Image.new("RGB", (900, 1400), paper)
    mixed.paste(page(CHINESE, 60, (900, 500), ink, paper), (0, 0))
    mixed.paste(image, (0, 500))
    found = text_height(open_picture(mixed))
    assert found is not None and 0.75 * pixels <= found <= 1.1 * pixels


def test_height_of_english_text() -> None:
    """English text is found between the height of its small letters and that of its lines."""
    found = text_height(open_picture(page(ENGLISH, 24)))
    assert found is not None and 11 <= found <= 26


@pytest.mark.parametrize("kind", ["noise", "blurred", "plain", "gradient", "shapes"])
def test_no_text_where_there_is_none(kind: str) -> None:
    """Noise, flat areas and shapes are not taken for lines of text."""
    shapes = Image.new("RGB", (600, 400), "white")
    for n in range(8):
        ImageDraw.Draw(shapes).ellipse((n * 70, 40 * n, n * 70 + 90, 40 * n + 90), outline="black", width=5)
    pictures = {
        "noise": noise(),
        "blurred": noise().filter(ImageFilter.GaussianBlur(3)),
        "plain": Image.new("RGB", (600, 400), "red"),
        "gradient": Image.linear_gradient("L").resize((600, 400)).convert("RGB"),
        "shapes": shapes,
    }
    assert text_height(open_picture(pictures[kind])) is None


def warned(image: Image.Image) -> tuple[str, ...]:
    return measure(open_picture(image), 448).warnings


def test_warnings() -> None:
    """Each warning comes for what it is about, and a good picture has none."""
    good = page(CHINESE, 60)
    assert warned(good) == ()
    assert warned(Image.open(ROOT / "examples" / "cat.png").convert("RGB")) == ()
    assert warned(good.crop((0, 0, 900, 280))) == ("aspect",)
    assert warned(page(CHINESE, 12)) == ("text",)
    assert "blur" in warned(good.filter(ImageFilter.GaussianBlur(12)))
    assert "dark" in warned(good.point(lambda v: v // 10))
    assert warned(Image.new("RGB", (300, 200), "red")) == ("plain",)
    assert "dark" not in warned(page(CHINESE, 60, ink="#d0d0d0", paper="#202020"))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2), (96, 8), (5000, 2)])
def test_pictures_of_any_size_are_measured(size: tuple[int, int]) -> None:
    """However small or thin a picture is, there is an answer and no error."""
    assert measure(open_picture(Image.new("RGB", size, "white")), 448).aspect >= 1


# ---- bellevl see


def test_see_json(bellevl: Bellevl, tmp_path: Path) -> None:
    """--json says size, what the model sees, and each warning with its id; -o has exactly the model's square."""
    path = tmp_path / "长图 1.png"
    page(CHINESE, 14, (1500, 500)).save(path)
    done = bellevl("see", path, "--json", "-o", tmp_path / "看.png")
    assert (done.returncode, done.stderr) == (0, b"")
    record = json.loads(done.stdout)
    side = record["seen"][0]
    assert record["image"]["size"] == [1500, 500] and record["aspect"] == 3.0
    assert [warning["id"] for warning in record["warnings"]] == ["aspect", "text"]
    assert "3.0:1" in record["warnings"][0]["text"]
    square = Image.open(path).resize((side, side), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "看.png")), np.asarray(square))


def test_see_says_it_in_words(bellevl: Bellevl, tmp_path: Path) -> None:
    """Without --json: sizes, that the photo was turned, and the warnings; no escape sequence into a pipe."""
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    page(CHINESE, 60, (300, 900)).save(path, exif=exif)
    done = bellevl("see", path)
    text = done.stdout.decode()
    assert done.returncode == 0
    assert "900×300" in text and "已按 EXIF 旋转 90°" in text and "长宽比 3.0:1，会变形" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "图片"), (["none.png"], 3, "找不到"), (["PICTURE", "--clip"], 2, "--clip"),
        (["PICTURE", "--crop", "1,2"], 2, "100,200,800,600"), (["PICTURE", "--frame", "2"], 3, "共 1 帧"),
        (["PICTURE", "-o", "x"], 2, ".png"),
    ],
)  # fmt: skip
def test_see_used_wrongly(bellevl: Bellevl, picture: Path, arguments: list[str], code: int, said: str) -> None:
    """One line with cause and cure, and the exit code of its kind."""
    done = bellevl("see", *(str(picture) if a == "PICTURE" else a for a in arguments))
    assert (done.returncode, done.stdout) == (code, b"") and said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_notes_on_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """All eight orientations have their words, and what else was done is told."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        Image.new("RGBA", (8, 6)).save(file, "PNG", exif=exif)
        file.seek(0)
        notes = told.notes(open_picture(file))
        assert len(notes) == (1 if orientation == 1 else 2) and notes[-1] == "透明处已填底色"
    assert told.notes(open_picture(Image.new("RGB", (8, 6)))) == []


# ---- pieces


@pytest.mark.parametrize(
    ("spec", "area"),
    [
        ("100,200,400,500", (100, 200, 400, 500)), ("100，200，400，500", (100, 200, 400, 500)),
        ("10% 20% 50% 100%", (80, 120, 400, 600)), ("700,500,9999,9999", (700, 500, 800, 600)),
        ("-50,0,100px,50 %", (0, 0, 100, 300)), ("左上", (0, 0, 400, 300)), ("右下", (400, 300, 800, 600)),
        ("Top", (0, 0, 800, 300)), ("bottom-left", (0, 300, 400, 600)), ("中", (200, 150, 600, 450)),
    ],
)  # fmt: skip
def test_pieces_as_people_write_them(spec: str, area: tuple[int, ...]) -> None:
    """Pixels, percents and words, with Chinese commas too; beyond the picture is cut off."""
    assert parse_area(spec, (800, 600)) == area


@pytest.mark.parametrize(
    "spec", ["", "1,2,3", "a,b,c,d", "400,0,100,50", "900,0,1000,50", "5,5,6,6", "9e9,1,2,3", "1," * 9]
)
def test_pieces_that_are_none(spec: str) -> None:
    """What is no place in the picture is a usage error that shows how to write one."""
    with pytest.raises(PictureError) as error:
        parse_area(spec, (800, 600))
    assert error.value.message == "picture.crop"


def test_a_piece_has_the_picture_s_own_pixels(picture: Path) -> None:
    """A piece is cut, not scaled; a piece of a piece is placed in the whole; boxes lead back."""
    asked = open_asked(str(picture))
    piece = crop_asked(crop_asked(asked, "20,10,60,40"), "10,10,30,20")
    assert (piece.area, piece.picture.size) == ((30, 20, 50, 30), (20, 10))
    assert np.array_equal(np.asarray(piece.picture.image), np.asarray(asked.picture.image.crop((30, 20, 50, 30))))
    assert piece.uncut is asked.picture
    assert place([Box("", (0, 0, 1000, 1000))], piece.uncut.size, piece.area)[0].xyxy_px == (30, 20, 50, 30)


def test_zoom_shows_the_box_with_room_around(picture: Path) -> None:
    """Zooming to a box keeps all of it in view and is nearly square; a number that is not there is told."""
    asked = open_asked(str(picture))
    boxes = [Box("a", (0, 0, 100, 100)), Box("b", (400, 300, 700, 600))]
    left, top, right, bottom = zoom(asked, boxes, 2).area or (0, 0, 0, 0)
    assert left <= 24 and top <= 12 and right >= 42 and bottom >= 24
    assert right - left <= 60 and bottom - top <= 40
    with pytest.raises(PictureError) as error:
        zoom(asked, boxes, 3)
    assert error.value.message == "picture.no_box"


def test_piece_of_a_picture_that_was_opened_smaller() -> None:
    """In a huge picture pieces are counted in its own pixels, though it was opened at half size."""
    from dataclasses import replace

    whole = replace(open_picture(Image.linear_gradient("L").convert("RGB")), size=(512, 512))
    piece, area = crop(whole, "左下")
    assert area == (0, 256, 256, 512) and piece.size == (256, 256) and piece.image.size == (128, 128)


# ---- tiles


def test_tiles_cover_a_long_picture() -> None:
    """Tiles overlap, leave nothing out, are about square and come in reading order; a short picture is one."""
    for size in ((300, 2400), (2400, 300), (300, 751)):
        found = tiles(open_picture(Image.new("RGB", size)))
        axis = 1 if size[1] > size[0] else 0
        spans = [(tile.area[axis], tile.area[axis + 2]) for tile in found]
        assert spans[0][0] == 0 and spans[-1][1] == max(size)
        assert all(before[1] > after[0] > before[0] for before, after in itertools.pairwise(spans))
        assert all(max(tile.picture.size) < 1.6 * min(tile.picture.size) for tile in found)
        assert [tile.number for tile in found] == list(range(1, found[0].count + 1))
    assert len(tiles(open_picture(Image.new("RGB", (300, 600))))) == 1
    assert len(tiles(open_picture(Image.new("RGB", (10, 100_000))))) == MOST_TILES


def test_tiles_do_not_cut_lines_of_text() -> None:
    """The edges of tiles fall between lines."""
    image = page(CHINESE, 24, (400, 3000))
    rows = np.asarray(image.convert("L")).min(axis=1)
    for tile in tiles(open_picture(image))[1:]:
        assert rows[tile.area[1]] == 255


def test_number_of_tiles() -> None:
    """A number is taken as it is, within bounds."""
    assert len(tiles(open_picture(Image.new("RGB", (300, 400))), 3)) == 3
    for count in (0, MOST_TILES + 1):
        with pytest.raises(PictureError):
            tiles(open_picture(Image.new("RGB", (300, 400))), count)
    for text, count in (("auto", None), ("0", 1), ("7", 7)):
        assert PictureWishes(tiles=text).tile_count() == count
    for text in ("-1", "many", "1000", "²"):
        with pytest.raises(PictureError):
            PictureWishes(tiles=text).tile_count()


def test_answers_of_tiles_are_joined() -> None:
    """Lines that two tiles both read are said once; everything else stays in order."""
    assert join_answers(["甲\n乙\n丙。", "丙\n丁", "丁\n丁\n戊"]) == "甲\n乙\n丙。\n丁\n丁\n戊"
    assert join_answers(["一只狗", "一只猫"]) == "一只狗\n一只猫"
    assert join_answers(["", "a", "", "a"]) == "a"
