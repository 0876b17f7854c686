"""`bellevl watch`: new pictures of a folder are answered once, also those that came while nobody watched."""

from __future__ import annotations

import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Bellevl, program
from PIL import Image

from bellevl_cli.asking.listing import read_endings
from bellevl_cli.asking.watch import Folder


class Watched:
    """A running watch; lines of stdout as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]
            self._lines.put(line.decode())

    def line(self, seconds: float = 100) -> str:
        return self._lines.get(timeout=seconds)

    def header(self) -> str:
        """The name in the next header."""
        while True:
            if found := re.fullmatch(r"== (.+) ==\n", self.line()):
                return found[1]

    def wait_until_it_watches(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "正在看着" in line.decode():
                return
        raise AssertionError("it ended")


@contextmanager
def watching(environment: dict[str, str], model: Path, folder: Path, *more: str) -> Iterator[Watched]:
    """Ends with Ctrl-C, which is 130."""
    command = [
        *program(),
        "watch",
        str(folder),
        "提取文字",
        "-m",
        str(model),
        "--every",
        "0.1",
        "--max-tokens",
        "4",
        *more,
    ]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        watched = Watched(process)
        watched.wait_until_it_watches()
        try:
            yield watched
        finally:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            error = process.stderr.read()
            assert process.wait(timeout=60) == 130
            assert b"Traceback" not in error


def test_new_pictures_are_answered_once(
    environment: dict[str, str], tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    """What was there stays unasked; what comes is answered under its name; what came in between the next time."""
    folder = tmp_path / "截图 1"
    folder.mkdir()
    shutil.copy(picture, folder / "旧.png")
    with watching(environment, tiny_folder, folder) as watched:
        (folder / "notes.txt").write_text("no picture")
        shutil.copy(picture, folder / "新 1.png")
        assert watched.header() == "新 1.png"
        assert len(watched.line().strip()) == 4
    shutil.copy(picture, folder / "新 2.png")
    with watching(environment, tiny_folder, folder) as watched:
        assert watched.header() == "新 2.png"
        (folder / "新 3.png").write_bytes(picture.read_bytes())
        assert watched.header() == "新 3.png"


def test_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture is new when it did not change between two looks and was not done; the state outlives the watch."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "old.png")

    def watch(question: str = "问", existing: bool = False) -> Folder:
        return Folder(folder, read_endings(None), question, existing)

    def new(watched: Folder) -> list[str]:
        return [path.name for path, _ in watched.new()]

    watched = watch()
    assert new(watched) == new(watched) == []
    path = folder / "a.png"
    path.write_bytes(b"half")
    assert new(watched) == []
    path.write_bytes(b"half and more")
    assert new(watched) == []
    [(found, mark)] = list(watched.new())
    assert found == path
    watched.done(found, mark)
    assert new(watched) == []
    again = watch()
    new(again)
    assert new(again) == []
    other = watch("另一个问题", existing=True)
    new(other)
    assert sorted(new(other)) == ["a.png", "old.png"]
    time.sleep(0.01)
    path.write_bytes(b"another picture of the same name")
    new(again)
    assert new(again) == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none", "问"], 2, "不是目录"),
        ([".", "问", "--every", "0"], 2, "--every"),
        ([".", "问", "-t", "找不同"], 2, "只能用于 ask"),
    ],
)
def test_what_cannot_be_watched(bellevl: Bellevl, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    """A folder that is not there and a wrong option are told in one line."""
    done = bellevl("watch", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, b"") and said in done.stderr.decode()
