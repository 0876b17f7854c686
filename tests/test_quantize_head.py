"""The head in parts: what is solved and written is what it is in one piece."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bellevl import packing
from bellevl.checkpoint import Checkpoint
from bellevl.errors import CheckpointError
from bellevl.packing import unpack_rows
from quantize import Recipe, head, quantize
from quantize.record.receipt import read_receipt
from quantize.solver.drift import Drift

RECIPE = Recipe(nsamples=6, seqlen=96, lm_head_bits=8)


def made(source: Path, target: Path, recipe: Recipe) -> tuple[dict[str, Tensor], float]:
    """The head's tensors, and the error that the receipt tells of it."""
    list(quantize(source, target, recipe))
    receipt = read_receipt(target)
    assert receipt is not None
    errors = [layer["error"] for layer in receipt["layers"] if layer["layer"] == "lm_head"]
    tensors = load_file(target / "model.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name.startswith("lm_head.")}, errors[0]


@pytest.mark.parametrize(
    "changes",
    [{}, {"lm_head_bits": 4}, {"float_targets": True}, {"rotate": True}, {"method": "rtn"}],
    ids=["8 bits", "4 bits", "float targets", "rotated", "nearest"],
)
def test_parts_are_the_whole(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    """Solved in seven parts the head is what it is in one: the same groups, the same codes but for ties that the last
    digit of a product decides, and the same error."""
    recipe = replace(RECIPE, **changes)  # type: ignore[arg-type]
    whole, error = made(tiny_folder, tmp_path / "whole", recipe)
    monkeypatch.setattr(head, "PART", 96)
    parts, error_in_parts = made(tiny_folder, tmp_path / "parts", recipe)
    assert set(parts) == set(whole)
    assert torch.equal(parts["lm_head.g_idx"], whole["lm_head.g_idx"])
    assert torch.allclose(parts["lm_head.scales"].float(), whole["lm_head.scales"].float(), rtol=0.01)
    codes = [unpack_rows(tensors["lm_head.qweight"], recipe.lm_head_bits).float() for tensors in (parts, whole)]
    assert float((codes[0] != codes[1]).float().mean()) < 0.01 and float((codes[0] - codes[1]).abs().max()) <= 1
    assert error_in_parts == pytest.approx(error, rel=0.1)


def test_a_part_that_is_not_finite_is_named(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in the head it is."""
    source = shutil.copytree(tiny_folder, tmp_path / "float")
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"][630, 7] = float("inf")
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr(head, "PART", 96)
    with pytest.raises(CheckpointError) as caught:
        list(quantize(source, tmp_path / "int4", RECIPE))
    assert caught.value.message == "model.not_finite" and "lm_head.weight" in str(caught.value)


def test_no_more_than_a_part_is_read(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head's weights never come into memory as a whole."""
    most = 0
    real = Checkpoint.read_copy

    def read(self: Checkpoint, name: str, *given: object, **named: object) -> Tensor:
        nonlocal most
        tensor = real(self, name, *given, **named)  # type: ignore[arg-type]
        if name == "lm_head.weight":
            most = max(most, len(tensor))
        return tensor

    monkeypatch.setattr(Checkpoint, "read_copy", read)
    monkeypatch.setattr(head, "PART", 96)
    list(quantize(tiny_folder, tmp_path / "int4", RECIPE))
    assert most == 96


def test_drift_of_inputs_is_that_of_layers() -> None:
    """What is gathered before the layers are known is what is gathered with them."""
    generator = torch.Generator().manual_seed(3)
    W, x, y = (torch.randn(rows, 24, generator=generator) for rows in (60, 90, 90))
    known, told = Drift([W]), Drift.of_inputs(24, torch.device("cpu"))
    for drift in (known, told):
        drift.add(x, y)
    part = slice(10, 30)
    assert torch.equal(told.for_weights([W]).missing(0, part), known.missing(0, part))
    assert torch.equal(told.for_weights([W[part]]).missing(0, slice(0, 20)), known.missing(0, part))


@pytest.mark.parametrize("bits", [4, 8])
def test_wide_layers_are_packed_in_pieces(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words do not depend on how many columns are packed at a time."""
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (64, 101), generator=generator, dtype=torch.uint8)
    whole = packing.pack_rows(codes, bits)
    monkeypatch.setattr(packing, "COLUMNS", 40)
    assert torch.equal(packing.pack_rows(codes, bits), whole)
    assert torch.equal(packing.unpack_rows(whole, bits), codes)
