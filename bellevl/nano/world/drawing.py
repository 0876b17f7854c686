"""Drawing single things onto a picture: filled shapes, emoji sprites and printed text.

Every function pastes into an RGB canvas in place and returns the pixel box (x0, y0, x1, y1) of what it
drew. It does not know where things should stand or what will be asked about them.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from . import names
from .backgrounds import RGB, Rng, jitter

ATLAS = Path(__file__).parent / "atlas"
TRAINED_STYLES: tuple[str, ...] = ("noto", "twemoji", "fluent")
LATIN_FONTS = ("latin-sans-bold.ttf", "latin-serif.ttf", "latin-italic.ttf", "cjk-sans.otf", "cjk-serif-bold.otf")
CHINESE_FONTS = ("cjk-sans.otf", "cjk-serif-bold.otf")
CELL, COLUMNS = 128, 10  # layout of a sheet, as scripts/build_atlas.py writes it

STICKER: RGB = (250, 250, 250)  # the rim of an emoji that looks cut out
INKED = [0] * 41 + [255] * 215  # a lookup table: which coverage counts as drawn

PixelBox = tuple[float, float, float, float]


@functools.cache
def sheet(style: str) -> Image.Image:
    """The sprite sheet of a style: a name in the atlas, or the path of another sheet (.webp)."""
    path = Path(style) if style.endswith(".webp") else ATLAS / f"{style}.webp"
    with Image.open(path) as picture:
        return picture.convert("RGBA")


@functools.lru_cache(maxsize=2048)
def sprite(style: str, emoji_id: int, side: int = CELL) -> Image.Image:
    """One emoji of a style, cropped to its ink; its cell has `side` pixels."""
    if side != CELL:
        whole = sprite(style, emoji_id)
        return whole.resize((whole.width * side // CELL, whole.height * side // CELL), Image.Resampling.BICUBIC)
    x, y = emoji_id % COLUMNS * CELL, emoji_id // COLUMNS * CELL
    cell = sheet(style).crop((x, y, x + CELL, y + CELL))
    return cell.crop(_ink(cell.getchannel("A")))


@functools.lru_cache(maxsize=1024)
def sprite_colour(style: str, emoji_id: int) -> np.ndarray:
    """Average RGB of an emoji's ink (float [3])."""
    pixels = np.asarray(sprite(style, emoji_id), dtype=np.float64).reshape(-1, 4)
    return (pixels[:, :3] * pixels[:, 3:]).sum(0) / pixels[:, 3].sum()


def _ink(alpha: Image.Image) -> tuple[int, int, int, int]:
    box = alpha.point(INKED).getbbox()
    assert box is not None, "a sprite or mask without ink"
    return box


def mean_colour(canvas: Image.Image, box: PixelBox) -> np.ndarray:
    """Average RGB under a pixel box (float [3])."""
    left, top, right, bottom = (round(edge) for edge in box)
    patch = canvas.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return np.asarray(patch.resize((1, 1), Image.Resampling.BOX), dtype=np.float64)[0, 0]


def _around(centre: tuple[float, float], extent: float) -> PixelBox:
    x, y, half = *centre, extent / 2
    return x - half, y - half, x + half, y + half


def _alike(rim: RGB, paper: np.ndarray) -> bool:
    """Whether a rim of this colour cannot be seen on the paper, so that it is no part of the drawn thing."""
    return float(np.abs(paper - rim).sum()) < 40


def contrast_with(colour: np.ndarray) -> RGB:
    """White on dark and near black on light."""
    return (255, 255, 255) if float(colour @ (0.299, 0.587, 0.114)) < 140 else (40, 40, 44)


def outline_points(rng: Rng, shape_id: int) -> np.ndarray:
    """Corner points of a shape around the origin, float [N, 2], y downwards; scaled by the caller."""
    name = names.SHAPES[shape_id].zh
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if name in ("圆形", "圆环"):
        return np.stack([np.cos(turn), np.sin(turn)], 1)
    if name == "心形":
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        points, tilt = np.stack([x, -y], 1), 14.0
    elif name == "五角星":
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.38, 0.48))
        points, tilt = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None], 18.0
    elif name == "三角形":
        points, tilt = np.array([(0, -1), (1, 0.8), (-1, 0.8)]) * (rng.uniform(0.88, 1.1), 1.0), 14.0
    elif name == "正方形":
        points, tilt = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float), 9.0
    elif name == "菱形":
        points, tilt = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)]) * (rng.uniform(0.62, 0.76), 1.0), 9.0
    else:
        arm = rng.uniform(0.28, 0.38)
        quarter = np.array([(-arm, -1), (arm, -1), (arm, -arm)])
        spin = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in np.arange(4) * np.pi / 2]
        points, tilt = np.concatenate([quarter @ matrix.T for matrix in spin]), 10.0
    angle = np.radians(rng.uniform(-tilt, tilt))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T


def _shape_mask(points: np.ndarray, extent: float, hole: float) -> Image.Image:
    """Anti-aliased coverage of a polygon whose longer side is `extent` pixels."""
    low, high = points.min(0), points.max(0)
    fitted = (points - low) * (2 * extent / (high - low).max())
    width, height = np.ceil(fitted.max(0)).astype(int) + 1
    mask = Image.new("L", (int(width), int(height)))
    draw = ImageDraw.Draw(mask)
    draw.polygon([(x, y) for x, y in fitted.tolist()], fill=255)
    if hole:
        inner = (fitted - fitted.mean(0)) * hole + fitted.mean(0)
        draw.polygon([(x, y) for x, y in inner.tolist()], fill=0)
    return mask.resize((-(-int(width) // 2), -(-int(height) // 2)), Image.Resampling.BOX)


def _paste(canvas: Image.Image, fill: Image.Image, mask: Image.Image, centre: tuple[float, float]) -> PixelBox:
    left, top = round(centre[0] - mask.width / 2), round(centre[1] - mask.height / 2)
    canvas.paste(fill, (left, top), mask)
    x0, y0, x1, y1 = _ink(mask)
    return left + x0, top + y0, left + x1, top + y1


def _rim(mask: Image.Image, width: int) -> Image.Image:
    """The mask grown by `width` pixels on all sides, on an equally larger sheet."""
    grown = Image.new("L", (mask.width + 2 * width, mask.height + 2 * width))
    grown.paste(mask, (width, width))
    return grown.filter(ImageFilter.MaxFilter(2 * width + 1))


def draw_shape(
    rng: Rng, canvas: Image.Image, shape_id: int, colour_id: int, centre: tuple[float, float], extent: float
) -> PixelBox:
    """Draw a filled shape; with an outline where the background is close in colour, and sometimes else."""
    fill = jitter(rng, names.COLOURS[colour_id].rgb, 12)
    hole = rng.uniform(0.48, 0.62) if names.SHAPES[shape_id].zh == "圆环" else 0.0
    paper = mean_colour(canvas, _around(centre, extent))
    distance = float(np.abs(paper - fill).sum())
    rim = max(2, round(extent * 0.05)) if distance < 150 or rng.random() < 0.2 else 0
    mask = _shape_mask(outline_points(rng, shape_id), extent - 2 * rim, hole)
    inked = _fill_image(rng, mask.size, fill)
    if not rim:
        return _paste(canvas, inked, mask, centre)
    grown = _rim(mask, rim)
    rim_colour = contrast_with(np.array(fill))
    outer = _paste(canvas, Image.new("RGB", grown.size, rim_colour), grown, centre)
    inner = _paste(canvas, inked, mask, centre)
    return inner if _alike(rim_colour, paper) else outer


def _fill_image(rng: Rng, size: tuple[int, int], colour: RGB) -> Image.Image:
    """A flat fill, or (30 %) one that darkens slightly downwards."""
    if rng.random() < 0.7:
        return Image.new("RGB", size, colour)
    ramp = np.clip(np.linspace(1.07, 0.9, size[1])[:, None, None] * np.array(colour), 0, 255)
    return Image.fromarray(ramp.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def draw_emoji(
    rng: Rng, canvas: Image.Image, style: str, emoji_id: int, centre: tuple[float, float], extent: float
) -> PixelBox:
    """Draw an emoji sprite: mirrored half of the time, turned and tinted a little, sometimes a sticker."""
    picture = sprite(style, emoji_id, CELL // 2 if extent < CELL // 2 else CELL)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = rng.uniform(-12, 12) if rng.random() < 0.6 else 0.0
    if angle:
        picture = picture.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        picture = picture.crop(_ink(picture.getchannel("A")))
    paper = mean_colour(canvas, _around(centre, extent))
    lost = float(np.abs(paper - sprite_colour(style, emoji_id)).sum()) < 70
    rim = max(2, round(extent * 0.035)) if lost or rng.random() < 0.1 else 0
    scale = (extent - 2 * rim) / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    gains = rng.uniform(0.9, 1.1, 3) * rng.uniform(0.92, 1.06)
    alpha = picture.getchannel("A")
    inked = Image.fromarray(np.minimum(255, np.asarray(picture)[..., :3] * gains).astype(np.uint8))
    if not rim:
        return _paste(canvas, inked, alpha, centre)
    grown = _rim(alpha, rim)
    outer = _paste(canvas, Image.new("RGB", grown.size, STICKER), grown, centre)
    inner = _paste(canvas, inked, alpha, centre)
    return inner if _alike(STICKER, paper) else outer


@functools.lru_cache(maxsize=256)
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face of the atlas at a pixel size."""
    return ImageFont.truetype(str(ATLAS / face), size)


@functools.lru_cache(maxsize=4096)
def _glyph_ink(face: str, size: int, character: str) -> tuple[int, int, int, int]:
    """Bounds of a character's ink relative to where it is drawn; a font's own bounds add its advance."""
    mask, (x, y) = font(face, size).getmask2(character, mode="L")
    x0, y0, x1, y1 = mask.getbbox()
    return x + x0, y + y0, x + x1, y + y1


def fonts_for(text: str) -> tuple[str, ...]:
    return LATIN_FONTS if text.isascii() else CHINESE_FONTS


def text_size(text: str, face: str, size: int) -> tuple[float, float]:
    """Width and height in pixels of the ink of a printed line."""
    left, top, right, bottom = font(face, size).getbbox(text)
    return right - left, bottom - top


def draw_text(
    canvas: Image.Image, text: str, face: str, size: int, centre: tuple[float, float], colour: RGB
) -> list[PixelBox]:
    """Print a line with its ink centred on `centre`; returns the box of every character's ink."""
    letters = font(face, size)
    left, top, right, bottom = letters.getbbox(text)
    x, y = round(centre[0] - (left + right) / 2), round(centre[1] - (top + bottom) / 2)
    ImageDraw.Draw(canvas).text((x, y), text, fill=colour, font=letters)
    boxes: list[PixelBox] = []
    for index, character in enumerate(text):
        start = x + letters.getlength(text[:index])
        x0, y0, x1, y1 = _glyph_ink(face, size, character)
        boxes.append((start + x0, y + y0, start + x1, y + y1))
    return boxes
