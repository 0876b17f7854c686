"""Pictures shown in the terminal: the three ways, what terminals answer, and where nothing may be shown."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pexpect
import pyte
import pytest
from conftest import program
from PIL import Image

from bellevl.drawing import Marked, colours_of, draw_marked
from bellevl_cli.pictures import terminal


class Screen(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    for name in (
        "NO_COLOR",
        "TMUX",
        "STY",
        "KITTY_WINDOW_ID",
        "TERM_PROGRAM",
        "BELLEVL_PLAIN",
        "BELLEVL_SHOW",
        "BELLEVL_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    stream = Screen()  # not as sys.stdout itself, which pytest sets anew for each phase of a test
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdout=stream, stdin=io.StringIO()))
    return stream


NOISE = Image.effect_noise((300, 300), 100).convert("RGB")
TWO = Image.new("RGB", (40, 20), (255, 0, 0))
TWO.paste((0, 0, 255), (0, 10, 40, 20))


def test_half_blocks(screen: Screen) -> None:
    """Where nothing better is known, two pixels a character; pyte sees the picture's colours at its shape."""
    drawn = terminal.shown(TWO, rows=4)
    assert drawn is not None and drawn.count("\n") == 4
    display = pyte.Screen(80, 24)
    pyte.Stream(display).feed(drawn.replace("\n", "\r\n"))
    assert display.buffer[0][0].data == "▀" and display.buffer[0][0].fg == "ff0000"
    assert display.buffer[3][15].bg == "0000ff" and display.buffer[3][16].data == " "
    assert display.cursor.y == 4


def test_a_frame_is_seen_in_half_blocks(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box on a picture keeps its colour in half blocks, where a line of the picture's own width is lost; a terminal
    that shows pixels gets the picture's own line."""
    white, box = Image.new("RGB", (448, 448), "white"), Marked("", 1, (60, 100, 400, 400))
    darkest = []
    for line in (None, terminal.line_width(white.size)):
        drawn = terminal.shown(draw_marked(white, [box], line))
        assert drawn is not None
        colours = re.findall(r"[34]8;2;(\d+);(\d+);(\d+)", drawn)
        darkest.append(min(sum(map(int, colour)) for colour in colours))
    frame = sum(int(colours_of([""])[""][place : place + 2], 16) for place in (1, 3, 5))
    assert darkest[1] < frame + 150 < darkest[0]
    monkeypatch.setenv("BELLEVL_SHOW", "kitty")
    assert terminal.line_width(white.size) is None


def test_half_blocks_in_256_colours(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without true colours gets the nearest of its own."""
    monkeypatch.delenv("COLORTERM")
    drawn = terminal.shown(TWO, rows=2)
    assert drawn is not None and "38;5;196" in drawn and "48;5;21" in drawn and ";2;" not in drawn


def test_kitty(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kitty gets a PNG in chunks, with the cells it takes."""
    monkeypatch.setenv("TERM", "xterm-kitty")
    drawn = terminal.shown(NOISE, rows=5)
    assert drawn is not None
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", drawn)
    assert "a=T" in parts[0][0] and "r=5" in parts[0][0] and "c=10" in parts[0][0]
    assert [p[0][-3:] for p in parts[1:]] == ["m=1"] * (len(parts) - 2) + ["m=0"]
    assert Image.open(io.BytesIO(base64.b64decode("".join(p[1] for p in parts)))).size == (200, 200)


def test_sixel(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded again, the sixels are the picture."""
    monkeypatch.setenv("BELLEVL_SHOW", "sixel")
    drawn = terminal.shown(TWO, rows=3)
    assert drawn is not None and drawn.startswith("\x1bPq") and drawn.endswith("\x1b\\\n")
    pixels = decode_sixel(drawn)
    assert pixels.shape == (60, 120, 3)
    assert (pixels[5, 5] == (255, 0, 0)).all() and (pixels[50, 100] == (0, 0, 255)).all()


def decode_sixel(text: str) -> np.ndarray:
    """A plain reading of the format."""
    width, height = map(int, re.search(r'"1;1;(\d+);(\d+)', text).groups())  # type: ignore[union-attr]
    colours = {
        int(n): [round(int(v) * 2.55) for v in rgb] for n, *rgb in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", text)
    }
    body = re.sub(r'^\x1bPq"[\d;]+(?:#\d+;2;\d+;\d+;\d+)*', "", text).removesuffix("\x1b\\\n")
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for number, band in enumerate(body.split("-")):
        for layer in band.split("$"):
            colour, signs = re.match(r"#(\d+)(.*)", layer).groups()  # type: ignore[union-attr]
            x = 0
            for count, sign in re.findall(r"(?:!(\d+))?([?-~])", signs):
                for bit in range(6):
                    if (ord(sign) - 63) >> bit & 1:
                        pixels[6 * number + bit, x : x + int(count or 1)] = colours[int(colour)]
                x += int(count or 1)
    return pixels


@pytest.mark.parametrize(
    "setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"BELLEVL_PLAIN": "1"}, {"BELLEVL_SHOW": "off"}]
)
def test_nothing_where_it_must_not_be(screen: Screen, monkeypatch: pytest.MonkeyPatch, setting: dict[str, str]) -> None:
    """No picture without colours, in plain mode, on a dumb terminal, or where it was switched off."""
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert terminal.shown(TWO) is None


def test_nothing_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture where stdout is not a terminal, whatever was asked for."""
    monkeypatch.setenv("BELLEVL_SHOW", "kitty")
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdout=io.StringIO(), stdin=io.StringIO()))
    assert terminal.shown(TWO) is None and terminal.protocol() is None


@pytest.mark.parametrize(
    ("answer", "way"),
    [
        (b"\x1b_Gi=31;OK\x1b\\\x1b[?62;c", "kitty"), (b"\x1b[?62;4;22c", "sixel"), (b"\x1b[?62;22c", "blocks"),
        (b"", "blocks"), (b"\x1b[?64;14;24c", "blocks"),
    ],
)  # fmt: skip
def test_answers_of_terminals(answer: bytes, way: str) -> None:
    """What terminals answer is understood; silence means half blocks."""
    assert terminal.understood(answer) == way


@pytest.mark.parametrize(
    ("answer", "sign"), [(b"\x1b_Gi=31;OK\x1b\\\x1b[?62;4c", "\x1b_Ga=T"), (b"\x1b[?1;4c", "\x1bPq")]
)
def test_see_asks_a_real_terminal(environment: dict[str, str], picture: Path, answer: bytes, sign: str) -> None:
    """On a terminal `bellevl see` asks, understands the answer and shows the picture that way."""
    env = {**environment, "TERM": "xterm-256color"}
    child = pexpect.spawn(program()[0], [*program()[1:], "see", str(picture)], env=env, timeout=120, encoding="utf-8")
    child.expect_exact("\x1b[c")
    child.send(answer.decode())
    child.expect_exact(sign)
    child.expect(pexpect.EOF)
    assert "60×40" in (child.before or "")
    child.close()
    assert child.exitstatus == 0


def test_see_with_a_picture_on_stdin_and_a_terminal_for_output(environment: dict[str, str], picture: Path) -> None:
    """Where stdin is the picture there is nobody to ask: half blocks, no waiting, no error."""
    command = f"cat '{picture}' | {' '.join(program())} see -"
    env = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    child = pexpect.spawn("/bin/sh", ["-c", command], env=env, timeout=120, encoding="utf-8")
    child.expect_exact("▀")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
