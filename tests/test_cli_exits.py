"""Errors become one line and an exit code, in one place."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import typer
from conftest import program

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
from bellevl_cli import exits

ERRORS: list[tuple[BaseException, int]] = [
    (PictureError("picture.empty", path="a"), 3),
    (CheckpointError("model.no_config", folder="a"), 4),
    (TokenizerError("tokenizer.missing", folder="a"), 4),
    (OutOfMemoryError("memory.short", what="a", need="1", free="0"), 5),
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
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The last error goes into a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    return tmp_path / "bellevl"


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


def test_debug_shows_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """With --debug the traceback stands before the line."""
    exits.run(lambda: 1 / 0, lambda: True)
    assert "ZeroDivisionError: division by zero\n" in capfd.readouterr().err


def test_the_last_error_is_kept(own_state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --debug the traceback is in a file that only this user can read."""
    exits.run(lambda: 1 / 0, bool)
    kept = own_state / "last-error.txt"
    assert "Traceback" not in capfd.readouterr().err
    assert "ZeroDivisionError" in kept.read_text(encoding="utf-8")
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
