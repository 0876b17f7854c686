"""What every test stands on: no network, folders of the test's own, a small checkpoint, the program as a process."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import write_tiny_checkpoint

ROOT = Path(__file__).parents[1]

#: This machine itself; everything else is the network.
LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")

Bellevl = Callable[..., "subprocess.CompletedProcess[bytes]"]


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: the suite passes on a machine without a network, and nobody asks for one."""
    if event == "socket.connect":
        address = arguments[1]
        host = str(address[0]) if isinstance(address, tuple) else ""
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0] or "")
    else:
        return
    if host and not host.startswith(LOOPBACK):
        raise RuntimeError(f"a test wanted to reach {host}")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    os.environ.update(BELLEVL_CONFIG=os.devnull, BELLEVL_MODELS=os.path.join(os.devnull, "models"))  # nobody's own
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="bellevl-state-")  # speeds that tests have are not learned
    os.environ["BELLEVL_NO_LOG"] = "1"  # of this process; programs that tests start log into homes of their own
    # A suite started in the background inherits an ignored Ctrl-C, and so would the programs that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.addaudithook(_refuse_network)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ.pop("XDG_STATE_HOME"), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu run wherever there is one."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many of the tests against golden files passed, in one line."""
    kinds = ("passed", "failed", "error", "skipped")
    reports = [report for kind in kinds for report in terminalreporter.stats.get(kind, [])]
    golden = [report for report in reports if "golden" in report.nodeid]
    if golden:
        passed = sum(report.passed for report in golden)
        terminalreporter.write_line(f"golden cases: {passed} of {len(golden)} passed")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The golden files."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with random weights."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with a Chinese name and a space in it."""
    path = tmp_path_factory.mktemp("pictures") / "红色 方块.png"
    Image.new("RGB", (60, 40), (200, 30, 30)).save(path)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a started program: Chinese, folders of its own, one thread."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    home = tmp_path / "home"
    home.mkdir()
    return {
        **kept,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PYTHONPATH": str(ROOT),
        "BELLEVL_LANG": "zh",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(autouse=True)
def _the_guard_ends_with_the_test() -> Iterator[None]:
    """A test that runs the program in this process switches its network guard on for good; the next one starts free."""
    from bellevl_cli import guard

    before = guard._guard.active
    yield
    guard._guard.active = before


@pytest.fixture
def bellevl(environment: dict[str, str]) -> Bellevl:
    """Runs the program to its end: `bellevl("ask", "x.png", input=b"", env={})`."""

    def run(
        *arguments: str | Path, input: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*program(), *map(str, arguments)],
            input=input,
            env={**environment, **(env or {})},
            cwd=cwd,
            capture_output=True,
            timeout=120,
            check=False,
        )

    return run


def program() -> list[str]:
    """How tests start the program: with the interpreter that runs them."""
    return [sys.executable, "-m", "bellevl_cli"]


class Answer:
    """Answers of `bellevl ask --json` made in this process: `answer("question", max_tokens=3)["text"]`."""

    def __init__(self, model: Path, picture: Path) -> None:
        self.model, self.picture = model, picture
        self.notes = ""

    def __call__(self, question: str = "", model: Path | None = None, **sampling: Any) -> dict[str, Any]:
        """The record; `notes` is then what went to stderr."""
        from bellevl_cli.asking import ask, wishes
        from bellevl_cli.options import ModelOptions, SamplingOptions
        from bellevl_cli.screen.render import Renderer

        out, err = io.StringIO(), io.StringIO()
        options = wishes.AskOptions(
            (str(self.picture), *([question] if question else [])),
            output=wishes.OutputWishes(json=True),
            model=ModelOptions(model or self.model),
            sampling=SamplingOptions(**sampling),
            thread=wishes.ThreadWishes(no_log=True),
        )
        ask.run(options, Renderer(out, err))
        self.notes = err.getvalue()
        record: dict[str, Any] = json.loads(out.getvalue())
        return record


@pytest.fixture
def answer(tiny_folder: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Asks the small checkpoint about the picture, in Chinese."""
    from bellevl_cli import guard

    monkeypatch.setattr(guard, "install", lambda: None)  # it could not be taken out of this process again
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    return Answer(tiny_folder, picture)
