"""An answer that streams onto a terminal: what the screen shows at every moment and in the end."""

from __future__ import annotations

import io
import os
import unicodedata

import pyte
import pytest

from bellevl_cli.screen.live import (
    FRAME_SECONDS,
    LineAnswer,
    LiveAnswer,
    RawAnswer,
    SentenceAnswer,
    screen_size,
    streamed_answer,
)
from bellevl_cli.screen.look import Asked, Look, look_of
from bellevl_cli.screen.render import Renderer
from bellevl_cli.screen.stage import clear_all
from bellevl_cli.screen.wrap import NO_START

LIVE = Look(plain=False, live=True, color=True, format="live")

ANSWER = """# 图中有什么

图里有**三只狗**，其中一只戴着`红色`帽子（很小），另外两只在睡觉；旁边还有一棵树、一张长椅，天气很好。
- 第一只：红帽子，坐着，看着镜头，尾巴翘得很高，好像在等人给它食物。
- 第二只：睡着了。

| 名称 | 数量 | 颜色 |
|------|-----:|------|
| 狗 | 3 | 棕色 |
| bench | 1 | 绿 |

```python
print("你好")
```
以上。"""


class Terminal(io.StringIO):
    """A terminal in memory: text goes to a screen as through a tty; `writes` counts them."""

    def __init__(self, columns: int, lines: int = 60) -> None:
        super().__init__()
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self.screen)
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def rows(self) -> list[str]:
        """What stands on the screen; pyte leaves an empty cell behind a wide character."""
        return [row.rstrip() for row in self.screen.display]

    def text(self) -> str:
        return "\n".join(self.rows()).rstrip()

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def style(self, text: str) -> pyte.screens.Char:
        """The cell that `text` begins with."""
        for y, row in enumerate(self.rows()):
            if text in row:
                before = row[: row.index(text)]
                x = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in before)
                return self.screen.buffer[y][x]
        raise AssertionError(f"no {text!r} on the screen:\n{self.text()}")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stream(text: str, terminal: Terminal, step: int = 3, frame: bool = True) -> None:
    """An answer in pieces of `step` characters; `frame`: each is drawn."""
    clock = Clock()
    live = LiveAnswer(terminal, LIVE, terminal.size, clock)
    for place in range(0, len(text), step):
        clock.now += 1 if frame else 0
        live.push(text[place : place + step])
    live.end()


@pytest.mark.parametrize("columns", [40, 80, 121])
@pytest.mark.parametrize(("step", "frame"), [(1, True), (3, True), (7, False), (10_000, True)])
def test_the_end_is_the_same_however_it_came(columns: int, step: int, frame: bool) -> None:
    """The screen at the end does not depend on the pieces, has no mark of markdown and no row that begins with ，。."""
    whole = Terminal(columns)
    stream(ANSWER, whole, len(ANSWER))
    terminal = Terminal(columns)
    stream(ANSWER, terminal, step, frame)
    assert terminal.text() == whole.text()
    assert "**" not in terminal.text() and "`红色`" not in terminal.text() and "# 图中" not in terminal.text()
    assert not [row for row in terminal.rows() if row[:1] and row[0] in NO_START]
    assert terminal.text().replace("\n", "").count("看着镜头") == 1
    assert terminal.screen.cursor.x == 0


def test_finished_lines_are_rendered_and_the_last_is_raw() -> None:
    """While a line comes it is as the model writes it; its markup goes when it is finished."""
    terminal, clock = Terminal(40), Clock()
    live = LiveAnswer(terminal, LIVE, terminal.size, clock)
    live.push("有**三只**狗")
    assert terminal.rows()[0] == "有**三只**狗"
    live.push("。\n另外**一")
    clock.now += 1
    live.push("只")
    assert terminal.rows()[:2] == ["有三只狗。", "另外**一只"]
    assert terminal.style("三只").bold and not terminal.style("有").bold
    live.end()


def test_a_table_is_lined_up_when_it_is_over() -> None:
    """Columns stand below each other counted in columns of the terminal, however wide their characters are."""
    terminal = Terminal(60)
    stream("| 名称 | 数 |\n|--|--|\n| 狗 | 3 |\n| bench | 12 |\n完", terminal, 2)
    assert terminal.rows()[:5] == ["名称   数", "-----  --", "狗     3", "bench  12", "完"]
    assert terminal.style("名称").bold


def test_a_table_wider_than_the_window_becomes_lines() -> None:
    """Where the columns have no room each cell says which one it is."""
    terminal = Terminal(20)
    stream("| 名称 | 说明 |\n|--|--|\n| 狗 | 一只戴着红帽子的狗 |\n", terminal, 2)
    assert terminal.rows()[:3] == ["- 名称: 狗", "  说明: 一只戴着红帽", "    子的狗"]


def test_what_has_left_the_screen_is_not_rewritten() -> None:
    """A line longer than the window stays as it was written: nothing above the top of the screen is touched."""
    terminal = Terminal(20, 6)
    text = "".join(f"第{n}句**话**。" for n in range(40))
    stream(text + "\n好的。", terminal, 4)
    assert terminal.rows()[-2] == "好的。" and "**话**" in terminal.text()
    moves = [write for write in terminal.writes if "A" in write and "\x1b[" in write]
    assert not moves


def test_a_window_that_is_made_narrower_keeps_what_stands_there() -> None:
    """After a change of width the unfinished line is not rewritten, the next one is again."""
    terminal, clock = Terminal(40), Clock()
    live = LiveAnswer(terminal, LIVE, terminal.size, clock)
    live.push("有**三只")
    terminal.screen.resize(columns=30)
    clock.now += 1
    live.push("狗**。\n有**猫**。\n")
    live.end()
    assert terminal.rows()[:2] == ["有**三只狗**。", "有猫。"]


def test_drawing_is_capped_at_twenty_frames_a_second() -> None:
    """Pieces that come faster than frames are drawn together."""
    terminal, clock = Terminal(80), Clock()
    live = LiveAnswer(terminal, LIVE, terminal.size, clock)
    for _ in range(1000):
        clock.now += 0.001
        live.push("字")
    assert len(terminal.writes) <= 1.0 / FRAME_SECONDS + 1
    live.end()
    assert terminal.text().replace("\n", "") == "字" * 1000


def test_no_full_screen_is_ever_cleared() -> None:
    """Neither a clear of the screen nor a jump to its corner is written."""
    terminal = Terminal(40)
    stream(ANSWER, terminal, 3)
    written = "".join(terminal.writes)
    assert "\x1b[2J" not in written and "\x1b[H" not in written and "\x1bc" not in written


def test_pipes_get_the_text_as_it_came() -> None:
    """Off a terminal the answer is the model's text, byte for byte, and one newline."""
    out = io.StringIO()
    answer = streamed_answer(out, look_of(False, Asked()))
    assert isinstance(answer, RawAnswer)
    for c in ANSWER:
        answer.push(c)
    answer.end()
    assert out.getvalue() == ANSWER + "\n"


def test_markdown_into_a_pipe_is_finished_lines() -> None:
    """--format markdown renders for a pipe, too, without colours and without moving the cursor."""
    out = io.StringIO()
    answer = streamed_answer(out, look_of(False, Asked(format="markdown")))
    assert isinstance(answer, LineAnswer)
    answer.push("| 名 | 数 |\n|--|--|\n| 狗 | 3 |\n- **一**")
    assert out.getvalue() == ""
    answer.end()
    assert out.getvalue() == "名  数\n--  --\n狗  3\n- **一**\n"


def test_a_screen_reader_gets_whole_sentences() -> None:
    """With --plain each write is one or more sentences, and together they are the text."""

    class Writes(io.StringIO):
        said: list[str]

        def write(self, text: str) -> int:
            self.said = [*getattr(self, "said", []), text]
            return super().write(text)

    out = Writes()
    answer = streamed_answer(out, look_of(True, Asked(plain=True)))
    assert isinstance(answer, SentenceAnswer)
    for c in "有三只狗。其中一只“很大。”价格 3.5 元! It is 2.5 m. 完":
        answer.push(c)
    answer.end()
    assert out.said == ["有三只狗。", "其中一只“很大。”", "价格 3.5 元!", " It is 2.5 m.", " 完\n"]


@pytest.mark.parametrize("form", ["raw", "markdown", "live"])
def test_an_empty_answer_is_an_empty_line(form: str) -> None:
    """Whatever the form, an answer without text is one newline."""
    out = io.StringIO()
    answer = streamed_answer(out, Look(plain=False, live=form == "live", color=False, format=form))
    assert not answer.open
    answer.end()
    assert out.getvalue() == "\n"


@pytest.mark.parametrize(
    ("terminal", "wanted", "environ", "expected"),
    [
        (True, Asked(), {"TERM": "xterm"}, Look(False, True, True, "live")),
        (False, Asked(), {"TERM": "xterm"}, Look(False, False, False, "raw")),
        (True, Asked(), {"TERM": "dumb"}, Look(False, False, False, "raw")),
        (True, Asked(), {"TERM": "xterm", "NO_COLOR": "1"}, Look(False, True, False, "live")),
        (True, Asked(), {"TERM": "xterm", "NO_COLOR": ""}, Look(False, True, True, "live")),
        (False, Asked(), {"FORCE_COLOR": "1"}, Look(False, False, True, "raw")),
        (False, Asked(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, Look(False, False, False, "raw")),
        (True, Asked(color="always"), {"TERM": "xterm", "NO_COLOR": "1"}, Look(False, True, True, "live")),
        (True, Asked(color="never"), {"TERM": "xterm", "FORCE_COLOR": "1"}, Look(False, True, False, "live")),
        (True, Asked(plain=True), {"TERM": "xterm"}, Look(True, False, False, "raw")),
        (True, Asked(format="raw"), {"TERM": "xterm"}, Look(False, True, True, "raw")),
        (False, Asked(format="markdown", color="always"), {}, Look(False, False, True, "markdown")),
        (True, Asked(), {"TERM": "xterm", "plain": "1"}, Look(True, False, False, "raw")),
        (True, Asked(), {"TERM": "xterm", "format": "raw"}, Look(False, True, True, "raw")),
        (True, Asked(format="markdown"), {"TERM": "xterm", "format": "raw"}, Look(False, True, True, "live")),
        (True, Asked(), {"TERM": "xterm", "color": "never"}, Look(False, True, False, "live")),
        (True, Asked(color="auto"), {"TERM": "xterm", "color": "never"}, Look(False, True, True, "live")),
        (False, Asked(), {"NO_COLOR": "1", "color": "always"}, Look(False, False, False, "raw")),
    ],
)
def test_what_decides_the_look(terminal: bool, wanted: Asked, environ: dict[str, str], expected: Look) -> None:
    """An option goes before NO_COLOR, that before the configuration and FORCE_COLOR; a dumb terminal is neither
    coloured nor rewritten."""
    settings = {"plain": "", "color": "auto", "format": "auto", **environ}
    assert look_of(terminal, wanted, environ, settings.__getitem__) == expected


def test_the_look_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """BELLEVL_PLAIN and BELLEVL_FORMAT are what the options would have said."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("BELLEVL_FORMAT", "raw")
    assert look_of(True) == Look(False, True, True, "raw")
    monkeypatch.setenv("BELLEVL_PLAIN", "1")
    assert look_of(True) == Look(True, False, False, "raw")


def test_a_terminal_that_says_no_size_has_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo-terminal whose size nobody set (0 by 0) is written like one of 80 by 24, stages too."""
    controller, terminal = os.openpty()
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with open(controller, "rb", buffering=0) as screen, open(terminal, "w", encoding="utf-8") as err:
        assert screen_size(err) == (80, 24)
        Renderer(io.StringIO(), err).stage("思考 …")
        assert "思考 …" in screen.read(100).decode()
        clear_all()
