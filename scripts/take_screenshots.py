"""The guide's pictures, made by the program itself: docs/pictures/page.png, boxes.png, chat.png.

page.png is the page of `bellevl serve` in headless Chromium, boxes.png what `bellevl ask --draw` writes, chat.png a
dialogue in tmux with the terminal's colours. The embedded model answers. Small palette pictures: look at them before
they go into the guide. Usage: take_screenshots.py [page] [boxes] [chat]

Needs chromium, tmux and the test extra.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from record_session import PROMPT, ROOT, Step, Terminal

sys.path.insert(0, str(ROOT / "tests"))
from browser import Browser

PICTURES = ROOT / "docs" / "pictures"
LARGEST_BYTES = 150_000

#: What is asked on the page, and in the terminal.
PAGE = (
    ("examples/night.png", "图中有什么？"),
    ("examples/海面.png", "帆船在鲸鱼的上面还是下面？"),
    ("", "框出图中的帆船。"),
)
BOXES = ("examples/海面.png", "框出图中的帆船。", 7)
CHAT = (
    Step("bellevl chat", "/help"),
    Step("/图 examples/海面.png 这是什么？", "帆船"),
    Step("框出图中的帆船。", r"帆船\[1\]"),
)

#: The 16 colours of a terminal.
BASIC = [
    "#1e1e1e", "#cd3131", "#0dbc79", "#e5e510", "#2472c8", "#bc3fbc", "#11a8cd", "#e5e5e5",
    "#666666", "#f14c4c", "#23d18b", "#f5f543", "#3b8eea", "#d670d6", "#29b8db", "#ffffff",
]  # fmt: skip

TERMINAL_PAGE = """<!doctype html><meta charset="utf-8"><style>
html {{ background: {0} }} body {{ margin: 14px; width: max-content }}
div {{ white-space: pre; height: 18px; line-height: 18px; display: grid; grid-auto-flow: column; grid-auto-columns: 9px;
  color: {1}; font: 15px/18px 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', 'WenQuanYi Zen Hei', monospace }}
i {{ font-style: normal; height: 18px }} i.w {{ grid-column: span 2 }}
</style><body>{2}"""


def page(folder: Path) -> Iterator[tuple[str, Path]]:
    """Two pictures, a dialogue each, boxes in the second one."""
    with serving(folder) as url, Browser(folder / "profile", 1180, 740) as browser:
        browser.open(url)
        browser.wait("document.getElementById('model').textContent")
        for number, (picture, question) in enumerate(PAGE):
            if picture:
                before = browser.run("threads.length")
                browser.choose("#file", ROOT / picture)
                browser.wait(f"threads.length === {before + 1} && !document.getElementById('frame').hidden")
            browser.run("document.getElementById('question').focus()")
            browser.type(question)
            browser.enter()
            browser.wait(f"threads.flatMap(t => t.turns).filter(t => t.state === 'done').length === {number + 1}", 300)
        time.sleep(0.5)  # the last animation
        browser.shot(folder / "page.png")
        assert browser.errors == []
    yield "page.png", folder / "page.png"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of `bellevl serve` with the embedded model."""
    command = [sys.executable, "-m", "bellevl_cli", "serve", "--port", "0", "-m", "nano"]
    child = subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603
    assert child.stdout is not None
    try:
        yield child.stdout.readline().decode().strip()
    finally:
        child.terminate()
        child.wait(60)


def boxes(folder: Path) -> Iterator[tuple[str, Path]]:
    """A picture with the boxes of an answer."""
    picture, question, seed = BOXES
    command = [sys.executable, "-m", "bellevl_cli", "ask", picture, question, "--seed", str(seed), "-m", "nano"]
    command += ["--draw", str(folder / "boxes.png")]
    subprocess.run(command, cwd=ROOT, env=environment(folder), check=True)  # noqa: S603
    yield "boxes.png", folder / "boxes.png"


def chat(folder: Path) -> Iterator[tuple[str, Path]]:
    """The terminal as it looks, at home in a folder whose name may be in the picture."""
    home = Path(tempfile.gettempdir()) / "bellevl"
    home.mkdir(exist_ok=True)
    program = folder / "bin" / "bellevl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bellevl_cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    os.environ.update(PATH=f"{program.parent}:{os.environ['PATH']}", PYTHONPATH=str(ROOT))
    with Terminal(home, ROOT) as terminal:
        terminal.ready()
        for step in CHAT:
            terminal.does(step)
        shown = terminal.screen(colours=True)
    (folder / "chat.html").write_text(as_page(shown), encoding="utf-8")
    with Browser(folder / "profile", 1000, 800) as browser:
        browser.open((folder / "chat.html").as_uri())
        width, height = browser.run("[document.body.offsetWidth + 28, document.body.offsetHeight + 28]")
        browser.size(width, height)
        browser.shot(folder / "chat.png")
    yield "chat.png", folder / "chat.png"


def environment(folder: Path) -> dict[str, str]:
    """A home of its own, and Chinese."""
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    return {**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT), "BELLEVL_LANG": "zh"}


# ---- a terminal's screen as a page


def as_page(screen: str) -> str:
    """The screen of `tmux capture-pane -e`, without what was before the program and without empty lines in a row."""
    from wcwidth import wcwidth

    rows: list[str] = []
    style = ""
    for line in screen[re.search(rf"(?m)^{PROMPT['shell']}", screen).start() :].splitlines():  # type: ignore[union-attr]
        cells = []
        for code, character in re.findall(r"\x1b\[([\d;]*)m|(?:\x1b.|[\x00-\x1f])|(.)", line):
            if character:
                kind = ' class="w"' if wcwidth(character) == 2 else ""
                cells.append(f'<i{kind} style="{style}">{html.escape(character)}</i>')
            else:
                style = styled(style, [int(part or 0) for part in code.split(";")])
        if cells or (rows and rows[-1]):
            rows.append("".join(cells))
    return TERMINAL_PAGE.format(BASIC[0], BASIC[7], "".join(f"<div>{row or '<i> </i>'}</div>" for row in rows))


def styled(style: str, codes: list[int]) -> str:
    """CSS of a cell after one more SGR sequence."""
    parts = dict(part.split(":") for part in style.split(";") if part)
    while codes:
        code = codes.pop(0)
        if code == 0:
            parts = {}
        elif code in (38, 48):
            parts["color" if code == 38 else "background"] = color(codes)
        elif code in (39, 49):
            parts.pop("color" if code == 39 else "background", None)
        elif code == 7:
            parts |= {"background": parts.get("color", BASIC[7]), "color": parts.get("background", BASIC[0])}
        elif code == 1:
            parts["font-weight"] = "bold"
        elif 30 <= code % 60 < 50:
            bright = 8 * (code >= 90)
            parts["color" if code % 60 < 40 else "background"] = BASIC[code % 10 + bright]
    return ";".join(f"{name}:{value}" for name, value in parts.items())


def color(codes: list[int]) -> str:
    """The colour behind a 38 or 48: one of 256, or red, green and blue. Takes its numbers off `codes`."""
    if codes.pop(0) == 2:
        return f"rgb({codes.pop(0)} {codes.pop(0)} {codes.pop(0)})"
    number = codes.pop(0)
    if number < 16:
        return BASIC[number]
    if number >= 232:
        return "rgb({0} {0} {0})".format(8 + 10 * (number - 232))
    levels = [0, 95, 135, 175, 215, 255]
    red, green, blue = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return f"rgb({levels[red]} {levels[green]} {levels[blue]})"


def keep(name: str, path: Path) -> None:
    """`path` as a small picture of the guide."""
    small = Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    PICTURES.mkdir(exist_ok=True)
    small.save(PICTURES / name, optimize=True)
    size = (PICTURES / name).stat().st_size
    assert size <= LARGEST_BYTES, f"{name}: {size} bytes"
    print(f"docs/pictures/{name} {small.width}x{small.height} {size} bytes")


def main(names: list[str]) -> None:
    for take in (page, boxes, chat):
        if not names or take.__name__ in names:
            with tempfile.TemporaryDirectory() as folder:
                for name, path in take(Path(folder)):
                    keep(name, path)


if __name__ == "__main__":
    main(sys.argv[1:])
