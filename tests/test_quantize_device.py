"""Quantizing on a GPU: with one, the same result as on the CPU; without one, that every tensor would be where it must.

Without a GPU torch pretends one: tensors of a device of its own, without numbers, that refuse to be mixed with those of
the CPU.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bellevl
from bellevl.errors import DeviceError, QuantizeError
from quantize import Recipe, quantize
from quantize.record.receipt import read_receipt

PRETENDED = Path(__file__).with_name("pretended_gpu.py")


@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot pretend a device",
)
def test_no_tensor_is_left_behind() -> None:
    """A block's forward passes, Hessians, solves and packing work where the block is, for every kind of recipe."""
    done = subprocess.run([sys.executable, str(PRETENDED)], capture_output=True, cwd=PRETENDED.parents[1])
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert len(done.stdout.decode().split()) == 8


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(tiny_folder: Path, tmp_path: Path, device: str) -> None:
    """It is refused before anything is written."""
    with pytest.raises(DeviceError):
        quantize(tiny_folder, tmp_path / "int4", Recipe(nsamples=3, seqlen=64), None, device)
    assert not (tmp_path / "int4").exists()


def test_a_device_that_cannot_solve(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's GPUs are refused: nobody has seen the factorization right there."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(QuantizeError):
        quantize(tiny_folder, tmp_path / "int4", Recipe(nsamples=3, seqlen=64), None, "mps")


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(tiny_folder: Path, tmp_path: Path) -> None:
    """Layer errors within 2 % of the CPU's, logits as near, and the receipt names the card and its memory."""
    recipe = Recipe(nsamples=8, seqlen=128)
    errors, logits = [], []
    for device in ("cpu", "cuda"):
        list(quantize(tiny_folder, tmp_path / device, recipe, None, device))
        receipt = read_receipt(tmp_path / device)
        assert receipt is not None and not receipt["fallbacks"]
        errors.append(torch.tensor([layer["error"] for layer in receipt["layers"]]))
        logits.append(bellevl.load_model(tmp_path / device)(torch.tensor([[1, 2, 3, 4]])).detach())
    assert receipt["machine"]["device"] == torch.cuda.get_device_name() and receipt["cost"]["device_peak_bytes"] > 0
    assert float((errors[1] / errors[0] - 1).abs().max()) < 0.02
    assert float((logits[0] - logits[1]).norm() / logits[0].norm()) < 0.1
