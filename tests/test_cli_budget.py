"""`bellevl quantize --budget` as a person sees it; what it computes is tested with the pipeline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Answer, Bellevl


def bound(text: str, unit: int) -> str:
    """One of the sizes of a refusal, as it would be typed."""
    return re.findall(r"[\d.]+ [kMG]?B", text)[unit].replace(" ", "")


def test_a_budget_is_kept_and_shown(bellevl: Bellevl, answer: Answer, tiny_folder: Path, tmp_path: Path) -> None:
    """The weight files keep to the budget, how many units got 8 bits is told, show has the average, and it answers."""
    target = tmp_path / "mixed"
    done = bellevl("quantize", tiny_folder, target, "--samples", "4", "--budget", "771kB")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    (told,) = re.findall(r"8 个单元中 (\d) 个用 8 位", done.stderr.decode())
    assert 0 < int(told) < 8
    assert 700_000 < (target / "model.safetensors").stat().st_size <= 771_000
    record = json.loads(bellevl("show", "--model", target, "--json").stdout)
    assert 4 < record["average_bits"] < 8
    assert f"平均 {record['average_bits']:.2f} 位" in bellevl("show", "--model", target).stdout.decode()
    assert answer("问", model=target, greedy=True)["text"]


@pytest.mark.parametrize("asked", ["1kB", "1GB"])
def test_a_budget_that_cannot_be_met_is_one_line(
    bellevl: Bellevl, tiny_folder: Path, tmp_path: Path, asked: str
) -> None:
    """Exit code 2, one line with the least and the most, and either can be typed as it stands there."""
    done = bellevl("quantize", tiny_folder, tmp_path / "mixed", "--samples", "4", "--budget", asked)
    refusal = done.stderr.decode().strip().splitlines()[-1]
    assert done.returncode == 2, refusal
    assert "全部 4 位" in refusal
    for unit in (1, 2):
        again = bellevl("quantize", tiny_folder, tmp_path / "x", "--budget", bound(refusal, unit), "--dry-run")
        assert again.returncode == 0, again.stderr.decode()
    assert not (tmp_path / "mixed").exists()


def test_a_dry_run_says_what_is_measured(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """It tells how long measuring takes and that the choice comes later; without a budget it does not."""
    asked = ("quantize", tiny_folder, tmp_path / "x", "--dry-run", "--samples", "4")
    assert "测量  其中约" in bellevl(*asked, "--budget", "771kB").stdout.decode()
    assert "测量" not in bellevl(*asked).stdout.decode()


@pytest.mark.parametrize("given", [("--budget", "much"), ("--budget", "771kB", "--bits", "8")])
def test_a_wrong_budget_is_exit_2(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path, given: tuple[str, ...]) -> None:
    """What is no size, and a budget where all layers have 8 bits anyway, is a usage error that names the option."""
    done = bellevl("quantize", tiny_folder, tmp_path / "x", *given)
    assert done.returncode == 2
    assert "--budget" in done.stderr.decode()
