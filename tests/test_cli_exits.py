"""Errors become one line and an exit code, in one place."""

from __future__ import annotations

import gc
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from conftest import program

from bellevl import __version__
from bellevl.errors import (
    BellevlError,
    CheckpointError,
    DeviceError,
    OutOfMemoryError,
    PictureError,
    PromptError,
    QuantizeError,
    TokenizerError,
)
from bellevl_cli import app, exits

ERRORS: list[tuple[BaseException, int]] = [
    (PictureError("picture.empty", path="a"), 3),
    (CheckpointError("model.no_config", folder="a"), 4),
    (TokenizerError("tokenizer.missing", folder="a"), 4),
    (OutOfMemoryError("memory.short", what="a", need="1", free="0", users="", choices=""), 5),
    (MemoryError(), 5),
    (DeviceError("device.unknown", device="tpu"), 2),
    (DeviceError("device.absent", device="cuda", reason="none"), 1),
    (PromptError("prompt.setting", name="top_p", value=2, reason="no"), 2),
    (PromptError("prompt.too_long", tokens=9, room=1), 1),
    (QuantizeError("quantize.exists", folder="a"), 1),
    (QuantizeError("quantize.option", name="bits", value=3, reason="not 4"), 2),
    (typer.BadParameter("x"), 2),
    (KeyboardInterrupt(), 130),
    (BrokenPipeError(), 141),
    (exits.TerminatedError(), 143),
    (ValueError("bug"), 1),
]


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The last error goes into a folder of the test's own; the signals stay those of the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield tmp_path / "bellevl"
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[type(e).__name__ + str(c) for e, c in ERRORS])
def test_each_error_has_its_code(error: BaseException, code: int) -> None:
    """The exit code says what kind of thing a person can mend."""
    assert exits.exit_code(error) == code


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[type(e).__name__ + str(c) for e, c in ERRORS])
def test_each_error_is_at_most_one_line(
    error: BaseException, code: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said about an error is one line on stderr; a broken pipe and TERM are not talked about."""
    monkeypatch.setattr(exits, "_silence", lambda stream: None)

    def action() -> None:
        raise error

    assert exits.run(action, bool) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == (0 if code in (141, 143) else 1)
    if isinstance(error, BellevlError):
        assert err.startswith("错误: ") and "试试: " in err


@pytest.mark.parametrize(("first", "code"), [(KeyboardInterrupt, 130), (exits.TerminatedError, 143)])
def test_an_interrupted_import_is_an_interruption(
    first: type[BaseException], code: int, own_state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A library that makes an ImportError of Ctrl-C hides neither it nor TERM, and nothing is kept as an error."""

    def action() -> None:
        try:
            raise first
        except BaseException:
            raise ImportError("numpy did not load")  # noqa: B904 - as such a library does it

    assert exits.run(action, bool) == code
    assert "numpy" not in capfd.readouterr().err and not (own_state / "last-error.txt").exists()


def test_a_second_ctrl_c_does_not_break_the_goodbye(capfd: pytest.CaptureFixture[str]) -> None:
    """While the program says that it was interrupted, it cannot be interrupted."""

    def action() -> None:
        raise KeyboardInterrupt

    assert exits.run(action, bool) == 130
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert capfd.readouterr().err == "已中断\n"


def test_ctrl_c_while_the_program_starts_is_quiet(environment: dict[str, str]) -> None:
    """Before the command line is even parsed, Ctrl-C leaves no traceback."""
    code = (
        "import os, signal, sys, bellevl_cli.__main__ as entry\n"
        "class Loader:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'bellevl_cli.app': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Loader())\n"
        "entry.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode in (-signal.SIGINT, 130) and done.stderr == b""


def test_debug_shows_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """With --debug the traceback stands before the line."""
    exits.run(lambda: 1 / 0, lambda: True)
    assert "ZeroDivisionError: division by zero\n" in capfd.readouterr().err


def test_the_last_error_is_kept(own_state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --debug the traceback is in a file that only this user can read."""
    exits.run(lambda: 1 / 0, bool)
    kept = own_state / "last-error.txt"
    assert "Traceback" not in capfd.readouterr().err
    text = kept.read_text(encoding="utf-8")
    assert "ZeroDivisionError" in text and f"bellevl {__version__}, Python" in text and "\n$ bellevl" in text
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the last error cannot be kept, the error itself is still told."""
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    assert exits.run(lambda: 1 / 0, bool) == 1
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("show --model {model} > /dev/full", 1),
        ("show --model {model} >&-", 0),
        ("ask none.png 2>&-", 3),
        ("ask - <&-", 3),
        ("ask none.png 2> /dev/full", 3),
        ("chat --model {model} < /dev/null 2> /dev/full", 0),
        ("show --model {model} | true", 141),
    ],
)
def test_streams_that_are_full_or_closed(
    environment: dict[str, str], tiny_folder: Path, redirection: str, code: int
) -> None:
    """A full disk, a closed stream and a reader that is gone end with their code and never with a traceback."""
    line = f"{shlex.join(program())} {redirection.format(model=tiny_folder)}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, check=False)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_the_end_does_not_search_for_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it leaves the program takes all objects out of the collector's sight: with torch a search takes long."""
    monkeypatch.setattr(app.exits, "run", lambda invoke, debugging: 7)
    gc.unfreeze()
    try:
        with pytest.raises(SystemExit) as caught:
            app.main()
        assert caught.value.code == 7 and gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
