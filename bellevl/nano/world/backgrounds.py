"""Backgrounds of the picture world: plain, gradient, noisy, and eight procedural scenes.

Every function returns a square RGB picture. None of them draws a closed blob that could be taken for one
of the world's shapes or emoji. It does not know what will stand in front of the background.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Rng = np.random.Generator


def jitter(rng: Rng, rgb: RGB, spread: int = 12) -> RGB:
    """Vary a colour by at most `spread`, more in lightness than in hue, clipped to 0..255."""
    hue = spread // 2
    shift = rng.integers(-(spread - hue), spread - hue + 1) + rng.integers(-hue, hue + 1, 3)
    moved = np.clip(np.array(rgb) + shift, 0, 255)
    return int(moved[0]), int(moved[1]), int(moved[2])


def gradient(side: int, top: RGB, bottom: RGB, horizontal: bool = False) -> Image.Image:
    """A linear blend of two colours, downwards or to the right."""
    ramp = np.linspace(top, bottom, side).round().astype(np.uint8)[:, None, :]
    strip = Image.fromarray(ramp.transpose(1, 0, 2) if horizontal else ramp)
    return strip.resize((side, side), Image.Resampling.NEAREST)


def plain_colour(rng: Rng) -> RGB:
    """White, near white, pastel, mid-tone or dark: what people put behind simple drawings."""
    draw = rng.random()
    if draw < 0.25:
        return (255, 255, 255)
    low, high, saturation = (0.75, 1.0, 0.3) if draw < 0.75 else (0.45, 0.8, 0.4) if draw < 0.92 else (0.1, 0.25, 0.4)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.random() * saturation, rng.uniform(low, high))
    return round(red * 255), round(green * 255), round(blue * 255)


def plain(rng: Rng, side: int, colour: RGB) -> Image.Image:
    """A plain (60 %), graded (25 %) or faintly noisy (15 %) background around one colour."""
    draw = rng.random()
    if draw < 0.60:
        return Image.new("RGB", (side, side), colour)
    if draw < 0.85:
        return gradient(side, jitter(rng, colour, 22), jitter(rng, colour, 22), bool(rng.random() < 0.5))
    noise = rng.integers(-11, 12, (112, 112, 1)) + np.array(colour)
    picture = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    return picture.resize((side, side), Image.Resampling.BILINEAR)


def _split(rng: Rng, side: int, sky: tuple[RGB, RGB], ground: tuple[RGB, RGB]) -> tuple[Image.Image, int]:
    """Sky above a horizon, ground below it; returns the picture and the horizon's y."""
    horizon = round(side * rng.uniform(0.36, 0.6))
    picture = gradient(side, jitter(rng, sky[0]), jitter(rng, sky[1]))
    picture.paste(gradient(side, jitter(rng, ground[0]), jitter(rng, ground[1])), (0, horizon))
    return picture, horizon


def _hills(rng: Rng, picture: Image.Image, base: int, height: float, colour: RGB) -> None:
    """A rolling silhouette whose crest lies around `base`, filled down to the bottom edge."""
    side = picture.width
    x = np.linspace(0, side, 25)
    wave = np.sin(x / side * rng.uniform(3, 8) + rng.uniform(0, 6.28)) * height * side
    crest = [(float(a), float(base + b)) for a, b in zip(x, wave, strict=True)]
    ImageDraw.Draw(picture).polygon([*crest, (side, side), (0, side)], fill=colour)


def meadow(rng: Rng, side: int) -> Image.Image:
    sky = ((140, 196, 244), (206, 232, 250))
    picture, horizon = _split(rng, side, sky, ((132, 192, 84), (88, 156, 54)))
    draw = ImageDraw.Draw(picture)
    blade = jitter(rng, (64, 128, 40), 10)
    for x, y in rng.uniform((0, horizon), (side, side), (70, 2)).tolist():
        length = side * (0.01 + 0.025 * (y - horizon) / side)
        draw.line((x, y, x + length * 0.3, y - length), fill=blade, width=max(1, side // 160))
    return picture


def beach(rng: Rng, side: int) -> Image.Image:
    sky = ((130, 198, 242), (208, 236, 248))
    picture, horizon = _split(rng, side, sky, ((40, 150, 196), (60, 176, 206)))
    shore = round(horizon + (side - horizon) * rng.uniform(0.2, 0.4))
    _hills(rng, picture, shore, 0.012, jitter(rng, (236, 246, 248), 6))
    _hills(rng, picture, shore + max(2, side // 40), 0.012, jitter(rng, (238, 214, 158), 10))
    draw = ImageDraw.Draw(picture)
    grain = jitter(rng, (208, 178, 118), 8)
    for x, y in rng.uniform((0, shore + side * 0.05), (side, side), (90, 2)).tolist():
        draw.line((x, y, x + side / 110, y), fill=grain, width=max(1, side // 220))
    return picture


def snow(rng: Rng, side: int) -> Image.Image:
    picture, horizon = _split(rng, side, ((150, 170, 196), (196, 210, 226)), ((236, 242, 250), (252, 253, 255)))
    _hills(rng, picture, horizon - round(side * 0.03), 0.03, jitter(rng, (214, 226, 240), 6))
    _hills(rng, picture, horizon + round(side * 0.05), 0.02, jitter(rng, (244, 248, 253), 4))
    draw = ImageDraw.Draw(picture)
    step = max(1, side // 150)
    for x, y in rng.uniform(0, side, (60, 2)).tolist():
        draw.line((x, y, x + step, y + step), fill=(255, 255, 255), width=step)
    return picture


def sea(rng: Rng, side: int) -> Image.Image:
    sky = ((120, 186, 240), (202, 230, 248))
    picture, horizon = _split(rng, side, sky, ((36, 118, 186), (18, 74, 144)))
    draw = ImageDraw.Draw(picture)
    foam = jitter(rng, (110, 178, 224), 12)
    for x, y in rng.uniform((0, horizon + side * 0.03), (side, side), (42, 2)).tolist():
        length = side * (0.03 + 0.07 * (y - horizon) / side)
        crest = [(x, y), (x + length / 2, y - length / 6), (x + length, y)]
        draw.line(crest, fill=foam, width=max(1, side // 130))
    return picture


def night(rng: Rng, side: int) -> Image.Image:
    picture = gradient(side, jitter(rng, (10, 14, 44), 6), jitter(rng, (38, 44, 96), 10))
    draw = ImageDraw.Draw(picture)
    size = side / 150
    for x, y in rng.uniform(0, side, (55, 2)).tolist():
        light = int(rng.integers(150, 256))
        draw.rectangle((x, y, x + size * 0.6, y + size * 0.6), fill=(light, light, min(255, light + 20)))
    if rng.random() < 0.6:
        _hills(rng, picture, round(side * rng.uniform(0.86, 0.94)), 0.02, jitter(rng, (8, 12, 26), 5))
    return picture


def _building(rng: Rng, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    """One house front with rows of window slits; fronts touch, so none stands as a square alone."""
    left, top, right, bottom = box
    tone = int(rng.integers(96, 168))
    draw.rectangle(box, fill=jitter(rng, (tone, tone + 6, tone + 20), 8))
    slit = (min(255, tone + 54), min(255, tone + 52), min(255, tone + 40))
    step = max(4, (right - left) // 4)
    for x in range(left + step // 2, right - step // 2, step):
        draw.line((x, top + step, x, bottom - step), fill=slit, width=max(1, step // 4))


def city(rng: Rng, side: int) -> Image.Image:
    picture = gradient(side, jitter(rng, (164, 200, 232)), jitter(rng, (226, 232, 236)))
    draw = ImageDraw.Draw(picture)
    street = round(side * rng.uniform(0.76, 0.86))
    left = 0
    while left < side:
        right = left + round(side * rng.uniform(0.09, 0.17))
        _building(rng, draw, (left, round(side * rng.uniform(0.18, 0.52)), right, street))
        left = right
    draw.rectangle((0, street, side, side), fill=jitter(rng, (92, 94, 100), 8))
    middle, dash = (street + side) // 2, side // 9
    for x in range(int(rng.integers(0, dash)), side, dash * 2):
        draw.line((x, middle, x + dash, middle), fill=(226, 224, 210), width=max(1, side // 90))
    return picture


def room(rng: Rng, side: int) -> Image.Image:
    wall: RGB = [(238, 222, 196), (224, 214, 226), (244, 226, 214), (214, 224, 208)][int(rng.integers(4))]
    wall = jitter(rng, wall, 8)
    picture = Image.new("RGB", (side, side), wall)
    draw = ImageDraw.Draw(picture)
    stripe = (wall[0] - 12, wall[1] - 12, wall[2] - 12)
    gap = side // int(rng.integers(9, 14))
    for x in range(gap // 2, side, gap):
        draw.line((x, 0, x, side), fill=stripe, width=max(1, gap // 3))
    floor = round(side * rng.uniform(0.64, 0.76))
    wood = jitter(rng, (178, 126, 78), 10)
    draw.rectangle((0, floor, side, side), fill=wood)
    seam = (wood[0] - 34, wood[1] - 30, wood[2] - 24)
    for y in np.linspace(floor, side, 5).tolist():
        draw.line((0, y, side, y), fill=seam, width=max(1, side // 160))
    draw.rectangle((0, floor - side // 40, side, floor), fill=(250, 248, 244))
    return picture


def kitchen(rng: Rng, side: int) -> Image.Image:
    tile = jitter(rng, (222, 236, 240), 8)
    picture = Image.new("RGB", (side, side), tile)
    draw = ImageDraw.Draw(picture)
    joint = (tile[0] - 44, tile[1] - 36, tile[2] - 30)
    width = max(1, side // 150)
    step = side // int(rng.integers(9, 12))
    counter = round(side * rng.uniform(0.6, 0.72))
    for offset in range(step // 2, side, step):
        draw.line((0, offset, side, offset), fill=joint, width=width)
        draw.line((offset, 0, offset, side), fill=joint, width=width)
    draw.rectangle((0, counter, side, side), fill=jitter(rng, (206, 172, 132), 10))
    draw.rectangle((0, counter, side, counter + side // 20), fill=jitter(rng, (106, 106, 112), 8))
    for x in np.linspace(0, side, 4).tolist():
        draw.line((x, counter + side // 20, x, side), fill=(150, 116, 80), width=max(1, side // 110))
    return picture


# In the order of names.SCENES.
SCENE_PAINTERS: tuple[Callable[[Rng, int], Image.Image], ...] = (
    meadow, beach, snow, sea, night, city, room, kitchen,
)  # fmt: skip
