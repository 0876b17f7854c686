"""The residual stream's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantize import activations
from quantize.activations import Activations


@pytest.mark.parametrize(("limit", "dtype"), [(1 << 30, torch.float32), (100, torch.bfloat16)])
def test_samples_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, dtype: torch.dtype) -> None:
    """Each sample reads back as written, in float32 while that is small and rounded to bfloat16 above the limit."""
    monkeypatch.setattr(activations, "FLOAT32_BYTES", limit)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    with Activations(tmp_path / "stream", [3, 5], 16) as stream:
        stream.write(1, x)
        stream.write(0, 2 * x[:3])
        assert torch.equal(stream.read(1), x.to(dtype).float())
        assert torch.equal(stream.read(0), (2 * x[:3]).to(dtype).float())
        stream.move(tmp_path / "moved")
    assert (tmp_path / "moved").stat().st_size == Activations.bytes_for([3, 5], 16) == 8 * 16 * dtype.itemsize
    with Activations(tmp_path / "moved", [3, 5], 16) as stream:
        assert torch.equal(stream.read(1), x.to(dtype).float())
