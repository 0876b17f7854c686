"""The clipboard's picture, through stand-ins for wl-paste and xclip that hold what a test put there."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Bellevl
from PIL import Image

from bellevl.errors import PictureError
from bellevl_cli.pictures import clipboard

Fill = Callable[..., None]

WL_PASTE = """#!/bin/sh
cd "$(dirname "$0")/held" 2>/dev/null || exit 1
if [ "$1" = --list-types ]; then ls | sed 's:@:/:'; else cat "$(echo "$3" | sed 's:/:@:')"; fi
"""
XCLIP = """#!/bin/sh
cd "$(dirname "$0")/held" 2>/dev/null || exit 1
if [ "$5" = TARGETS ]; then echo TIMESTAMP; ls | sed 's:@:/:'; else cat "$(echo "$5" | sed 's:/:@:')"; fi
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on PATH, with the system's own programs linked into it and no display."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "ls", "sed", "cat", "dirname", "echo", "sleep"):
        os.symlink(str(shutil.which(name)), folder / name)
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def fill(tools: Path, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """fill("wl-paste", **{"image/png": bytes}): a clipboard of that kind that holds these."""

    def fill(program: str, held: dict[str, bytes]) -> None:
        tool = tools / program
        tool.write_text(WL_PASTE if program == "wl-paste" else XCLIP)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("WAYLAND_DISPLAY" if program == "wl-paste" else "DISPLAY", ":0")
        if held:
            (tools / "held").mkdir(exist_ok=True)
        for kind, data in held.items():
            (tools / "held" / kind.replace("/", "@")).write_bytes(data)

    return fill


def refused() -> PictureError:
    with pytest.raises(PictureError) as error:
        clipboard.read_picture()
    return error.value


@pytest.mark.parametrize("program", ["wl-paste", "xclip"])
def test_picture_of_either_display(fill: Fill, picture: Path, program: str) -> None:
    """A copied picture is read on Wayland and on X11, with its digest and a name that says where it is from."""
    data = picture.read_bytes()
    fill(program, {"image/png": data, "text/html": b"<img>"})
    asked = clipboard.read_picture()
    assert asked.picture.size == (60, 40)
    assert asked.sha256 == hashlib.sha256(data).hexdigest()
    assert asked.picture.path is None and asked.name in ("剪贴板", "clipboard")


@pytest.mark.parametrize("kind", ["text/uri-list", "x-special/gnome-copied-files"])
def test_copied_file_is_opened(fill: Fill, picture: Path, kind: str) -> None:
    """A picture file copied in a file manager is opened as if it had been named."""
    fill("xclip", {kind: f"copy\n{picture.as_uri()}\n".encode(), "text/plain": str(picture).encode()})
    assert clipboard.read_picture().picture.path == picture


def test_no_picture_there(fill: Fill, picture: Path) -> None:
    """Text, two files, a file that is gone and an empty clipboard are no picture."""
    fill("wl-paste", {})
    assert refused().message == "picture.clipboard_empty"
    for held in (
        {"text/plain": b"hello"},
        {"text/uri-list": f"{picture.as_uri()}\r\n{picture.as_uri()}".encode()},
        {"text/uri-list": b"file:///none.png"},
    ):
        fill("wl-paste", held)
        assert refused().message == "picture.clipboard_empty"


def test_damaged_picture_is_told_as_such(fill: Fill) -> None:
    """What claims to be a picture and is none gets the message of a damaged file."""
    fill("wl-paste", {"image/png": b"\x89PNG not really"})
    assert refused().message == "picture.broken"


@pytest.mark.parametrize(("variable", "package"), [("WAYLAND_DISPLAY", "wl-clipboard"), ("DISPLAY", "xclip")])
def test_missing_tool_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch, variable: str, package: str) -> None:
    """Where the display is there and the program is not, the package to install is named."""
    monkeypatch.setenv(variable, ":0")
    error = refused()
    assert (error.message, error.facts["package"]) == ("picture.clipboard_tool", package)
    assert clipboard.missing_tool() == package


def test_no_display(tools: Path) -> None:
    """Without a screen, as over ssh, there is no clipboard, and no package would help."""
    assert refused().message == "picture.clipboard_none"
    assert clipboard.missing_tool() is None


def test_x11_behind_wayland(fill: Fill, picture: Path, tools: Path) -> None:
    """Where both are there and Wayland's holds nothing, X11's is read."""
    fill("xclip", {"image/png": picture.read_bytes()})
    fill("wl-paste", {})
    (tools / "wl-paste").write_text("#!/bin/sh\nexit 1\n")
    assert clipboard.read_picture().picture.size == (60, 40)


def test_owner_that_does_not_answer(fill: Fill, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clipboard whose owner hangs is given up after a moment."""
    fill("xclip", {})
    (tools / "xclip").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(clipboard, "PATIENCE_SECONDS", 0.2)
    started = time.monotonic()
    assert refused().message == "picture.clipboard_empty"
    assert time.monotonic() - started < 10


def test_text(fill: Fill) -> None:
    """Text is read as UTF-8; a picture alone is no text."""
    fill("wl-paste", {"text/plain;charset=utf-8": "你好\n".encode()})
    assert clipboard.read_text() == "你好\n"
    assert refused().message == "picture.clipboard_empty"


def test_command_line_without_a_clipboard(bellevl: Bellevl) -> None:
    """`bellevl see --clip` without a screen ends with 3 and one line that says so."""
    done = bellevl("see", "--clip")
    assert done.returncode == 3 and "剪贴板" in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


@pytest.fixture
def x_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real X server without a screen."""
    for program in ("Xvfb", "xclip"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed here")
    server = subprocess.Popen(["Xvfb", ":77", "-screen", "0", "64x64x8"], stderr=subprocess.DEVNULL)
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    time.sleep(1)
    yield
    server.terminate()
    server.wait()


def test_real_x_clipboard(x_display: None, tmp_path: Path) -> None:
    """With the real xclip: nothing, then text, then a picture that another program copied."""
    assert refused().message == "picture.clipboard_empty"
    subprocess.run(["xclip", "-selection", "clipboard"], input="你好".encode(), check=True, stdout=subprocess.DEVNULL)
    assert refused().message == "picture.clipboard_empty"
    assert clipboard.read_text() == "你好"
    path = tmp_path / "a.png"
    Image.new("RGB", (12, 34), "red").save(path)
    copy = ["xclip", "-selection", "clipboard", "-t", "image/png", "-i", str(path)]
    subprocess.run(copy, check=True, stdout=subprocess.DEVNULL)
    assert clipboard.read_picture().picture.size == (12, 34)


def test_doctor_says_where_there_is_no_clipboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a display doctor says that no picture can be pasted, which is no fault; with one, whether it can be."""
    from bellevl_cli.doctor_checks import _pictures

    monkeypatch.setenv("BELLEVL_LANG", "zh")
    monkeypatch.setattr(clipboard, "_on_linux", lambda: True)
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    finding = next(iter(_pictures()))
    assert (finding.id, finding.level) == ("clipboard", "ok") and "没有图形界面" in finding.text
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("shutil.which", lambda name: None)
    finding = next(iter(_pictures()))
    assert finding.level == "warning" and "xclip" in finding.text
