"""The int4 product in use, named for a person, and the word about a slow one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from bellevl import kernels
from bellevl.config import QuantizationConfig
from bellevl.qlinear import Int4Linear
from bellevl_cli.running import int4_kernel


def model(dtype: torch.dtype, outputs: int = 64) -> nn.Module:
    """A model that is one int4 layer, ready to multiply in `dtype`."""
    generator = torch.Generator().manual_seed(0)
    layer = Int4Linear.from_weight(torch.randn((outputs, 256), generator=generator), QuantizationConfig())
    layer.prepare(dtype)
    return nn.Sequential(layer)


def test_the_product_is_named_with_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own product says that its self-check passed and how long that took; a float model has none."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    found = int4_kernel.int4_kernel(model(torch.bfloat16))  # type: ignore[arg-type]
    assert found is not None and found.seconds is not None and found.seconds > 0
    assert found.text.startswith("int4pack (") and "自检" in found.text and "通过" in found.text
    assert int4_kernel.kernel_on(torch.device("cpu")).product == "int4pack"
    assert int4_kernel.int4_kernel(nn.Sequential(nn.Linear(2, 2))) is None  # type: ignore[arg-type]


def test_a_slow_product_is_told_with_cause_and_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fallback that is slower than 16-bit weights is one line with the measured factor; the others say nothing."""
    monkeypatch.setenv("BELLEVL_LANG", "en")
    assert int4_kernel.slow_kernel_line(model(torch.bfloat16)) is None  # type: ignore[arg-type]
    choose = kernels.choose
    monkeypatch.setattr(
        kernels, "choose", lambda *a: replace(choose(*a), product="dequantize", reason="no int4 product is used on mps")
    )
    line = int4_kernel.slow_kernel_line(model(torch.bfloat16))  # type: ignore[arg-type]
    assert line is not None and "dequantize" in line and "no int4 product is used on mps" in line
    monkeypatch.setattr(int4_kernel, "slowdown", lambda layer: 1.2)
    assert int4_kernel.slow_kernel_line(model(torch.bfloat16)) is None  # type: ignore[arg-type]
