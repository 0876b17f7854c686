"""The line that says what is going on, and the figures behind an answer."""

from __future__ import annotations

import io
import time

import pytest

from bellevl.chat import Stats
from bellevl_cli.screen.look import painted
from bellevl_cli.screen.render import Renderer
from bellevl_cli.screen.stage import ERASE_LINE, QUIET_SECONDS, REPEAT_SECONDS, StageLine, clear_all
from bellevl_cli.screen.stats import decode_speed, stats_line


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def stage_line(live: bool) -> tuple[StageLine, list[str], Clock]:
    written: list[str] = []
    clock = Clock()
    return StageLine(written.append, lambda text: text, live, clock), written, clock


def test_a_stage_is_rewritten_in_place_with_its_percent_and_seconds() -> None:
    """On a terminal each change erases the line and writes it anew; clearing leaves an empty line and nothing else."""
    line, written, clock = stage_line(live=True)
    line.show("载入模型 nano …")
    line.progress(0.374)
    line.progress(0.379)  # the same percent is not written twice
    clock.now = 12.0
    line.progress(1.0)
    line.clear()
    line.clear()
    assert written == [
        ERASE_LINE + "载入模型 nano …",
        ERASE_LINE + "载入模型 nano … 37%",
        ERASE_LINE + "载入模型 nano … 100% 12s",
        ERASE_LINE,
    ]


def test_off_a_terminal_there_is_a_plain_line_now_and_then() -> None:
    """Nothing in the first five seconds; then a line, the same stage again after thirty, another stage after five."""
    line, written, clock = stage_line(live=False)
    line.show("载入")
    clock.now = QUIET_SECONDS - 0.1
    line.draw()
    assert written == []
    clock.now = QUIET_SECONDS
    line.draw()
    line.draw()
    clock.now += REPEAT_SECONDS - 0.1
    line.draw()
    assert written == ["载入 5s\n"]
    line.show("思考")
    assert written == ["载入 5s\n", "思考\n"]
    clock.now += REPEAT_SECONDS
    line.draw()
    assert written[2:] == ["思考 30s\n"]
    line.clear()
    assert len(written) == 3 and not any("\x1b" in text for text in written)


def test_a_stage_that_lasts_counts_its_seconds_by_itself() -> None:
    """While the model is busy the line goes on counting, and after it is cleared nothing more is written."""
    err = Screen()
    renderer = Renderer(io.StringIO(), err)
    renderer.live = True
    renderer.stage("思考 …")
    end = time.monotonic() + 20
    while "思考 … 1s" not in err.getvalue():
        assert time.monotonic() < end, err.getvalue()
        time.sleep(0.05)
    renderer.answer("红")
    length = len(err.getvalue())
    time.sleep(0.6)
    assert len(err.getvalue()) == length and err.getvalue().endswith(ERASE_LINE)


def test_an_error_begins_on_a_line_of_its_own() -> None:
    """Whatever stage is shown when the program fails is taken away first."""
    line, written, _ = stage_line(live=True)
    line.show("思考 …")
    clear_all()
    assert written[-1] == ERASE_LINE and not line.shown


def test_the_word_error_is_red_where_colours_are() -> None:
    """Only the first word of an error's line is coloured, in both languages, and no other line."""
    assert painted("错误: 没有图片", True) == "\x1b[1;31m错误:\x1b[0m 没有图片"
    assert painted("error: no picture", True).startswith("\x1b[1;31merror:\x1b[0m")
    assert painted("错误: 没有图片", False) == "错误: 没有图片" and painted("提示: 好", True) == "提示: 好"


STATS = Stats(prompt_tokens=290, new_tokens=41, vision_seconds=0.42, prefill_seconds=0.19, decode_seconds=1.25)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("zh", "载入 3.1s · 看图 0.42s · 首字 0.61s · 32.0 token/s · 290+41 token · 显存峰值 10.4 GB"),
        ("en", "load 3.1s · look 0.42s · first token 0.61s · 32.0 token/s · 290+41 tokens · peak GPU memory 10.4 GB"),
    ],
)
def test_the_timing_line(monkeypatch: pytest.MonkeyPatch, language: str, expected: str) -> None:
    """Load, picture, first token from the question on, tokens a second behind the first, peak memory."""
    monkeypatch.setenv("BELLEVL_LANG", language)
    assert stats_line(STATS, 3.14, 10_400_000_000, "cuda:0") == expected


def test_what_is_not_known_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follow-up has no picture to look at, an answer of one token no speed, and nobody loaded a model."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    assert stats_line(Stats(9, 1, 0.0, 0.2, 0.0)) == "首字 0.20s · 9+1 token"
    assert decode_speed(Stats(9, 1, 0.0, 0.2, 0.0)) is None and decode_speed(STATS) == 32.0
