"""Pictures: the published arithmetic bit for bit, files of every kind, and files that are refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import threading
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from safetensors.torch import load_file

import bellevl.image
from bellevl.errors import PictureError
from bellevl.image import MEAN, MOST_PIXELS, STD, Picture, open_picture, preprocess
from bellevl.picture_files import find_picture, name_readings, nearest_name

GOLDEN = Path(__file__).parent / "golden" / "model"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))["preprocess"]
TENSORS = load_file(GOLDEN / "tensors" / "preprocess.safetensors")

Image.init()
AVIF = ["AVIF"] if "AVIF" in Image.SAVE else []  # since Pillow 11.3


def refused(source: Any) -> PictureError:
    """The error that `source` is refused with; it has to be one line."""
    with pytest.raises(PictureError) as caught:
        open_picture(source)
    assert "\n" not in str(caught.value)
    return caught.value


# ---- the published arithmetic


@pytest.mark.parametrize("case", MANIFEST["files"], ids=[c["file"] for c in MANIFEST["files"]])
def test_golden_preprocess(case: dict[str, Any]) -> None:
    """Every level of every pixel is the published one, and so is every normalised bit that was stored."""
    with Image.open(GOLDEN / "images" / case["file"]) as image:
        assert (image.mode, list(image.size)) == (case["mode"], case["size_wh"])
        values = preprocess(image, MANIFEST["image_size"])
    assert values.dtype == torch.float32 and values.shape == (3, 112, 112) and values.is_contiguous()
    levels = (values * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    assert (levels - levels.round()).abs().max() < 1e-3
    resized = TENSORS[f"resized_uint8.{case['file']}"]
    assert torch.equal(levels.round().to(torch.uint8).permute(1, 2, 0), resized)
    assert values.double().sum().item() == pytest.approx(case["sum_normalised"], abs=1e-9)
    assert values[:, 0, 0].tolist() == case["corner_normalised_[:,0,0]"]
    stored = TENSORS.get(f"normalised_float32.{case['file']}")
    assert stored is None or torch.equal(values, stored)


def test_golden_normalised_are_stored() -> None:
    """Two pictures are stored normalised, so the comparison above does compare bits."""
    assert {f"normalised_float32.{n}" for n in ("rgb_wide.png", "rgb_tall.png")} <= set(TENSORS)


@pytest.mark.parametrize("name", MANIFEST["sha256_of_resized448_uint8_HWC"])
def test_golden_resize_to_448(name: str) -> None:
    """At the model's own 448 pixels the resized levels are the published ones."""
    with Image.open(GOLDEN / "images" / name) as image:
        values = preprocess(image, 448)
    levels = (values * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    data = levels.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy().tobytes()
    assert hashlib.sha256(data).hexdigest() == MANIFEST["sha256_of_resized448_uint8_HWC"][name]
    with Image.open(GOLDEN / "images" / f"_resized448_{name}") as stored:
        assert stored.tobytes() == data


@pytest.mark.parametrize("case", MANIFEST["files"], ids=[c["file"] for c in MANIFEST["files"]])
def test_opening_changes_only_what_it_says(case: dict[str, Any]) -> None:
    """A picture that is not turned and has no alpha goes to the model as in the published code."""
    path = GOLDEN / "images" / case["file"]
    picture = open_picture(path)
    assert picture.notes == {"rgba.png": ("matte",), "exif_rot.jpg": ("turned",)}.get(case["file"], ())
    if not picture.notes:
        with Image.open(path) as image:
            assert torch.equal(preprocess(picture.image, 112), preprocess(image, 112))


# ---- what a person sees


def scene(width: int = 24, height: int = 18) -> Image.Image:
    """A picture whose corners differ, in flat areas that JPEG keeps."""
    image = Image.new("RGB", (width, height), "white")
    image.paste((255, 0, 0), (0, 0, width // 2, height // 2))
    image.paste((0, 0, 255), (width // 2, height // 2, width, height))
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def near(one: Image.Image, other: Image.Image, most: int = 0) -> bool:
    if one.size != other.size or one.mode != other.mode:
        return False
    a, b = np.asarray(one, dtype=np.int16), np.asarray(other, dtype=np.int16)
    return bool(np.abs(a - b).max() <= most)


#: How a camera that holds each orientation has stored the upright picture.
STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda i: i,
    2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
    4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
    6: lambda i: i.transpose(Image.Transpose.ROTATE_90),
    7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
    8: lambda i: i.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_all_eight_orientations_stand_upright(orientation: int, kind: str) -> None:
    """Whatever way the camera was held, the picture is upright, and stays so when opened again."""
    upright = scene(32, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    picture = open_picture(saved(STORED[orientation](upright), kind, exif=exif, **options))
    assert picture.size == picture.image.size == (32, 16)
    assert near(picture.image, upright, 4)
    again = open_picture(picture.image)
    assert near(again.image, picture.image)
    if kind != "TIFF":  # Pillow itself turns these
        assert picture.orientation == orientation
        assert picture.notes == (("turned",) if orientation != 1 else ())


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientation_that_does_not_exist(orientation: int) -> None:
    """A senseless tag turns nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert near(open_picture(saved(scene(), "PNG", exif=exif)).image, scene())


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    """A picture with garbage for EXIF data opens as it is."""
    picture = open_picture(saved(scene(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff\xff"))
    assert near(picture.image, scene())


def half_transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("PA", "")],
)
def test_transparent_shows_white(mode: str, kind: str) -> None:
    """Where a picture is transparent it is white, half where half transparent."""
    image = half_transparent(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = open_picture(saved(image, kind, **options) if kind else image)
    assert [picture.image.getpixel((x, 0)) for x in (0, 1, 3)] == [(255,) * 3, (127,) * 3, (0,) * 3]
    assert picture.notes == ("matte",)


def palette() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(kind: str) -> None:
    """The palette's transparent entry is white, the others keep their colours."""
    image = open_picture(saved(palette(), kind, transparency=0)).image
    assert [image.getpixel((x, 0)) for x in range(3)] == [(255, 255, 255), (255, 0, 0), (0, 0, 255)]


def test_palette_with_alpha_of_its_own() -> None:
    """Each palette entry may be transparent to its own degree."""
    image = open_picture(saved(palette(), "PNG", transparency=bytes([255, 0, 128]))).image
    assert [image.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (255, 255, 255), (127, 127, 255)]


def test_colour_key() -> None:
    """A PNG whose one colour is transparent without an alpha channel shows white there."""
    image = open_picture(saved(scene(), "PNG", transparency=(255, 0, 0))).image
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((23, 17)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("values", "dtype", "kind", "levels"),
    [
        ([0, 32896, 65535], np.uint16, "PNG", [0, 128, 255]),
        ([0, 32896, 65535], ">u2", "TIFF", [0, 128, 255]),
        ([0, 257, 514], np.uint16, "TIFF", [0, 1, 2]),
        ([0, 128, 255], np.int32, "TIFF", [0, 128, 255]),
        ([0, 502_000, 1_000_000], np.int32, "TIFF", [0, 128, 255]),
        ([0.0, 0.5, 1.0], np.float32, "TIFF", [0, 128, 255]),
        ([0.0, 128.0, 255.0], np.float32, "TIFF", [0, 128, 255]),
        ([-5.0, float("nan"), 1.0], np.float32, "TIFF", [0, 0, 255]),
        ([float("inf"), 0.0, 0.0], np.float32, "TIFF", [0, 0, 0]),
    ],
)
def test_deep_grey_is_scaled(values: list[float], dtype: Any, kind: str, levels: list[int]) -> None:
    """Grey of 16 or 32 bits keeps its shades instead of being cut off at 255."""
    picture = open_picture(saved(Image.fromarray(np.array([values], dtype=dtype)), kind))
    assert [picture.image.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in levels]
    assert picture.notes == ("depth",)


@pytest.mark.parametrize("profile", [None, b"no profile at all"])
def test_printing_colours(profile: bytes | None) -> None:
    """A CMYK JPEG has its colours, also where its profile is damaged."""
    cmyk = scene().convert("CMYK")
    picture = open_picture(saved(cmyk, "JPEG", quality=100, subsampling=0, icc_profile=profile))
    assert near(picture.image, scene(), 6)
    assert picture.notes == ("colours",)


def test_lab_colours() -> None:
    """A LAB picture, which Pillow alone refuses to convert, has its colours."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(scene(), srgb, lab, outputMode="LAB")
    assert image is not None
    assert near(open_picture(saved(image, "TIFF")).image, scene(), 24)  # LAB of 8 bits is that coarse


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame(kind: str) -> None:
    """Of an animation, or a file of several pages, the first picture is taken, and that is noted."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = open_picture(file)
    assert picture.image.getpixel((4, 4)) == (255, 0, 0)
    assert picture.notes == ("frame",)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "RGBX"])
def test_every_other_mode_becomes_rgb(mode: str) -> None:
    """What needs no special care is converted as in the published code."""
    image = scene().convert(mode)
    picture = open_picture(image)
    assert near(picture.image, image.convert("RGB"))
    assert picture.notes == ()


FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", *AVIF, "JPEG2000"]


@pytest.mark.parametrize("kind", FORMATS)
def test_content_decides_not_the_name(tmp_path: Path, kind: str) -> None:
    """Every format opens under a name that says another, or none."""
    options = {"ICO": {"sizes": [(24, 18)]}}.get(kind, {})
    for name in ("picture.jpg", "picture.txt", "picture"):
        (tmp_path / name).write_bytes(saved(scene(), kind, **options).getvalue())
        picture = open_picture(tmp_path / name)
        assert (picture.format, picture.size, picture.path) == (kind, (24, 18), tmp_path / name)
        red, green, blue = picture.image.getpixel((3, 3))
        assert red > 200 and green < 60 and blue < 60


def test_heic() -> None:
    """A telephone's HEIC photo opens like any other."""
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(scene(64, 48)).save(file, quality=95)
    file.seek(0)
    picture = open_picture(file)
    assert (picture.format, picture.size) == ("HEIF", (64, 48))
    assert near(picture.image, scene(64, 48), 40)


def test_heic_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pillow-heif is missing, a HEIC photo is refused with the name of the package."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refused(io.BytesIO(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)))
    assert error.message == "picture.heic"
    assert "pip install pillow-heif" in str(error)


def test_pil_image_is_left_alone() -> None:
    """The caller's own image is copied, not changed, and keeps what it knows."""
    image = scene()
    image.info["mine"] = 1
    picture = open_picture(image)
    picture.image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (255, 0, 0)
    assert image.info == {"mine": 1}
    assert open_picture(picture) is picture


def test_picture_outlives_its_file(tmp_path: Path) -> None:
    """The pixels are there when the file is gone, and no file stays open."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for kind in ("PNG", "TIFF", "GIF", "WEBP"):
            path = tmp_path / kind
            path.write_bytes(saved(scene(), kind, **({"lossless": True} if kind == "WEBP" else {})).getvalue())
            picture = open_picture(path)
            path.unlink()
            assert near(picture.image.copy(), scene())


# ---- large pictures


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is of that size and has almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (100_000, 100_000), (MOST_PIXELS + 1, 1)])
def test_decompression_bomb_is_refused_by_its_header(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture above the limit is refused, its size named, before a pixel is decoded."""
    monkeypatch.setattr(bellevl.image, "_load", lambda *_: pytest.fail("was decoded"))
    error = refused(io.BytesIO(png_header(width, height)))
    assert error.message == "picture.huge"
    assert f"{width * height:,}" in str(error)


def test_bomb_is_refused_without_pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is ours, also where a program has turned Pillow's off."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert refused(io.BytesIO(png_header(20_000, 20_000))).message == "picture.huge"


def test_icon_that_hides_a_bomb() -> None:
    """An icon's directory says 16 x 16, the PNG inside is huge: refused all the same."""
    inner = png_header(60_000, 60_000)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    error = refused(io.BytesIO(struct.pack("<HHH", 0, 1, 1) + entry + inner))
    assert error.message in ("picture.huge", "picture.broken")


def test_largest_allowed_size_is_not_refused_for_it() -> None:
    """Just at the limit the header passes; this file then is cut short, which is another error."""
    width = 9454
    assert width * (MOST_PIXELS // width) <= MOST_PIXELS
    assert refused(io.BytesIO(png_header(width, MOST_PIXELS // width))).message == "picture.broken"


@pytest.mark.parametrize("orientation", [1, 6])
def test_huge_jpeg_is_decoded_at_half_size(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG above the bound is decoded small, and still says its own size, upright."""
    monkeypatch.setattr(bellevl.image, "DRAFT_ABOVE", 1_000_000)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(STORED[orientation](scene(1600, 1200)), "JPEG", exif=exif)
    picture = open_picture(file)
    assert picture.image.size == (800, 600)
    assert picture.size == (1600, 1200)
    assert "reduced" in picture.notes
    assert near(picture.image.resize((16, 12)), scene(1600, 1200).resize((16, 12)), 12)


def test_ordinary_jpeg_is_decoded_whole() -> None:
    """A photo of 12 million pixels is not reduced."""
    picture = open_picture(saved(Image.new("RGB", (4000, 3000), "red"), "JPEG"))
    assert picture.image.size == picture.size == (4000, 3000)
    assert picture.notes == ()


# ---- files that are refused


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *AVIF])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_file(kind: str, part: float) -> None:
    """A file of which a part is missing is refused, never answered about in part."""
    noise = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind).getvalue()
    assert refused(io.BytesIO(data[: int(len(data) * part)])).message == "picture.broken"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *AVIF, "ICO", "JPEG2000"])
def test_damaged_bytes_never_escape(kind: str) -> None:
    """With any bytes of a file changed, it opens or is refused in one line; nothing else is raised."""
    data = saved(scene(), kind, **({"sizes": [(24, 18)]} if kind == "ICO" else {})).getvalue()
    dice = random.Random(kind)
    refusals: list[str] = []
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            picture = open_picture(io.BytesIO(bytes(damaged)))
        except PictureError as error:
            refusals.append(str(error))
        else:
            assert picture.image.mode == "RGB" and min(picture.size) > 0
    assert not any("\n" in line for line in refusals)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n <!DOCTYPE html><html>", "HTML"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "MP4"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"just text", "just tex"),
        (bytes(500), "x00"),
    ],
)
def test_not_a_picture(tmp_path: Path, data: bytes, reason: str) -> None:
    """What is no picture is refused with what it seems to be, even under a picture's name."""
    (tmp_path / "a.jpg").write_bytes(data)
    error = refused(tmp_path / "a.jpg")
    assert error.message == "picture.not_a_picture"
    assert reason in str(error)


def test_empty_file_and_stream(tmp_path: Path) -> None:
    """Nothing at all has its own message, from a file and from stdin."""
    (tmp_path / "a.jpg").touch()
    assert refused(tmp_path / "a.jpg").message == "picture.empty"
    assert refused(io.BytesIO()).message == "picture.empty"


def test_endless_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is read up to a limit only."""
    monkeypatch.setattr(bellevl.image, "LONGEST_STREAM", 1000)
    file = io.BytesIO(b"\xff\xd8\xff" + bytes(5000))
    assert refused(file).message == "picture.not_a_picture"
    assert file.tell() == 1001


@pytest.mark.parametrize("name", ["没有.png", "a\0b", "n" * 5000, "no/such/folder/x.png", "http://x.org/a.png"])
def test_missing_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A name that is nowhere, or cannot be one, is missing, and the folder looked into is named."""
    monkeypatch.chdir(tmp_path)
    error = refused(name)
    assert error.message == "picture.missing"
    assert str(error.facts["folder"]).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("Cat.PNG", "cat.png"),
        ("cat.jpg", "cat.png"),
        ("caat.png", "cat.png"),
        ("我的猫片.jpg", "我的猫照片.jpg"),
    ],
)
def test_missing_picture_with_a_near_name(tmp_path: Path, typed: str, suggested: str) -> None:
    """A near name in the folder is offered: other case, other ending, a slip."""
    for name in ("cat.png", "我的猫照片.jpg", "zzz.txt", ".cat.pngx"):
        (tmp_path / name).touch()
    error = refused(str(tmp_path / typed))
    assert error.message == "picture.missing"
    assert f"({suggested}?)" in str(error)


def test_no_far_fetched_suggestion(tmp_path: Path) -> None:
    """A name that resembles nothing gets no suggestion."""
    (tmp_path / "cat.png").touch()
    assert refused(str(tmp_path / "holiday in Rome.jpg")).facts["near"] == ""
    assert nearest_name("x.png", []) is None


def test_folder(tmp_path: Path) -> None:
    """A folder is named as such."""
    assert refused(tmp_path).message == "picture.folder"
    assert refused(str(tmp_path) + "/").message == "picture.folder"


def test_device_is_not_read() -> None:
    """A device, which may never end, is not opened."""
    assert refused("/dev/zero").message == "picture.unreadable"


@pytest.mark.parametrize("call", ["open", "stat"])
def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Where the system refuses to look or to read, its reason is given."""
    path = tmp_path / "a.png"
    path.write_bytes(saved(scene(), "PNG").getvalue())

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, call, refuse)
    error = refused(str(path))
    assert error.message == "picture.unreadable"
    assert "Permission denied" in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_read(tmp_path: Path) -> None:
    """A named pipe, as `<(command)` makes, gives its picture."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = saved(scene(), "PNG").getvalue()
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    assert near(open_picture(path).image, scene())
    writer.join(timeout=10)


# ---- names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working and home folder, with one picture in it and one in a folder below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "图 片").mkdir()
    for name in ("my cat's photo.png", "图 片/小猫 (1).png"):
        (tmp_path / name).write_bytes(saved(scene(), "PNG").getvalue())
    return tmp_path


@pytest.mark.parametrize(
    "typed",
    [
        "图 片/小猫 (1).png",
        "  图 片/小猫 (1).png \n",
        "\N{IDEOGRAPHIC SPACE}图 片/小猫 (1).png",
        "'图 片/小猫 (1).png'",
        '"图 片/小猫 (1).png"',
        "“图 片/小猫 (1).png”",
        "‘图 片/小猫 (1).png’",
        "「图 片/小猫 (1).png」",
        r"图\ 片/小猫\ \(1\).png",
        "~/图 片/小猫 (1).png",
        "'~/图 片/小猫 (1).png'",
        "./图 片/../图 片/小猫 (1).png",
        "file://{folder}/图 片/小猫 (1).png",
        "file:///{quoted}/%E5%9B%BE%20%E7%89%87/%E5%B0%8F%E7%8C%AB%20(1).png",
        "file://localhost{folder}/%E5%9B%BE%20%E7%89%87/%E5%B0%8F%E7%8C%AB%20(1).png",
        "FILE:{folder}/图 片/小猫 (1).png",
        '"file://{folder}/图 片/小猫 (1).png"',
    ],
)
def test_names_as_people_give_them(folder: Path, typed: str) -> None:
    """Spaces, quotes, escapes, `~`, file:// URLs and CJK names all lead to the file."""
    typed = typed.replace("{folder}", str(folder)).replace("{quoted}", str(folder)[1:])
    assert os.path.samefile(find_picture(typed), folder / "图 片" / "小猫 (1).png")


@pytest.mark.parametrize("name", ["'cat'.png", "a b", r"a\ b.png", "file:x", "100%20.png", "~x.png", " c.png"])
def test_name_as_it_stands_comes_first(folder: Path, name: str) -> None:
    """A file that really has quotes, escapes or blanks in its name is found by it, not another one."""
    for real in (name, "cat.png", "a b.png", "x", "100 .png", "c.png"):
        (folder / real).touch()
    assert find_picture(name).name == name


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_accents_stored_otherwise_than_typed(folder: Path, stored: str, typed: str) -> None:
    """A name typed composed finds the file stored decomposed, and the other way round."""
    name = "café ガ 한국.png"
    (folder / unicodedata.normalize(stored, name)).write_bytes(saved(scene(), "PNG").getvalue())
    assert find_picture(unicodedata.normalize(typed, name)).is_file()


def test_accents_mixed_within_a_name(folder: Path) -> None:
    """A stored name that is neither composed nor decomposed throughout is found too."""
    mixed = unicodedata.normalize("NFC", "é") + unicodedata.normalize("NFD", "é") + ".png"
    (folder / mixed).write_bytes(saved(scene(), "PNG").getvalue())
    assert find_picture("éé.png").name == mixed


def test_path_of_300_characters(folder: Path) -> None:
    """A long Chinese path, which would not fit into a published picture slot, opens."""
    deep = folder / ("很长的文件夹名字" * 8) / ("很长的文件夹名字" * 8) / ("很长的文件夹名字" * 8)
    deep.mkdir(parents=True)
    path = deep / ("照片" * 38 + ".png")
    path.write_bytes(saved(scene(), "PNG").getvalue())
    assert len(str(path)) > 270
    assert open_picture(str(path)).size == (24, 18)


def test_windows_path_under_wsl() -> None:
    """A Windows path is also read as the place where WSL mounts that drive."""
    assert Path("/mnt/c/Users/me/图.png") in list(name_readings(r"C:\Users\me\图.png"))


def test_name_that_would_break_a_terminal(folder: Path) -> None:
    """Line ends and escape codes in a name do not reach the message."""
    error = refused("a\n\x1b[31mb.png")
    assert error.message == "picture.missing"
    assert "\x1b" not in str(error)


NO_TORCH = """
import sys
from bellevl.image import open_picture
open_picture(sys.argv[1])
assert "torch" not in sys.modules
"""


def test_opening_needs_no_torch() -> None:
    """A picture is opened, or refused, before torch is imported."""
    command = [sys.executable, "-c", NO_TORCH, str(GOLDEN / "images" / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr


def test_picture_is_frozen() -> None:
    """A picture's facts cannot be changed behind the back of whoever holds it."""
    picture = open_picture(scene())
    assert isinstance(picture, Picture)
    with pytest.raises(AttributeError):
        picture.size = (1, 1)  # type: ignore[misc]
