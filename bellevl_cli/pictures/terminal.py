"""A picture shown in the terminal: by the kitty protocol, as sixels, or as coloured half blocks.

What the terminal can do is asked when the first picture is to be shown, never at import, and only where both its ends
are there. Nothing is shown where stdout is not a terminal, in plain mode and without colours. Writes nothing but the
question; the caller writes the picture.
"""

from __future__ import annotations

import base64
import io
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..screen.look import look_of

if TYPE_CHECKING:
    from PIL import Image

    from bellevl.image import Picture

#: Says which way a picture is shown: kitty, sixel, blocks or off. Else the terminal is asked.
VARIABLE = "BELLEVL_SHOW"

#: A terminal that does not answer by then does not know the question.
PATIENCE_SECONDS = 0.25

#: Asks for one pixel by the kitty protocol, then what kind of terminal it is, which every one answers.
QUESTION = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
_KIND = re.compile(rb"\x1b\[\?([\d;]*)c")

#: A cell where the terminal does not say its size: width and height in pixels.
CELL = (10, 20)

#: Colours of a sixel picture, and the longest line of the kitty protocol.
SIXEL_COLOURS = 128
KITTY_CHUNK = 4096


def shown(picture: Picture | Image.Image, rows: int = 12) -> str | None:
    """What to write so that `picture` stands `rows` lines high, line end included; None where it cannot or must not.

    It keeps its shape: a very wide one has fewer lines.
    """
    way = protocol()
    if way is None:
        return None
    from bellevl.image import Picture

    image = picture.image if isinstance(picture, Picture) else picture
    columns, rows = _cells(image.size, rows)
    if way == "kitty":
        return _kitty(image, columns, rows) + "\n"
    if way == "sixel":
        return _sixel(image, columns, rows) + "\n"
    return _blocks(image, columns, rows)


def line_width(size: tuple[int, int], rows: int = 12) -> int | None:
    """Pixels of a picture of `size` that a half block covers: a thinner line on it would not be seen. None where the
    picture is shown by its own pixels, or not at all."""
    if protocol() != "blocks":
        return None
    columns, rows = _cells(size, rows)
    return max(1, round(max(size[0] / columns, size[1] / (2 * rows))))


def protocol() -> str | None:
    """ "kitty", "sixel", "blocks"; None where no picture is to be shown. May ask the terminal, once."""
    try:
        if not sys.stdout.isatty():
            return None
    except ValueError:  # closed
        return None
    look = look_of(True)
    if not look.live or not look.color:
        return None
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if wanted in ("kitty", "sixel", "blocks"):
        return wanted
    if wanted in ("off", "none", "0", "no", "never"):
        return None
    return _known_by_name() or _asked_once()


def _known_by_name() -> str | None:
    """Terminals that say who they are. Not inside tmux or screen, which pass names on and pictures not."""
    if os.environ.get("TMUX") or os.environ.get("STY"):
        return None
    term, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    if os.environ.get("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if term.startswith(("foot", "mlterm", "yaft")) or program in ("WezTerm", "iTerm.app"):
        return "sixel"
    return "blocks" if program in ("Apple_Terminal", "vscode") or term == "linux" else None


class _Known:
    """What the terminal answered; it is asked once."""

    way: str | None = None


def _asked_once() -> str:
    if _Known.way is None:
        answer = _answer_of_terminal()
        if answer is None:  # could not be asked now
            return "blocks"
        _Known.way = understood(answer)
    return _Known.way


def understood(answer: bytes) -> str:
    """The best way of a terminal that answered so."""
    if b"\x1b_Gi=31;OK" in answer:
        return "kitty"
    kind = _KIND.search(answer)
    return "sixel" if kind and b"4" in kind[1].split(b";")[1:] else "blocks"


def _answer_of_terminal() -> bytes | None:
    """What it says to QUESTION; None where it must not be asked: no keyboard, or keys wait to be read."""
    try:
        import termios
        import tty
    except ImportError:
        return None
    try:
        inlet = sys.stdin.fileno()
        if not os.isatty(inlet) or select.select([inlet], [], [], 0)[0]:
            return None
        before = termios.tcgetattr(inlet)
    except (OSError, ValueError, termios.error):
        return None
    try:
        tty.setcbreak(inlet, termios.TCSANOW)
        sys.stdout.write(QUESTION)
        sys.stdout.flush()
        return _read_answer(inlet)
    except (OSError, termios.error):
        return None
    finally:
        termios.tcsetattr(inlet, termios.TCSANOW, before)


def _read_answer(inlet: int) -> bytes:
    answer = b""
    end = time.monotonic() + PATIENCE_SECONDS
    while not _KIND.search(answer) and (left := end - time.monotonic()) > 0:
        if select.select([inlet], [], [], left)[0]:
            answer += os.read(inlet, 1024)
    return answer


# ---- sizes


def _cells(size: tuple[int, int], rows: int) -> tuple[int, int]:
    """Columns and rows that keep the picture's shape and fit into the terminal."""
    columns_there, rows_there = _window()
    width, height = _cell_pixels()
    rows = max(1, min(rows, rows_there - 2))
    columns = rows * height / width * size[0] / size[1]
    if columns > columns_there - 1:
        rows = max(1, int(rows * (columns_there - 1) / columns))
        columns = columns_there - 1
    return max(1, round(columns)), rows


def _window() -> tuple[int, int]:
    try:
        window = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return 80, 24
    return window.columns or 80, window.lines or 24


def _cell_pixels() -> tuple[float, float]:
    """Width and height of a character, as the terminal says."""
    try:
        import fcntl
        import struct
        import termios

        raw = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        rows, columns, width, height = struct.unpack("HHHH", raw)
    except (ImportError, OSError, ValueError):
        return CELL
    return (width / columns, height / rows) if rows and columns and width and height else CELL


# ---- the three ways


def _kitty(image: Image.Image, columns: int, rows: int) -> str:
    """The picture as PNG in base64, in chunks; the terminal scales it to the cells."""
    width, height = _cell_pixels()
    small = image.copy()
    small.thumbnail((max(round(columns * width), 1) * 2, max(round(rows * height), 1) * 2))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    chunks = [data[at : at + KITTY_CHUNK] for at in range(0, len(data), KITTY_CHUNK)]
    out = []
    for number, chunk in enumerate(chunks):
        control = f"a=T,f=100,q=2,c={columns},r={rows}," if number == 0 else ""
        out.append(f"\x1b_G{control}m={int(number < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(out)


def _sixel(image: Image.Image, columns: int, rows: int) -> str:
    """The picture as sixels: bands of six rows, in each the pixels of one colour after the other."""
    width, height = _cell_pixels()
    size = (max(round(columns * width), 1), max(round(rows * height), 6) // 6 * 6)
    small = image.convert("RGB").resize(size).quantize(SIXEL_COLOURS)
    palette = small.getpalette() or []
    colours = [palette[3 * n : 3 * n + 3] for n in range(len(palette) // 3)]
    head = "".join(
        f"#{n};2;{round(r / 2.55)};{round(g / 2.55)};{round(b / 2.55)}" for n, (r, g, b) in enumerate(colours)
    )
    return f'\x1bPq"1;1;{size[0]};{size[1]}{head}{"-".join(_sixel_bands(small))}\x1b\\'


def _sixel_bands(image: Image.Image) -> Iterator[str]:
    import numpy as np

    pixels = np.asarray(image)  # [H, W] of numbers of colours
    weights = (1 << np.arange(6))[:, None]
    for top in range(0, pixels.shape[0], 6):
        band = pixels[top : top + 6]
        layers = []
        for colour in np.unique(band):
            values = ((band == colour) * weights[: len(band)]).sum(axis=0)
            layers.append(f"#{colour}{_run_lengths(values.tolist())}")
        yield "$".join(layers)


def _run_lengths(values: list[int]) -> str:
    out = []
    start = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            sign, count = chr(63 + values[start]), at - start
            out.append(f"!{count}{sign}" if count > 3 else sign * count)
            start = at
    return "".join(out)


def _blocks(image: Image.Image, columns: int, rows: int) -> str:
    """Two pixels a character: the upper one the colour of the sign, the lower one that behind it."""
    small = image.convert("RGB").resize((columns, 2 * rows))
    raw = small.tobytes()
    colour = _true_colour if _has_true_colour() else _cube_colour

    def pixel(x: int, y: int) -> tuple[int, int, int]:
        at = 3 * (y * columns + x)
        return raw[at], raw[at + 1], raw[at + 2]

    lines = []
    for row in range(rows):
        cells, last = [], ""
        for x in range(columns):
            code = f"\x1b[38;{colour(*pixel(x, 2 * row))};48;{colour(*pixel(x, 2 * row + 1))}m"
            cells.append(("" if code == last else code) + "▀")
            last = code
        lines.append("".join(cells) + "\x1b[0m\n")
    return "".join(lines)


def _has_true_colour() -> bool:
    return os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "direct" in os.environ.get("TERM", "")


def _true_colour(red: int, green: int, blue: int) -> str:
    return f"2;{red};{green};{blue}"


def _cube_colour(red: int, green: int, blue: int) -> str:
    """The nearest of the 216 colours that every terminal of 256 has."""
    levels = [0 if value < 48 else 1 if value < 115 else (value - 35) // 40 for value in (red, green, blue)]
    return f"5;{16 + 36 * levels[0] + 6 * levels[1] + levels[2]}"
