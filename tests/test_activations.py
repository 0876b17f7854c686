"""The residual stream's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantize.storage import activations
from quantize.storage.activations import Activations


@pytest.mark.parametrize(("limit", "dtype"), [(1 << 30, torch.float32), (100, torch.bfloat16)])
def test_samples_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, dtype: torch.dtype) -> None:
    """Each sample reads back as written, in float32 while that is small and rounded to bfloat16 above the limit."""
    monkeypatch.setattr(activations, "FLOAT32_BYTES", limit)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    with Activations(tmp_path / "stream", [3, 5], 16) as stream:
        stream.write(range(1, 2), x)
        stream.write(range(1), 2 * x[:3])
        assert torch.equal(stream.read(range(1, 2)), x.to(dtype).float())
        both = stream.read(range(2))
        assert torch.equal(both, torch.cat([2 * x[:3], x]).to(dtype).float())
        assert [len(rows) for rows in stream.split(range(2), both)] == [3, 5]
        stream.move(tmp_path / "moved")
    assert (tmp_path / "moved").stat().st_size == Activations.bytes_for([3, 5], 16) == 8 * 16 * dtype.itemsize
    with Activations(tmp_path / "moved", [3, 5], 16) as stream:
        assert torch.equal(stream.read(range(1, 2)), x.to(dtype).float())


def test_samples_go_in_runs(tmp_path: Path) -> None:
    """Runs cover all samples in order, none has more tokens than asked for unless one sample alone has."""
    with Activations(tmp_path / "stream", [3, 5, 2, 20, 1, 9], 4) as stream:
        assert stream.spans(10) == [range(3), range(3, 4), range(4, 6)]
        assert stream.spans(1) == [range(n, n + 1) for n in range(6)]
