"""Int4 words: what AutoGPTQ and GPTQModel wrote is read bit by bit, and what we pack reads back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bellevl import packing
from bellevl.config import QuantizationConfig, parse_quantization
from bellevl.errors import CheckpointError
from bellevl.qlinear import Int4Linear

VARIANTS = (
    "autogptq-asym",
    "autogptq-sym",
    "autogptq-sym-desc_act",
    "gptqmodel-asym-v1",
    "gptqmodel-asym-v2",
    "gptqmodel-sym",
    "gptqmodel-sym-desc_act",
)
LAYERS = ("self_attn_q_proj", "mlp_down_proj")
WORDS = ("qweight", "qzeros", "scales", "g_idx")


def read_variant(golden: Path, variant: str) -> tuple[dict[str, Tensor], QuantizationConfig]:
    """The tensors of one golden file and how they say they are quantized."""
    path = golden / "gptq" / f"{variant}.quantize_config.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    return load_file(golden / "gptq" / f"{variant}.safetensors"), parse_quantization(raw, path)


def layer_of(tensors: dict[str, Tensor], layer: str, quantization: QuantizationConfig) -> Int4Linear:
    """An Int4Linear that holds a golden layer."""
    outputs, inputs = tensors[f"{layer}.dequantized"].shape
    linear = Int4Linear(inputs, outputs, quantization, bias=False)
    for part in WORDS:
        setattr(linear, part, tensors[f"{layer}.{part}"].clone())
    return linear


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_decodes_golden_variants_exactly(golden: Path, variant: str, layer: str) -> None:
    """Every weight equals the independent reader's, with no difference at all."""
    tensors, quantization = read_variant(golden, variant)
    found = layer_of(tensors, layer, quantization).dequantize()
    assert torch.equal(found, tensors[f"{layer}.dequantized"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_packs_golden_words_again(golden: Path, variant: str) -> None:
    """Unpacking and packing gives the tools' own words."""
    tensors, quantization = read_variant(golden, variant)
    for layer in LAYERS:
        words, zeros = tensors[f"{layer}.qweight"], tensors[f"{layer}.qzeros"]
        assert torch.equal(packing.pack_rows(packing.unpack_rows(words)), words)
        unpacked = packing.unpack_zeros(zeros, quantization.zero_offset)
        assert torch.equal(packing.pack_zeros(unpacked, quantization.zero_offset), zeros)


def test_versions_differ_only_in_stored_zeros(golden: Path) -> None:
    """The v1 and the v2 file of one quantization have other words for the zeros and the same zeros."""
    v1, first = read_variant(golden, "gptqmodel-asym-v1")
    v2, second = read_variant(golden, "gptqmodel-asym-v2")
    for layer in LAYERS:
        one, two = v1[f"{layer}.qzeros"], v2[f"{layer}.qzeros"]
        assert not torch.equal(one, two)
        assert torch.equal(packing.unpack_zeros(one, first.zero_offset), packing.unpack_zeros(two, second.zero_offset))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_version_is_known_by_its_words(golden: Path, variant: str) -> None:
    """Every tool's words show whether zeros are stored as they are; so do the same words rewritten as the other one."""
    tensors, quantization = read_variant(golden, variant)
    words, stored = tensors[f"{LAYERS[0]}.qweight"], tensors[f"{LAYERS[0]}.qzeros"]
    zeros = packing.unpack_zeros(stored, quantization.zero_offset)
    for offset in (0, 1):
        found = packing.keeps_zeros(words, packing.pack_zeros(zeros, offset), quantization.sym)
        assert found == (offset == 0)


@pytest.mark.parametrize("bits", [4, 8])
def test_words_hold_every_value(bits: int) -> None:
    """Each value of `bits` bits survives in each place of a word, the sign bit's included."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 2**bits, (64, 24), dtype=torch.uint8, generator=generator)
    codes[:, 0] = 2**bits - 1
    words = packing.pack_rows(codes, bits)
    assert words.dtype == torch.int32
    assert words.shape == (64 * bits // 32, 24)
    assert torch.equal(packing.unpack_rows(words, bits), codes)


def test_first_input_is_in_the_lowest_bits() -> None:
    """Word 0x76543210 holds the codes 0 to 7 from the first input to the eighth."""
    codes = torch.arange(8, dtype=torch.uint8)[:, None]
    assert packing.pack_rows(codes).item() == 0x76543210
    assert packing.pack_zeros(codes.T + 1, zero_offset=1).item() == 0x76543210


def test_zero_of_v1_wraps() -> None:
    """A stored 15 is zero 0 in v1, and zero 0 is stored as 15."""
    stored = packing.pack_zeros(torch.zeros((1, 8), dtype=torch.uint8), zero_offset=1)
    assert stored.item() == -1
    assert packing.unpack_zeros(stored, zero_offset=1).sum() == 0


def test_input_order_makes_groups_consecutive() -> None:
    """Inputs taken in the order found stand group by group; groups of other sizes have no such order."""
    g_idx = torch.tensor([1, 0, 1, 2, 0, 2], dtype=torch.int32)
    order = packing.input_order(g_idx, 3)
    assert order is not None
    assert g_idx[order].tolist() == [0, 0, 1, 1, 2, 2]
    assert packing.input_order(packing.plain_groups(6, 2), 3) is None
    with pytest.raises(ValueError, match="sizes"):
        packing.input_order(torch.tensor([0, 0, 0, 1], dtype=torch.int32), 2)


def test_block_layout_is_the_one_of_this_torch() -> None:
    """What we write for torch's CPU product is byte by byte what its own converter writes."""
    codes = torch.randint(0, 16, (96, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    theirs = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.T.int().contiguous(), 1)
    block = packing.find_block(theirs, codes)
    assert block is not None
    assert torch.equal(packing.pack_block(codes, block).view_as(theirs), theirs)
    blocks = packing.pack_block(codes, block)
    assert torch.equal(packing.unpack_block(blocks, torch.empty((96, 192))), codes.float())


def damaged(change: str) -> Int4Linear:
    """A layer with one thing wrong."""
    linear = Int4Linear.from_weight(torch.randn(16, 128), QuantizationConfig(group_size=32))
    if change == "qweight shape":
        linear.qweight = linear.qweight[:-1]
    elif change == "qweight dtype":
        linear.qweight = linear.qweight.float()
    elif change == "qzeros shape":
        linear.qzeros = linear.qzeros[:, :-1]
    elif change == "scales shape":
        linear.scales = linear.scales[:2]
    elif change == "scales nan":
        linear.scales[1, 2] = float("nan")
    elif change == "scales inf":
        linear.scales[1, 2] = float("inf")
    elif change == "bias nan":
        assert linear.bias is not None
        linear.bias[3] = float("nan")
    elif change == "group beyond":
        linear.g_idx[5] = 4
    elif change == "group negative":
        linear.g_idx[5] = -1
    return linear


@pytest.mark.parametrize(
    ("change", "message", "named"),
    [
        ("qweight shape", "model.shape", "h.0.c.qweight"),
        ("qweight dtype", "model.dtype", "h.0.c.qweight"),
        ("qzeros shape", "model.shape", "h.0.c.qzeros"),
        ("scales shape", "model.shape", "h.0.c.scales"),
        ("scales nan", "model.not_finite", "h.0.c.scales"),
        ("scales inf", "model.not_finite", "h.0.c.scales"),
        ("bias nan", "model.not_finite", "h.0.c.bias"),
        ("group beyond", "model.groups", "h.0.c.g_idx"),
        ("group negative", "model.groups", "h.0.c.g_idx"),
    ],
)
def test_misfits_are_refused_by_name(change: str, message: str, named: str) -> None:
    """Tensors that do not fit each other raise one error that names the tensor."""
    with pytest.raises(CheckpointError) as caught:
        damaged(change).prepare(torch.float32, "h.0.c")
    assert caught.value.message == message
    assert named in str(caught.value)


def test_widths_that_fill_no_words_are_refused() -> None:
    """A width that is no multiple of 8 cannot be packed and says so."""
    with pytest.raises(CheckpointError) as caught:
        Int4Linear(128, 12, QuantizationConfig())
    assert caught.value.message == "model.shape"
