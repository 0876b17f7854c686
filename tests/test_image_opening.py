"""Pictures opened as a person chose: frame, matte, huge ones; and the memory and colours of difficult ones."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from PIL import Image

import bellevl.image
from bellevl.errors import PictureError
from bellevl.image import Opening, open_picture


def saved(image: Image.Image, kind: str, **how: Any) -> io.BytesIO:
    """The image as a file of that kind."""
    file = io.BytesIO()
    image.save(file, kind, **how)
    file.seek(0)
    return file


def test_frame_that_was_asked_for() -> None:
    """Frames are counted from 1; one that is not there is told with how many there are."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    for number, colour in ((1, (255, 0, 0)), (3, (0, 0, 255))):
        file.seek(0)
        assert open_picture(file, Opening(frame=number)).image.getpixel((0, 0)) == colour
    for number in (0, 4, -1):
        file.seek(0)
        with pytest.raises(PictureError) as error:
            open_picture(file, Opening(frame=number))
        assert (error.value.message, error.value.facts["frames"]) == ("picture.frame", 3)


def test_matte_that_was_chosen() -> None:
    """Transparent parts show the colour that was asked for; what is no colour is told."""
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    for matte, pixel in (("black", (0, 0, 0)), ("#102030", (16, 32, 48)), ("white", (255, 255, 255))):
        assert open_picture(saved(clear, "PNG"), Opening(matte=matte)).image.getpixel((0, 0)) == pixel
    with pytest.raises(PictureError) as error:
        open_picture(saved(clear, "PNG"), Opening(matte="bluish"))
    assert error.value.message == "picture.matte"


def test_huge_picture_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit a picture opens when a person allows it, and Pillow's own limit is as before."""
    monkeypatch.setattr(bellevl.image, "MOST_PIXELS", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    file = saved(Image.new("RGB", (60, 40), "red"), "PNG")
    with pytest.raises(PictureError) as error:
        open_picture(file)
    assert error.value.message == "picture.huge" and "60 x 40" in str(error.value)
    file.seek(0)
    assert open_picture(file, Opening(allow_huge=True)).size == (60, 40)
    assert Image.MAX_IMAGE_PIXELS == 500


HUGE = """
import resource, sys
from bellevl.image import open_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = open_picture(sys.argv[1])
print(*picture.size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
def test_memory_of_a_photo_of_100_megapixels(tmp_path: Path) -> None:
    """A JPEG of 100 million pixels, turned by EXIF, opens within 300 MB."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "huge.jpg"
    Image.new("RGB", (10_000, 10_000), (10, 120, 60)).save(path, exif=exif, quality=50)
    done = subprocess.run([sys.executable, "-c", HUGE, str(path)], capture_output=True, check=True, cwd=ROOT)
    width, height, megabytes = map(int, done.stdout.split())
    assert (width, height) == (10_000, 10_000) and megabytes < 300


def printing_profile() -> bytes:
    """A small ICC profile of a press whose four inks all print the same: light grey where there is any, else white.

    An A2B0 table ("mft1") with two points an ink; Lab values after it. No press is like that, so that using the profile
    can be told from the plain conversion.
    """
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    ramp = bytes(range(256))
    inks = b"".join(bytes((255, 128, 128)) if n == 0 else bytes((191, 128, 128)) for n in range(16))
    table += ramp * 4 + inks + ramp * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"desc", text), (b"wtpt", white), (b"A2B0", table)]
    at, body, rows = 132 + 12 * len(tags), b"", b""
    for name, data in tags:
        data += bytes(-len(data) % 4)
        rows += struct.pack(">4sII", name, at + len(body), len(data))
        body += data
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + rows + body


def test_printing_colours_go_through_their_profile() -> None:
    """A CMYK picture has the colours of its own press, which the plain conversion would not give."""
    profile = printing_profile()
    inked = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = open_picture(saved(inked, "TIFF", icc_profile=profile))
    red, green, blue = picture.image.getpixel((8, 8))  # type: ignore[misc]
    assert abs(red - green) <= 3 and abs(green - blue) <= 3 and 140 <= red <= 200
    assert open_picture(saved(inked, "TIFF")).image.getpixel((8, 8)) == (0, 255, 255)
    bare = open_picture(saved(Image.new("CMYK", (16, 16)), "TIFF", icc_profile=profile))
    assert min(bare.image.getpixel((8, 8))) >= 252  # type: ignore[arg-type]
