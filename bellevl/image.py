"""Pictures: open, refuse bad files, turn upright, put on paper, and the pixels that a vision encoder takes.

`open_picture` makes of any picture what a person sees in it. `preprocess` is the published arithmetic alone,
which neither turns nor mattes. Knows no model but for the mean and deviation of its pixels; imports torch
only when pixels are asked for, so a bad file is refused at once.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageColor

from .errors import PictureError
from .picture_files import find_picture

if TYPE_CHECKING:
    import torch

#: Mean and standard deviation of CLIP's training pixels, as in the published visual.py.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

#: More pixels than this are refused from the header alone: Pillow's limit against decompression bombs.
MOST_PIXELS = 178_956_970

#: A JPEG above this many pixels is decoded at a half, a quarter or an eighth of its width and height.
DRAFT_ABOVE = 40_000_000

#: Bytes taken from a stream, which has no size to look at first.
LONGEST_STREAM = 100 * 2**20

#: Tried in this order, by content. Not in it: formats that start other programs (EPS) or have no signature.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "HEIF")

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_STRANGERS = {
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"PK\x03\x04": "ZIP",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
    b"version https://git-lfs": "Git LFS",
}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A picture as a person sees it.

    `image` is RGB, upright, on white or the matte that was chosen. `size` is (width, height) of the whole upright
    picture in pixels, also where `image` was decoded smaller. `notes` say what was done to it: "turned", "matte",
    "depth", "colours", "frame", "reduced". `orientation` is the EXIF value the file had (1: upright already).
    """

    image: Image.Image
    size: tuple[int, int]
    path: Path | None = None
    format: str = ""
    orientation: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opening:
    """What a person may choose about opening a picture.

    `frame` of an animation or a file of several pages, from 1. `matte` is the colour under transparent parts, a name
    or #rrggbb. `allow_huge` opens pictures above MOST_PIXELS: for files that are trusted, the memory is the reader's.
    """

    frame: int = 1
    matte: str = "white"
    allow_huge: bool = False


AS_IT_IS = Opening()


def open_picture(
    source: str | os.PathLike[str] | BinaryIO | Image.Image | Picture, opening: Opening = AS_IT_IS
) -> Picture:
    """A picture from a file (by content, whatever its name), a binary stream or a PIL image.

    Raises PictureError when it is missing, a folder, not readable, empty, no picture, damaged or too large, when it
    has no such frame, and for a matte that is no colour.
    """
    if isinstance(source, Image.Image):
        return _finish(source, None, "-", opening)
    if isinstance(source, Picture):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = find_picture(source)
        if path.is_fifo():
            with _reading(path), path.open("rb") as pipe:
                return _decode(_buffer(pipe, str(path)), path, str(path), opening)
        with _reading(path), path.open("rb") as file:
            return _decode(file, path, str(path), opening)
    return _decode(_buffer(source, "-"), None, "-", opening)


def preprocess(image: Image.Image, image_size: int) -> torch.Tensor:
    """`image` as the vision encoder takes it: float32 [3, S, S], S = `image_size`.

    The arithmetic of the published visual.py: convert to RGB, bicubic resize to a square (the shape is not
    kept), divide by 255, subtract the mean, divide by the deviation.
    """
    import torch

    square = image.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]
    values = pixels.to(torch.float32).div(255)
    mean = torch.tensor(MEAN, dtype=torch.float32).view(3, 1, 1)
    std = torch.tensor(STD, dtype=torch.float32).view(3, 1, 1)
    return (values - mean) / std


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the system says about a file becomes a PictureError."""
    try:
        yield
    except OSError as error:
        raise PictureError("picture.unreadable", path=path, reason=error.strerror or error) from error


def _buffer(stream: BinaryIO, name: str) -> io.BytesIO:
    data = stream.read(LONGEST_STREAM + 1)
    if len(data) > LONGEST_STREAM:
        raise PictureError("picture.not_a_picture", path=name, reason=f"> {LONGEST_STREAM >> 20} MB")
    return io.BytesIO(data)


def _decode(file: BinaryIO, path: Path | None, name: str, opening: Opening) -> Picture:
    """Header first: what it says is checked before a pixel is decoded."""
    head = file.read(64)
    if not head:
        raise PictureError("picture.empty", path=name)
    _prepare_heic(head, name)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd tags; what it says of large pictures is checked here
        with _pillows_limit(lifted=True):  # it would not tell the size
            image = _open(file, head, name)
        with _pillows_limit(lifted=opening.allow_huge):
            return _finish(image, path, name, opening)


@contextmanager
def _pillows_limit(lifted: bool) -> Iterator[None]:
    """Lifts Pillow's own limit for a moment."""
    before = Image.MAX_IMAGE_PIXELS
    if lifted:
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _open(file: BinaryIO, head: bytes, name: str) -> Image.Image:
    Image.init()
    try:
        return Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN])
    except Image.UnidentifiedImageError as error:
        if known := _signature(head):
            raise PictureError("picture.broken", path=name, reason=known) from error
        raise PictureError("picture.not_a_picture", path=name, reason=_stranger(head)) from error
    except Exception as error:  # decoders of untrusted bytes raise anything; the file is at fault
        raise PictureError("picture.broken", path=name, reason=_reason(error)) from error


def _finish(source: Image.Image, path: Path | None, name: str, opening: Opening) -> Picture:
    """The decoded image, RGB, upright and on its matte."""
    matte = _colour(opening.matte)
    if opening.frame != 1:
        _seek(source, opening.frame, name)
    size = source.size
    _check_size(size, name, opening)
    reduced = _draft(source)
    _load(source, name)
    kind = source.format or ""
    notes = ["frame"] * _is_animated(source) + ["reduced"] * reduced
    orientation = _orientation(source)
    try:
        image, changes = _to_rgb(source, matte)
    except (ValueError, OSError) as error:
        raise PictureError("picture.broken", path=name, reason=_reason(error)) from error
    notes += changes
    if orientation != 1:
        image = image.transpose(_UPRIGHT[orientation])
        notes.append("turned")
    if not reduced:
        size = image.size
    elif orientation >= 5:
        size = (size[1], size[0])
    if image is source or type(image) is not Image.Image:
        image = image.copy()  # apart from the file, and from the image of whoever called
    image.info = {}  # a second opening must not turn it again
    return Picture(image, size, path, kind, orientation, tuple(notes))


def _colour(matte: str) -> tuple[int, ...]:
    try:
        return ImageColor.getrgb(matte)[:3]
    except ValueError as error:
        raise PictureError("picture.matte", value=matte) from error


def _seek(image: Image.Image, frame: int, name: str) -> None:
    """To a frame that a person asked for, counted from 1."""
    frames = getattr(image, "n_frames", 1)
    if not 1 <= frame <= frames:
        raise PictureError("picture.frame", path=name, frame=frame, frames=frames)
    try:
        image.seek(frame - 1)
    except Exception as error:  # as in _open
        raise PictureError("picture.broken", path=name, reason=_reason(error)) from error


def _check_size(size: tuple[int, int], name: str, opening: Opening) -> None:
    pixels = size[0] * size[1]
    if pixels > MOST_PIXELS and not opening.allow_huge:
        raise _huge(name, pixels, size)
    if not pixels:
        raise PictureError("picture.broken", path=name, reason=f"{size[0]} x {size[1]}")


def _load(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except Image.DecompressionBombError as error:  # an icon holds a larger picture than its header says
        raise _huge(name, _first_number(str(error))) from error
    except MemoryError:
        raise
    except Exception as error:  # as in _open
        raise PictureError("picture.broken", path=name, reason=_reason(error)) from error


def _to_rgb(image: Image.Image, matte: tuple[int, ...]) -> tuple[Image.Image, list[str]]:
    """The image in RGB, and notes of what that took beyond a plain conversion."""
    notes = []
    for note, step in _STEPS:
        changed = step(image)
        if changed is not image:
            image = changed
            notes.append(note)
    if image.has_transparency_data:
        image = _on_paper(image, matte)
        notes.append("matte")
    return (image if image.mode == "RGB" else image.convert("RGB")), notes


def _scale_depth(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey to 8 bit. `convert` would cut off what is above 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    top = values.max(initial=0.0)
    if image.mode == "F":
        whole = 1.0 if top <= 1 else 255.0 if top <= 255 else top
    else:
        whole = 65535.0 if top <= 65535 else top
        whole = 255.0 if image.mode == "I" and top <= 255 else whole
    return Image.fromarray(np.clip(values * (255.0 / whole) + 0.5, 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Printing colours (CMYK) and LAB to RGB, by the picture's own profile where it has one."""
    if image.mode not in ("CMYK", "LAB"):
        return image
    try:
        profile = _profile(image)
        if profile is not None:
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        pass  # a damaged profile: the plain conversion is still a picture
    return image.convert("RGB")


def _profile(image: Image.Image) -> ImageCms.core.CmsProfile | ImageCms.ImageCmsProfile | None:
    if data := image.info.get("icc_profile"):
        return ImageCms.getOpenProfile(io.BytesIO(data))
    return ImageCms.createProfile("LAB") if image.mode == "LAB" else None


def _on_paper(image: Image.Image, matte: tuple[int, ...]) -> Image.Image:
    """Transparent parts show the paper under them, which is white unless a person chose another."""
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    paper = Image.new("RGB", image.size, matte)
    paper.paste(image, mask=image.getchannel("A"))
    return paper


_STEPS: tuple[tuple[str, Callable[[Image.Image], Image.Image]], ...] = (
    ("depth", _scale_depth),
    ("colours", _to_srgb),
)


def _draft(image: Image.Image) -> bool:
    """Has a very large JPEG decoded at half size or less, which takes a quarter of the memory or less.

    Of a progressive JPEG libjpeg keeps all coefficients besides, 3 bytes a pixel at 4:2:0, whatever size is asked for.
    """
    width, height = image.size
    if image.format not in ("JPEG", "MPO") or width * height <= DRAFT_ABOVE:
        return False
    part = math.ceil(math.sqrt(width * height / DRAFT_ABOVE))
    image.draft(image.mode, (max(width // part, 1), max(height // part, 1)))
    return image.size != (width, height)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data is no reason to refuse a picture
        return 1
    return value if value in _UPRIGHT else 1


def _is_animated(image: Image.Image) -> bool:
    if image.format == "MPO":  # the other frames are previews and depth maps
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame; the first is there
        return False


def _prepare_heic(head: bytes, name: str) -> None:
    """Lets Pillow read the photos of telephones."""
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIC_BRANDS:
        return
    try:
        import pillow_heif
    except ImportError as error:
        if b"avif" not in head:
            raise PictureError("picture.heic", path=name) from error
    else:
        pillow_heif.register_heif_opener()


def _signature(head: bytes) -> str:
    """The picture format that a file begins like; one that cannot be opened all the same is damaged."""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS | {b"avif", b"avis"}:
        return head[8:12].decode().upper()
    return _kind(head, _SIGNATURES)


def _kind(head: bytes, table: dict[bytes, str]) -> str:
    return next((kind for start, kind in table.items() if head.startswith(start)), "")


def _stranger(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "MP4"
    return _kind(head.lstrip(b"\xef\xbb\xbf \t\r\n"), _STRANGERS) or repr(head[:8])


def _huge(name: str, pixels: int, size: tuple[int, int] | None = None) -> PictureError:
    shown = f"{size[0]} x {size[1]}" if size else f"{pixels / 1e6:.0f} Mpx"  # of a hidden picture only Pillow's number
    return PictureError("picture.huge", path=name, pixels=f"{pixels:,}", size=shown, limit=f"{MOST_PIXELS:,}")


def _first_number(text: str) -> int:
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def _reason(error: Exception) -> str:
    return f"{error}"[:120] or type(error).__name__
