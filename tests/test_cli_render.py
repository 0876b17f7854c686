"""What goes to which stream, and how a line is rewritten."""

from __future__ import annotations

import errno
import io
import os

import pytest
from rich.cells import cell_len

from bellevl_cli.screen.render import ERASE_LINE, Renderer


class Screen(io.StringIO):
    """A stderr that is a terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


class FullDisk(io.StringIO):
    """A stderr that takes nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


def test_a_stage_is_one_line_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that would wrap is cut to the line, so that the next one can take its place."""
    monkeypatch.setenv("TERM", "xterm")
    renderer = Renderer(io.StringIO(), Screen())
    for text in ("思考 …", "载入模型 " + "很长的名字" * 30, "x" * 200):
        renderer.stage(text)
    _, *stages = renderer.err.getvalue().split(ERASE_LINE)  # type: ignore[attr-defined]
    assert stages[0] == "思考 …" and [cell_len(stage) for stage in stages[1:]] == [79, 79]


def test_a_full_stderr_costs_the_notes_and_not_the_answer() -> None:
    """Where notes cannot be written the answer still comes; where their reader is gone the program ends."""
    out = io.StringIO()
    renderer = Renderer(out, FullDisk(errno.ENOSPC))
    renderer.note("提示")
    renderer.answer("红")
    renderer.end_answer()
    assert out.getvalue() == "红\n"
    with pytest.raises(BrokenPipeError):
        Renderer(out, FullDisk(errno.EPIPE)).note("提示")
