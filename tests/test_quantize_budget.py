"""Quantizing to a byte budget: how large the result is, what gets 8 bits, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folders import contents
from test_quantize_resume import Run, disturbed, looks_whole

from bellevl import load_model
from bellevl.checkpoint import Checkpoint
from bellevl.config import read_config
from bellevl.errors import QuantizeError
from bellevl.sizes import average_bits
from quantize import Progress, Recipe, quantize
from quantize.job import Job
from quantize.record.estimate import estimate
from quantize.record.receipt import read_receipt
from quantize.spending.bits_of_units import bounds, priced_units

RECIPE = Recipe(nsamples=6, seqlen=96)

__all__ = ["disturbed"]  # a fixture


def limits(folder: Path, recipe: Recipe = RECIPE) -> tuple[int, int]:
    with Checkpoint.open(folder) as checkpoint:
        return bounds(checkpoint, recipe)


def between(folder: Path, share: float, recipe: Recipe = RECIPE) -> Recipe:
    """The recipe with a budget of so much between the least and the most."""
    least, most = limits(folder, recipe)
    return replace(recipe, budget=round(least + share * (most - least)))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


@pytest.fixture(scope="module")
def result(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, list[Progress]]:
    """The small checkpoint at a budget in the middle, and what the job told."""
    target, recipe = tmp_path_factory.mktemp("budget") / "mixed", between(tiny_folder, 0.5)
    return target, recipe, list(quantize(tiny_folder, target, recipe))


def test_keeps_to_the_budget_and_uses_it(tiny_folder: Path, result: tuple[Path, Recipe, list[Progress]]) -> None:
    """The weight files are not larger than the budget, and no unit at 4 bits would still have fitted."""
    target, recipe, _ = result
    assert recipe.budget is not None
    assert size(target) <= recipe.budget
    units = (read_receipt(target) or {})["units"]
    with Checkpoint.open(tiny_folder) as checkpoint:
        priced = priced_units(checkpoint, recipe, {tuple(unit["layers"]): unit["kl"] for unit in units})
    left = [price.extra for price, unit in zip(priced, units, strict=True) if unit["bits"] == 4]
    assert left
    # A header may take some digits more.
    assert size(target) + min(left) > recipe.budget - 500


def test_receipt_names_units_and_bits(result: tuple[Path, Recipe, list[Progress]]) -> None:
    """Every unit with its divergence and its bits; those of 8 bits stand in the recipe and in the reader's settings."""
    target, recipe, _ = result
    receipt = read_receipt(target) or {}
    eight = [layer for unit in receipt["units"] if unit["bits"] == 8 for layer in unit["layers"]]
    assert len(receipt["units"]) == 8
    assert 0 < len(eight) < 10
    assert receipt["recipe"]["eight_bits"] == eight
    assert receipt["recipe"]["budget"] == recipe.budget
    assert receipt["cost"]["seconds"]["measure"] > 0
    config = json.loads((target / "quantize_config.json").read_text(encoding="utf-8"))
    assert len(config["dynamic"]) == len(eight)
    page = (target / "report.html").read_text(encoding="utf-8")
    assert "h.0.mlp.w1 + h.0.mlp.w2" in page


def test_units_of_most_divergence_per_byte_come_first(
    tiny_folder: Path, result: tuple[Path, Recipe, list[Progress]]
) -> None:
    """The unit that loses most per byte at 4 bits has 8."""
    target, recipe, _ = result
    units = (read_receipt(target) or {})["units"]
    with Checkpoint.open(tiny_folder) as checkpoint:
        priced = priced_units(checkpoint, recipe, {tuple(unit["layers"]): unit["kl"] for unit in units})
    best = max(priced, key=lambda unit: unit.kl / unit.extra)
    assert next(unit["bits"] for unit in units if tuple(unit["layers"]) == best.layers) == 8


def test_tells_what_it_chose(result: tuple[Path, Recipe, list[Progress]]) -> None:
    """Measuring comes first and ends with the units; the share of work done never falls and ends at 1."""
    target, _, told = result
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == ["measure", "copy", "embed", "block", "finish"]
    (chosen,) = [progress.units for progress in told if progress.units]
    assert [unit.bits for unit in chosen] == [unit["bits"] for unit in (read_receipt(target) or {})["units"]]
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_the_result_loads(tiny_folder: Path, result: tuple[Path, Recipe, list[Progress]]) -> None:
    """The mixed folder is a model whose predictions are nearer to the float one's than with all at 4 bits."""
    ids = torch.tensor([[260, 7, 99, 300, 41, 5, 290, 280, 17, 3, 301, 302]])
    plain = result[0].parent / "plain"
    list(quantize(tiny_folder, plain, RECIPE))
    with torch.inference_mode():
        p, mixed, four = (load_model(f, torch.float32)(ids)[0].log_softmax(-1) for f in (tiny_folder, result[0], plain))
    assert (p.exp() * (p - mixed)).sum() < (p.exp() * (p - four)).sum()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_bounds_can_be_met(tiny_folder: Path, tmp_path: Path, share: float) -> None:
    """The least budget makes the same weights as no budget, the most leaves nothing at 4 bits."""
    recipe = between(tiny_folder, share, replace(RECIPE, method="rtn"))
    list(quantize(tiny_folder, tmp_path / "mixed", recipe))
    assert size(tmp_path / "mixed") == recipe.budget
    assert {unit["bits"] for unit in (read_receipt(tmp_path / "mixed") or {})["units"]} == {8 if share else 4}


@pytest.mark.parametrize("beyond", [-1, 1])
def test_what_cannot_be_met_is_refused_at_once(tiny_folder: Path, tmp_path: Path, beyond: int) -> None:
    """A byte below the least or above the most is refused before anything is written, with both bounds."""
    least, most = limits(tiny_folder)
    with pytest.raises(QuantizeError) as caught:
        quantize(tiny_folder, tmp_path / "mixed", replace(RECIPE, budget=least - 1 if beyond < 0 else most + 1))
    assert caught.value.message == "quantize.budget"
    assert not (tmp_path / "mixed").exists()


def test_the_average_counts_weights(tiny_folder: Path) -> None:
    """The average of bits is over weights, not layers: a large layer at 8 bits moves it more."""
    config, _ = read_config(tiny_folder)
    averages = []
    for layer, weights in (("attn.c_attn", 3 * 128 * 128), ("attn.c_proj", 128 * 128)):
        recipe = replace(RECIPE, eight_bits=(f"transformer.h.1.{layer}",))
        averages.append(average_bits(config, recipe.quantization()))
        assert averages[-1] == pytest.approx(4 + 4 * weights / (2 * (4 * 128 * 128 + 3 * 128 * config.mlp_width)))
    assert averages[0] > averages[1] > 4


def test_eight_bits_everywhere_leave_nothing_to_choose() -> None:
    """A budget with 8 bits for all is refused."""
    with pytest.raises(QuantizeError, match="budget"):
        Recipe(bits=8, budget=10**9)


def test_the_head_is_measured_where_it_has_four_bits(tiny_folder: Path, tmp_path: Path) -> None:
    """With the head at 4 bits it is a unit like the others, and the most includes its 8 bits."""
    recipe = between(tiny_folder, 1.0, replace(RECIPE, lm_head_bits=4))
    list(quantize(tiny_folder, tmp_path / "mixed", recipe))
    units = (read_receipt(tmp_path / "mixed") or {})["units"]
    assert units[-1]["layers"] == ["lm_head"]
    assert units[-1]["bits"] == 8
    assert size(tmp_path / "mixed") == recipe.budget
    assert looks_whole(tmp_path / "mixed")


def test_a_turned_model_is_measured_turned(tiny_folder: Path, tmp_path: Path) -> None:
    """With rotation it is the turned weights whose rounding is measured: other divergences, the same units."""
    found = []
    for rotate in (False, True):
        target = tmp_path / str(rotate)
        list(quantize(tiny_folder, target, between(tiny_folder, 0.5, replace(RECIPE, method="rtn", rotate=rotate))))
        units = (read_receipt(target) or {})["units"]
        found.append({tuple(unit["layers"]): unit["kl"] for unit in units})
        assert looks_whole(target)
    assert list(found[0]) == list(found[1])
    assert all(abs(found[0][unit] - found[1][unit]) > 1e-3 * found[0][unit] for unit in found[0])


def test_estimate_knows_the_measuring(tiny_folder: Path, tmp_path: Path) -> None:
    """Beforehand the result is as large as the budget, and the measuring has its part of the time."""
    recipe = between(tiny_folder, 0.5)
    found, plain = (estimate(tiny_folder, tmp_path / "x", r) for r in (recipe, RECIPE))
    assert found.result_bytes == recipe.budget
    assert 0 < found.measure_seconds < found.seconds
    assert plain.measure_seconds == 0
    assert found.memory_bytes >= plain.memory_bytes


def test_killed_while_measuring_or_after_ends_byte_identical(disturbed: tuple[Path, Run]) -> None:
    """Killed by SIGKILL in the measuring, at the choice or in the blocks, the same command ends with the same bytes."""
    folder, run = disturbed
    count = run("counted", recipe="budget")["ticks"]
    expected = contents(folder / "counted")
    assert {unit["bits"] for unit in (read_receipt(folder / "counted") or {})["units"]} == {4, 8}
    for at in sorted({1, 2, *range(5, count, count // 14), count - 3}):
        assert run(f"killed-{at}", "kill", at, recipe="budget")["end"] == "signal 9"
        again = run(f"killed-{at}", recipe="budget")
        assert again["end"] in ("done", "quantize.exists"), again
        assert contents(folder / f"killed-{at}") == expected, f"killed at {at}"


def test_a_job_killed_while_it_cleans_up_is_not_measured_again(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all that is left of a job is its state, the choice still stands in it: nothing is measured again."""
    recipe, close = between(tiny_folder, 0.5), Job.close

    def killed(job: Job) -> None:
        for path in job.work.iterdir():
            if path.name != "job.json":
                path.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "close", killed)
    with pytest.raises(KeyboardInterrupt):
        list(quantize(tiny_folder, tmp_path, recipe))
    before = size(tmp_path)
    monkeypatch.setattr(Job, "close", close)
    told = list(quantize(tiny_folder, tmp_path, recipe))
    assert [progress.stage for progress in told] == ["measure", "finish", "finish"]
    assert size(tmp_path) == before
    assert looks_whole(tmp_path)


def test_what_is_measured_is_not_measured_again(tiny_folder: Path, tmp_path: Path) -> None:
    """A job that was stopped after the choice goes on without measuring; with another budget it is refused."""
    recipe = between(tiny_folder, 0.5)
    job = quantize(tiny_folder, tmp_path, recipe)
    while next(job).stage != "copy":
        pass
    job.close()  # type: ignore[attr-defined]
    with pytest.raises(QuantizeError) as caught:
        quantize(tiny_folder, tmp_path, between(tiny_folder, 0.6))
    assert caught.value.message == "quantize.other_job"
    told = list(quantize(tiny_folder, tmp_path, recipe))
    assert [progress.stage for progress in told].count("measure") == 1
    assert told[0].units
