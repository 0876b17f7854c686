"""How far each unit's rounding takes predictions: against whole checkpoints, and after being killed."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bellevl import load_tokenizer
from bellevl.checkpoint import Checkpoint
from bellevl.config import ModelConfig, read_config
from bellevl.errors import QuantizeError
from bellevl.evaluation.fidelity import Conversation, fidelity, token_kinds
from quantize import Recipe
from quantize.calibration import CalibrationSet, calibration_set
from quantize.solver.gptq import round_weight
from quantize.spending.sensitivity import Sensitivity, block_units, measured_samples

RECIPE = Recipe(nsamples=6, seqlen=96)
UNITS = [unit for block in range(2) for unit in block_units(block, RECIPE)]


def measured_on(folder: Path, tokens: int = 300) -> tuple[ModelConfig, CalibrationSet]:
    config, _ = read_config(folder)
    return config, measured_samples(calibration_set(None, load_tokenizer(folder), config, folder, RECIPE), tokens)


def measurement(source: Path, folder: Path, recipe: Recipe = RECIPE) -> Sensitivity:
    folder.mkdir(exist_ok=True)
    return Sensitivity(source, *_ordered(measured_on(source), recipe), folder)


def _ordered(given: tuple[ModelConfig, CalibrationSet], recipe: Recipe) -> tuple[ModelConfig, Recipe, CalibrationSet]:
    return given[0], recipe, given[1]


@pytest.fixture(scope="module")
def measured(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Sensitivity:
    """The small checkpoint, measured in one go."""
    found = measurement(tiny_folder, tmp_path_factory.mktemp("measured"))
    assert found.result() is None
    work = sum(found.run())
    assert work == pytest.approx(found.total_work())
    return found


def round_unit(source: Path, folder: Path, layers: tuple[str, ...], recipe: Recipe) -> Path:
    """The checkpoint with only these layers rounded, in float32."""
    shutil.copytree(source, folder)
    tensors = load_file(source / "model.safetensors")
    for layer in layers:
        tensors[f"{layer}.weight"] = round_weight(tensors[f"{layer}.weight"], recipe).dequantize()
        if f"{layer}.bias" in tensors:
            tensors[f"{layer}.bias"] = tensors[f"{layer}.bias"].half().float()
    save_file(tensors, folder / "model.safetensors")
    return folder


def seen_divergence(source: Path, other: Path, measured: Sensitivity) -> float:
    """Mean KL of a checkpoint outside of pictures, on the conversations of a measurement."""
    conversations = [Conversation(sample.ids, sample.pictures) for sample in measured.samples.samples]
    by = fidelity(source, other, conversations, load_tokenizer(source)).by
    seen = [by[kind] for kind in ("text", "answer") if kind in by]
    return sum(kind.tokens * kind.kl_mean for kind in seen) / sum(kind.tokens for kind in seen)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 7])
def test_equals_a_checkpoint_with_that_unit_rounded(
    tiny_folder: Path, measured: Sensitivity, tmp_path: Path, number: int
) -> None:
    """A variant's divergence is what `fidelity` finds of a checkpoint in which only that unit is rounded."""
    rounded = round_unit(tiny_folder, tmp_path / "rounded", UNITS[number], RECIPE)
    expected = seen_divergence(tiny_folder, rounded, measured)
    found = measured.result()
    assert found is not None
    assert expected > 1e-5
    assert found[UNITS[number]] == pytest.approx(expected, rel=2e-3)


def test_names_every_unit(measured: Sensitivity) -> None:
    """Every layer that is quantized is in one unit, in the model's order, with what rounding it costs."""
    found = measured.result()
    assert found is not None
    assert list(found) == UNITS
    assert UNITS[2] == ("transformer.h.0.mlp.w1", "transformer.h.0.mlp.w2")
    assert all(kl > 0 for kl in found.values())


def test_the_head_is_a_unit_where_it_gets_four_bits(tiny_folder: Path, measured: Sensitivity, tmp_path: Path) -> None:
    """Its divergence is that of a checkpoint with only the head rounded; the other units' stay as they are."""
    recipe = replace(RECIPE, lm_head_bits=4)
    found = measurement(tiny_folder, tmp_path / "work", recipe)
    list(found.run())
    with_head, without = found.result(), measured.result()
    assert with_head is not None
    assert with_head.pop(("lm_head",)) == pytest.approx(
        seen_divergence(tiny_folder, round_unit(tiny_folder, tmp_path / "rounded", ("lm_head",), RECIPE), found), 2e-3
    )
    assert with_head == without


def test_layers_at_eight_bits_are_no_unit(tiny_folder: Path, tmp_path: Path) -> None:
    """What has 8 bits anyway is not measured; half a unit is measured without it."""
    recipe = replace(RECIPE, eight_bits=("transformer.h.0.attn.c_attn", "transformer.h.1.mlp.w2"))
    found = measurement(tiny_folder, tmp_path, recipe)
    list(found.run())
    expected = [unit for unit in UNITS if unit[0] != "transformer.h.0.attn.c_attn"]
    expected[5] = ("transformer.h.1.mlp.w1",)
    assert list(found.result() or ()) == expected


def test_rounds_as_the_recipe_says(tiny_folder: Path, measured: Sensitivity, tmp_path: Path) -> None:
    """Without the search of scales every rounding costs something else, and together more."""
    plain = measurement(tiny_folder, tmp_path, replace(RECIPE, search_scales=False))
    list(plain.run())
    searched, spanned = measured.result(), plain.result()
    assert searched is not None
    assert spanned is not None
    assert sum(spanned.values()) > sum(searched.values())


def test_goes_on_where_it_was_stopped(tiny_folder: Path, measured: Sensitivity, tmp_path: Path) -> None:
    """Stopped at any of its steps and run again, it ends with the same bytes and does not begin anew."""
    expected = hashlib.sha256((measured.folder / "sensitivity.json").read_bytes()).hexdigest()
    steps = sum(1 for _ in measurement(tiny_folder, tmp_path / "counted").run())
    for at in range(1, steps + 1):
        stopped = measurement(tiny_folder, tmp_path / f"stopped-{at}")
        running = stopped.run()
        for _ in range(at):
            next(running)
        running.close()  # type: ignore[attr-defined]
        left = list(stopped.run())
        assert at < 12 or len(left) < steps
        assert stopped.total_work() >= sum(left)
        assert hashlib.sha256((stopped.folder / "sensitivity.json").read_bytes()).hexdigest() == expected, at
        assert [path.name for path in stopped.folder.iterdir()] == ["sensitivity.json"]


def test_work_done_is_known(tiny_folder: Path, tmp_path: Path) -> None:
    """What an earlier run did and what this one does make the whole."""
    found = measurement(tiny_folder, tmp_path)
    running = found.run()
    while found.reached() != 1:
        next(running)
    running.close()  # type: ignore[attr-defined]
    done = found.done_work()
    assert 0 < done < found.total_work()
    assert done + sum(found.run()) == pytest.approx(found.total_work())
    assert found.done_work() == found.total_work()


def test_disk_is_what_it_says(tiny_folder: Path, tmp_path: Path) -> None:
    """No moment takes more disk than was told."""
    found, most = measurement(tiny_folder, tmp_path), 0
    for _ in found.run():
        most = max(most, sum(path.stat().st_size for path in tmp_path.glob("measur*.bin")))
    assert 0 < most <= found.stream_bytes()


def test_takes_the_samples_that_fit(tiny_folder: Path) -> None:
    """Samples in their order as long as there is room, and always one."""
    _, every = measured_on(tiny_folder, 10**6)
    assert len(every.samples) == RECIPE.nsamples
    few = measured_samples(every, every.lengths[0] + every.lengths[1])
    assert few.samples[0] == every.samples[0]
    assert sum(few.lengths) <= every.lengths[0] + every.lengths[1]
    (shortest,) = measured_samples(every, 1).lengths
    assert shortest == min(every.lengths)


def test_predictions_inside_pictures_do_not_count(tiny_folder: Path, measured: Sensitivity) -> None:
    """The rows that are compared are those that `fidelity` calls text or answer, without each sample's last."""
    tokenizer = load_tokenizer(tiny_folder)
    with Checkpoint.open(tiny_folder) as checkpoint:
        kinds = [token_kinds(sample.ids, tokenizer, checkpoint) for sample in measured.samples.samples]
    for kind in kinds:
        kind[-1] = 1
    assert torch.equal(measured._used(), torch.cat(kinds) != 1)


def test_weights_that_overflow_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """Activations that are not finite end it with the block's name."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["transformer.h.1.mlp.c_proj.weight"] *= 1e38
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(QuantizeError) as caught:
        list(measurement(broken, tmp_path / "work").run())
    assert caught.value.message == "quantize.not_finite"
