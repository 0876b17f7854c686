"""int4 products: every one gives what the dequantized weight gives, and each choice can say why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from test_packing import LAYERS, VARIANTS, layer_of, read_variant
from torch import Tensor

from bellevl import kernels, packing
from bellevl.config import QuantizationConfig
from bellevl.kernels import Int4Weight
from bellevl.qlinear import Int4Linear

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float16: 2e-3}


def relative(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|"""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def random_layer(
    inputs: int,
    outputs: int,
    group_size: int,
    *,
    sym: bool = True,
    act_order: bool = False,
    bias: bool = False,
    bits: int = 4,
) -> Int4Linear:
    """A layer with random codes, zeros, scales and, with `act_order`, groups."""
    generator = torch.Generator().manual_seed(inputs + outputs)
    quantization = QuantizationConfig(bits=bits, group_size=group_size, sym=sym, desc_act=act_order)
    layer = Int4Linear(inputs, outputs, quantization, bias)
    groups = packing.group_count(inputs, group_size)
    codes = torch.randint(0, 2**bits, (inputs, outputs), dtype=torch.uint8, generator=generator)
    zeros = torch.randint(1, 2**bits, (groups, outputs), dtype=torch.uint8, generator=generator)
    layer.qweight = packing.pack_rows(codes, bits)
    layer.qzeros = packing.pack_zeros(torch.full_like(zeros, 2 ** (bits - 1)) if sym else zeros, 1, bits)
    layer.scales = (torch.rand((groups, outputs), generator=generator) * 0.02 + 0.01).half()
    if act_order:
        layer.g_idx = layer.g_idx[torch.randperm(inputs, generator=generator)]
    if bias:
        layer.bias = torch.randn(outputs, generator=generator).half()
    return layer


def check_product(layer: Int4Linear, dtype: torch.dtype, rows: int) -> kernels.Choice:
    """Prepares the layer and compares its output with a float64 product of the exact weights."""
    weight = layer.dequantize().double()
    bias = 0 if layer.bias is None else layer.bias.double()
    x = torch.randn(2, rows, layer.in_features, generator=torch.Generator().manual_seed(rows)).to(dtype)
    layer.prepare(dtype)
    found = layer(x)
    assert found.dtype == dtype
    assert found.shape == (2, rows, layer.out_features)
    assert relative(found, x.double() @ weight.T + bias) < TOLERANCE[dtype]
    assert relative(layer.dequantize(), weight) < TOLERANCE[dtype]
    assert layer.choice is not None
    return layer.choice


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [1, 5, kernels.PREFILL_ROWS])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("sym", [False, True])
@pytest.mark.parametrize("group_size", [32, 64, 128, 256, -1])
def test_product_equals_dequantized_weight(
    group_size: int, sym: bool, act_order: bool, rows: int, dtype: torch.dtype
) -> None:
    """For decode and prefill, every kind of group and dtype, the output is the float weight's within rounding."""
    layer = random_layer(512, 192, group_size, sym=sym, act_order=act_order, bias=True)
    check_product(layer, dtype, rows)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [1, kernels.PREFILL_ROWS])
@pytest.mark.parametrize("sym", [False, True])
@pytest.mark.parametrize(("group_size", "act_order"), [(128, False), (128, True), (-1, False)])
def test_eight_bits_multiply_too(group_size: int, sym: bool, act_order: bool, rows: int, dtype: torch.dtype) -> None:
    """A layer of 8 bits gives what its dequantized weight gives, without a second copy and for a reason it can say."""
    layer = random_layer(256, 128, group_size, sym=sym, act_order=act_order, bias=True, bits=8)
    choice = check_product(layer, dtype, rows)
    fast = group_size == -1 and sym and dtype == torch.bfloat16
    assert (choice.product == "int8pack") == fast and "int8" in choice.reason


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("inputs", "outputs", "group_size"),
    [
        (1024, 2560, 128),  # several pieces, too large to keep expanded
        (200, 104, 128),  # a short last group, no whole blocks
        (96, 64, 16),  # a group that torch's product does not take
        (384, 128, 96),  # a group that only 32 divides
    ],
)
def test_product_of_odd_sizes(inputs: int, outputs: int, group_size: int, dtype: torch.dtype) -> None:
    """Sizes that not every product takes come out right all the same."""
    for rows in (1, kernels.PREFILL_ROWS):
        check_product(random_layer(inputs, outputs, group_size, sym=False), dtype, rows)


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_variants_multiply(golden: Path, variant: str) -> None:
    """Every tool's layers multiply as their dequantized weights do, in every dtype."""
    tensors, quantization = read_variant(golden, variant)
    for layer in LAYERS:
        for dtype in TOLERANCE:
            check_product(layer_of(tensors, layer, quantization), dtype, 3)


def test_choices_have_reasons() -> None:
    """A large layer on the CPU: int4pack in bfloat16 where it works, else expanded; a small float32 one dense."""
    bf16 = kernels.choose(CPU, torch.bfloat16)
    assert bf16.product == ("int4pack" if kernels.probe(CPU) is None else "dequantize")
    assert "bfloat16" in bf16.reason
    fp32 = kernels.choose(CPU, torch.float32)
    assert (fp32.product, fp32.dtype) == ("dequantize", torch.float32)
    assert "float32" in fp32.reason
    small = kernels.choose(CPU, torch.float32, 256, 768)
    assert (small.product, small.dtype) == ("dense", torch.float32)
    half = kernels.choose(CPU, torch.float16)
    assert (half.product, half.dtype) == ("dequantize", torch.float32)
    with pytest.raises(dataclasses.FrozenInstanceError):
        half.product = "dense"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("sizes", "word"),
    [((5120, 13_696, 16), "multiples of 32"), ((5120, 13_696, None), "multiples of 32"), ((5120, 104, 128), "64")],
)
def test_why_not_int4pack(sizes: tuple[int, int, int | None], word: str) -> None:
    """A layer that torch's product does not take is expanded, and the reason names the limit."""
    choice = kernels.choose(CPU, torch.bfloat16, *sizes)
    assert choice.product == "dequantize"
    assert word in choice.reason


def test_a_broken_product_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """If torch's product gives wrong numbers here, the probe says so and the weights are expanded instead."""
    kernels.probe.cache_clear()
    monkeypatch.setattr(kernels.Int4PackCpu, "__call__", lambda self, x: x.new_zeros(x.shape[0], 64))
    try:
        choice = kernels.choose(CPU, torch.bfloat16)
        assert choice.product == "dequantize"
        assert "wrong here" in choice.reason
    finally:
        kernels.probe.cache_clear()


def test_unknown_layout_still_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    """If torch stored int4 in a layout we do not know, its own converter and product serve every number of rows."""
    monkeypatch.setattr(kernels, "cpu_block", lambda: None)
    for rows in (1, kernels.PREFILL_ROWS):
        check_product(random_layer(256, 640, 64, sym=False, act_order=True), torch.bfloat16, rows)


def test_prepare_keeps_one_copy() -> None:
    """After prepare a bfloat16 layer of the model's width holds little more than half a byte a weight."""
    layer = random_layer(1024, 1024, 128)
    layer.prepare(torch.bfloat16)
    assert layer.nbytes / (1024 * 1024) < 0.56
    assert not list(layer.named_buffers())


def test_bias_of_zeros_costs_nothing() -> None:
    """The bias of zeros that AutoGPTQ writes is dropped, a real one is added."""
    plain, real = random_layer(128, 64, 32), random_layer(128, 64, 32, bias=True)
    x = torch.zeros(1, 128)
    for layer in (plain, real):
        layer.prepare(torch.float32)
    assert plain.bias is None
    assert torch.equal(real(x)[0], random_layer(128, 64, 32, bias=True).bias.float())  # type: ignore[union-attr]


def test_gradients_pass_through() -> None:
    """With gradients on, a prepared layer passes them to its input as the expanded weight would."""
    layer = random_layer(128, 64, 32)
    weight = layer.dequantize()
    layer.prepare(torch.float32)
    x = torch.randn(3, 128, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert relative(x.grad, weight.sum(0).expand(3, -1)) < 1e-6


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sym", [False, True])
def test_from_weight_rounds_to_nearest(sym: bool, bits: int) -> None:
    """Every weight is at most half a step from where it was, the ends of a group included."""
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(3))
    layer = Int4Linear.from_weight(weight, QuantizationConfig(bits=bits, group_size=64, sym=sym), torch.ones(64))
    step = layer.scales.float().repeat_interleave(64, dim=0).T
    off = (layer.dequantize() - weight).abs() / step
    # A symmetric grid has one point less above zero than below, and a scale is rounded to float16.
    # 128 steps of a rounded scale may end 1/16 of a step off.
    assert off.max() < (1.01 if sym else 0.52) + (bits == 8) * 0.07
    assert float(step.max()) < float(weight.abs().max()) * 2.01 / (2**bits - 1)
    assert off.mean() < 0.3
    assert layer.bias is not None
    assert layer.bias.sum() == 64


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("group_size", [32, 64, 128, -1])
def test_cuda_product_equals_dequantized_weight(group_size: int, rows: int) -> None:
    """On CUDA torch's product is chosen from compute capability 8.0 on and gives the float weight's output."""
    layer = random_layer(1024, 512, group_size, sym=False, act_order=True)
    expected = layer.dequantize().double()
    layer.to("cuda")
    layer.prepare(torch.bfloat16)
    assert layer.choice is not None
    modern = torch.cuda.get_device_capability() >= (8, 0)
    assert layer.choice.product == ("int4pack" if modern else "dequantize"), layer.choice.reason
    x = torch.randn(rows, 1024).to(torch.bfloat16)
    assert relative(layer(x.cuda()).cpu(), x.double() @ expected.T) < TOLERANCE[torch.bfloat16]
    assert relative(layer.dequantize().cpu(), expected) < TOLERANCE[torch.bfloat16]


def test_int4_weight_knows_its_sizes() -> None:
    """Sizes of a weight are read from its words."""
    weight = Int4Weight(torch.zeros((16, 24), dtype=torch.int32), torch.zeros(4, 24), torch.zeros(4, 24))
    assert (weight.in_features, weight.out_features, weight.group_size) == (128, 24, 32)
