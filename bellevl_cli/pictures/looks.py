"""What is lost when a model squeezes a picture into its square: shape, small text, sharpness, light.

All of it is measured on pixels, without any model; heights of text are estimates from where lines of many short
strokes begin and end. Knows no words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from bellevl.image import Picture

#: Beyond this ratio of sides things are noticeably out of shape; 16:9 is not.
ASPECT = 2.0

#: Text that is lower than this many pixels in what the model sees is not read reliably.
READABLE = 9.0

#: The steepest edges of a sharp picture change by this part of its contrast from one pixel to the next.
SHARP = 0.16

#: Mean brightness (0 to 255) below which a picture is dark, unless its brightest parts are above the second: a lamp in
#: the night can be seen.
DARK, BRIGHT_PARTS = 45.0, 100.0

#: Less difference between the darkest and the brightest parts shows nothing.
PLAIN = 12.0

#: More pixels than these are not looked at: the picture is made smaller first.
MOST_PIXELS = 6_000_000

#: Columns in which lines of text are looked for, and the difference that is an edge.
STRIP = 48
EDGE = 40

#: Lines of text are between these many pixels high.
LOWEST, HIGHEST = 4, 90


@dataclass(frozen=True)
class Looks:
    """Measures of a picture. `aspect` is the longer side by the shorter. Brightness, brightest parts and contrast are
    levels of 255, `sharpness` is 0 to 1 (None where nothing is in the picture). Heights of the smallest text are in
    pixels of the picture and of what the model sees, None where no lines of text were found."""

    aspect: float
    brightness: float
    brightest: float
    contrast: float
    sharpness: float | None
    text_height: float | None
    text_height_seen: float | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to warn of: "aspect", "text", "plain", "dark", "blur"."""
        plain = self.contrast < PLAIN
        found = {
            "aspect": self.aspect > ASPECT,
            "text": self.text_height_seen is not None and self.text_height_seen < READABLE,
            "plain": plain,
            "dark": not plain and self.brightness < DARK and self.brightest < BRIGHT_PARTS,
            "blur": self.sharpness is not None and self.sharpness < SHARP,
        }
        return tuple(name for name, true in found.items() if true)


def seen(image: Image.Image, image_size: int) -> Image.Image:
    """What the model sees of `image`, as a picture: `preprocess` without the arithmetic on levels."""
    from PIL import Image

    return image.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC)


def measure(picture: Picture, image_size: int) -> Looks:
    """Measures of `picture` for a model that sees `image_size` pixels each way."""
    import numpy as np

    width, height = picture.size
    fitted = picture.image.convert("L")
    fitted.thumbnail((image_size, image_size))
    grey = np.asarray(fitted, dtype=np.float32)
    dark, bright = (float(value) for value in np.percentile(grey, (1, 99)))
    text = text_height(picture)
    return Looks(
        aspect=max(width, height) / min(width, height),
        brightness=float(grey.mean()),
        brightest=bright,
        contrast=bright - dark,
        sharpness=_sharpness(grey, bright - dark),
        text_height=text,
        text_height_seen=None if text is None else text * image_size / max(width, height),
    )


def _sharpness(grey: np.ndarray, contrast: float) -> float | None:
    """The steepest steps between neighbours, as a part of the contrast. None: a plain or tiny picture has none."""
    import numpy as np

    if contrast < PLAIN or min(grey.shape) < 8:
        return None
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)])
    most = max(len(steps) // 500, 8)
    return min(float(np.partition(steps, -most)[-most:].mean()) / contrast, 1.0)


# ---- text


def text_height(picture: Picture) -> float | None:
    """About how many pixels of `picture` its smallest lines of text are high; None where none were found."""
    import numpy as np

    image = picture.image.convert("L")
    scale = min(1.0, (MOST_PIXELS / (image.width * image.height)) ** 0.5)
    if scale < 1:
        image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    if image.width < 2 * STRIP or image.height < 2 * LOWEST:
        return None
    heights = list(_line_heights(np.asarray(image, dtype=np.int16)))
    if len(heights) < 3:
        return None
    height = float(np.percentile(heights, 15))
    return height * picture.size[1] / image.height


def _line_heights(grey: np.ndarray) -> Iterator[float]:
    """The height of each line of text, once for every strip that it crosses together with a neighbour.

    A line of text is, in a strip of columns, a run of rows with many edges and quiet rows above and below; and it goes
    on, at the same height, in the next strip. Leaves, hair and noise do not.
    """
    counts = _edge_counts(grey)  # [H, strips]
    runs = [_runs(counts[:, strip]) for strip in range(counts.shape[1])]
    for left, right in itertools.pairwise(runs):
        for top, bottom in left:
            slack = max(1.5, 0.2 * (bottom - top))
            if any(abs(top - t) <= slack and abs(bottom - b) <= slack for t, b in right):
                yield bottom - top


def _edge_counts(grey: np.ndarray) -> np.ndarray:
    """How many edges each row has in each strip: [H, strips]."""
    import numpy as np

    edges = np.abs(np.diff(grey, axis=1)) > EDGE
    strips = edges.shape[1] // STRIP
    return edges[:, : strips * STRIP].reshape(grey.shape[0], strips, STRIP).sum(axis=2)


def _runs(counts: np.ndarray) -> list[tuple[int, int]]:
    """(top, bottom) of what may be lines of text in one strip."""
    import numpy as np

    inked = np.concatenate([[0], (counts >= 2).astype(np.int8), [0]])
    change = np.diff(inked)
    tops, bottoms = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    found = []
    for at, (top, bottom) in enumerate(zip(tops.tolist(), bottoms.tolist(), strict=True)):
        height = bottom - top
        if not LOWEST <= height <= HIGHEST or counts[top:bottom].mean() < max(3.0, STRIP / height):
            continue
        gap = max(1, round(height * 0.15))
        above = top - (bottoms[at - 1] if at else -HIGHEST)
        below = (tops[at + 1] if at + 1 < len(tops) else len(counts) + HIGHEST) - bottom
        if above >= gap and below >= gap:
            found.append((top, bottom))
    return found
