"""Quantizations that are killed, interrupted or run out of disk: the same command ends with the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from folders import contents

from bellevl import load_model
from bellevl.errors import CheckpointError, QuantizeError
from quantize import Recipe, quantize

RECIPE = Recipe(nsamples=6, seqlen=96)

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def disturbed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Run]]:
    """A folder and a function that runs a quantization into it: see quantize_children.py."""
    folder = tmp_path_factory.mktemp("disturbed")
    command = [sys.executable, str(ROOT / "tests" / "quantize_children.py"), str(tiny_folder), str(folder)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdin
    assert child.stdout

    def run(target: str, how: str = "no", at: int = 0, recipe: str = "default") -> dict[str, Any]:
        assert child.stdin
        assert child.stdout
        child.stdin.write(json.dumps({"target": target, "how": how, "at": at, "recipe": recipe}) + "\n")
        child.stdin.flush()
        return json.loads(child.stdout.readline())

    yield folder, run
    child.stdin.close()
    child.wait(timeout=60)


@pytest.fixture(scope="module")
def undisturbed(disturbed: tuple[Path, Run]) -> tuple[dict[str, str], int]:
    """The files of an undisturbed job and the moments it has."""
    folder, run = disturbed
    ended = run("counted")
    assert ended["end"] == "done"
    assert contents(folder / "undisturbed") == contents(folder / "counted")
    return contents(folder / "counted"), ended["ticks"]


def moments(count: int) -> list[int]:
    """A dozen moments over the job, and each of the last, when files get their names."""
    return sorted({1, *range(count // 12, count - 8, count // 12), *range(count - 8, count)})


def looks_whole(folder: Path) -> bool:
    """Whether a folder would be taken for a finished model."""
    try:
        load_model(folder)
    except CheckpointError:
        return False
    return True


def test_killed_job_ends_byte_identical(disturbed: tuple[Path, Run], undisturbed: tuple[dict[str, str], int]) -> None:
    """Killed by SIGKILL at any of its moments and run again, the job ends with the bytes of an undisturbed one."""
    folder, run = disturbed
    expected, count = undisturbed
    for at in moments(count):
        assert run(f"killed-{at}", "kill", at)["end"] == "signal 9"
        again = run(f"killed-{at}")
        # At the last moments the result may have been whole already.
        assert again["end"] in ("done", "quantize.exists"), again
        assert contents(folder / f"killed-{at}") == expected, f"killed at {at}"


def test_killed_nf4_job_ends_byte_identical(disturbed: tuple[Path, Run]) -> None:
    """The quick way too: killed by SIGKILL at any of its moments, it ends with the bytes of an undisturbed job."""
    folder, run = disturbed
    count = run("nf4", recipe="nf4")["ticks"]
    expected = contents(folder / "nf4")
    for at in range(1, count + 1):
        assert run(f"nf4-{at}", "kill", at, "nf4")["end"] == "signal 9"
        assert run(f"nf4-{at}", recipe="nf4")["end"] in ("done", "quantize.exists")
        assert contents(folder / f"nf4-{at}") == expected, f"killed at {at}"


def test_job_killed_twice_goes_on_from_where_it_was(
    disturbed: tuple[Path, Run], undisturbed: tuple[dict[str, str], int]
) -> None:
    """Each run begins at the block where the last one stopped, not at the beginning."""
    folder, run = disturbed
    expected, count = undisturbed
    assert run("twice", "kill", count - 12)["end"] == "signal 9"
    second = run("twice", "interrupt", 4)
    assert second["end"] == "interrupted"
    last = run("twice")
    assert last["end"] == "done"
    assert last["ticks"] < count // 2
    assert contents(folder / "twice") == expected


def test_interrupted_job_does_not_look_whole(
    disturbed: tuple[Path, Run], undisturbed: tuple[dict[str, str], int]
) -> None:
    """After Ctrl-C there is no model that loads; the same command finishes it."""
    folder, run = disturbed
    expected, count = undisturbed
    for at in (2, count // 2, count - 9):
        target = f"interrupted-{at}"
        assert run(target, "interrupt", at)["end"] == "interrupted"
        assert not looks_whole(folder / target)
        assert run(target)["end"] == "done"
        assert contents(folder / target) == expected


def test_full_disk_is_said_and_gone_on_with(
    disturbed: tuple[Path, Run], undisturbed: tuple[dict[str, str], int]
) -> None:
    """A write that fails names the file and the cure; with room again the same command finishes."""
    folder, run = disturbed
    expected, count = undisturbed
    for at in (1, count // 3, count // 2, count - 10):
        target = f"full-{at}"
        ended = run(target, "disk", at)
        assert ended["end"] == "disk.full", ended
        assert target in ended["text"]
        assert not looks_whole(folder / target)
        assert run(target)["end"] == "done"
        assert contents(folder / target) == expected


def test_lost_work_files_start_the_job_again(tiny_folder: Path, tmp_path: Path) -> None:
    """If the job's own files were removed in between, it begins again instead of failing."""
    target = tmp_path / "int4"
    job = quantize(tiny_folder, target, RECIPE)
    while (step := next(job)).block != 1:
        pass
    job.close()  # type: ignore[attr-defined]
    for path in (target / ".quantize").glob("stream-*.bin"):
        path.unlink()
    steps = list(quantize(tiny_folder, target, RECIPE))
    assert step.stage == "block"
    assert steps[0].stage == "copy"
    assert looks_whole(target)


def test_a_restart_that_is_cut_short_starts_again_too(tiny_folder: Path, tmp_path: Path) -> None:
    """Lost files, a new start, killed while it copies: the third run copies again and does not trust empty files."""
    target = tmp_path / "int4"
    job = quantize(tiny_folder, target, RECIPE)
    while next(job).block != 1:
        pass
    job.close()  # type: ignore[attr-defined]
    for path in (target / ".quantize").glob("*.safetensors*"):
        path.unlink()
    again = quantize(tiny_folder, target, RECIPE)
    assert next(again).stage == "copy"
    again.close()  # type: ignore[attr-defined]
    assert next(quantize(tiny_folder, target, RECIPE)).stage == "copy"


def test_two_processes_do_not_share_a_target(tiny_folder: Path, tmp_path: Path) -> None:
    """While one run is at a job, a second one is refused in one line; after it, the job goes on."""
    target = tmp_path / "int4"
    first = quantize(tiny_folder, target, RECIPE)
    next(first)
    with pytest.raises(QuantizeError) as caught:
        next(quantize(tiny_folder, target, RECIPE))
    assert caught.value.message == "quantize.busy"
    first.close()  # type: ignore[attr-defined]
    assert list(quantize(tiny_folder, target, RECIPE))[-1].stage == "finish"


@pytest.mark.parametrize(
    "state", [{}, {"copied": True, "embedded": True, "blocks": 0, "reports": [{"x": 1}], "costs": {}}]
)
def test_a_job_of_another_version_is_not_gone_on_with(tiny_folder: Path, tmp_path: Path, state: dict[str, Any]) -> None:
    """A state that this version did not write is refused in one line, whatever it lacks."""
    target = tmp_path / "int4"
    job = quantize(tiny_folder, target, RECIPE)
    next(job)
    job.close()  # type: ignore[attr-defined]
    file = target / ".quantize" / "job.json"
    settings = json.loads(file.read_text(encoding="utf-8"))["settings"]
    file.write_text(json.dumps({"settings": settings, **state}), encoding="utf-8")
    with pytest.raises(QuantizeError) as caught:
        quantize(tiny_folder, target, RECIPE)
    assert caught.value.message == "quantize.other_job"
    file.write_text(json.dumps({"settings": {**settings, "format": 0}, **state}), encoding="utf-8")
    with pytest.raises(QuantizeError, match="format"):
        quantize(tiny_folder, target, RECIPE)
