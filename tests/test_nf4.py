"""NF4: what bitsandbytes wrote is read and written bit by bit, and a layer multiplies with just those weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from bellevl import nf4
from bellevl.errors import CheckpointError
from bellevl.nf4_linear import Nf4Linear, Nf4Weight, build, choose
from bellevl.nf4_state import (
    ABSMAX,
    BLOCKSIZES,
    CODES,
    NESTED_ABSMAX,
    NESTED_TABLE,
    STATE,
    TABLE,
    read_state,
    write_state,
)

CASES = ("plain", "double", "ragged", "block128")
PARTS = (CODES, ABSMAX, TABLE, STATE, NESTED_ABSMAX, NESTED_TABLE, "bias")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tensors(golden: Path) -> dict[str, Tensor]:
    """What bitsandbytes made, by case and name."""
    return load_file(golden / "nf4" / "bitsandbytes.safetensors")


def layer_of(tensors: dict[str, Tensor], case: str) -> Nf4Linear:
    """An Nf4Linear that holds a golden layer."""
    outputs, inputs = tensors[f"{case}.source"].shape
    layer = Nf4Linear(inputs, outputs, f"{case}.bias" in tensors, f"{case}.{NESTED_ABSMAX}" in tensors)
    for part in PARTS:
        if f"{case}.{part}" in tensors:
            layer._buffers[part] = tensors[f"{case}.{part}"].clone()
    return layer


def random_layer(inputs: int = 128, outputs: int = 48, bias: bool = True) -> tuple[Nf4Linear, Tensor]:
    """A layer and the float weight that it was made of."""
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn((outputs, inputs), generator=generator)
    return Nf4Linear.from_weight(weight, torch.randn(outputs, generator=generator) if bias else None), weight


@pytest.mark.parametrize("case", CASES)
def test_packs_what_bitsandbytes_packs(tensors: dict[str, Tensor], case: str) -> None:
    """Codes and, where they are not quantized themselves, absolute maxima are the same to the last bit."""
    blocksize = 128 if case == "block128" else 64
    packed, absmax = nf4.quantize(tensors[f"{case}.source"], blocksize)
    assert torch.equal(packed, tensors[f"{case}.{CODES}"])
    assert case == "double" or torch.equal(absmax, tensors[f"{case}.{ABSMAX}"])


@pytest.mark.parametrize("case", CASES)
def test_decodes_what_bitsandbytes_decodes(tensors: dict[str, Tensor], case: str) -> None:
    """Every weight is bitsandbytes' own in the dtype it was made from, with no difference at all."""
    expected = tensors[f"{case}.dequantized"]
    assert torch.equal(layer_of(tensors, case).dequantize().to(expected.dtype), expected)


@pytest.mark.parametrize("case", ["plain", "ragged", "block128"])
def test_writes_the_state_that_bitsandbytes_writes(tensors: dict[str, Tensor], case: str) -> None:
    """The JSON of a layer, read and written again, has the same bytes, and the table has the same levels."""
    text = bytes(tensors[f"{case}.{STATE}"].tolist())
    assert write_state(read_state(text)) == text
    assert torch.equal(nf4.levels(), tensors[f"{case}.{TABLE}"])


def test_names_are_those_of_bitsandbytes(tensors: dict[str, Tensor]) -> None:
    """A layer's state dict has the names of bitsandbytes' own layer, with and without double quantization."""
    for case in ("plain", "double"):
        theirs = {name.removeprefix(f"{case}.") for name in tensors if name.startswith(f"{case}.")}
        assert set(layer_of(tensors, case).state_dict()) == theirs - {"source", "dequantized"}


def test_levels_are_the_quantiles_of_a_normal_distribution() -> None:
    """The table is the paper's formula: eight quantiles above zero and seven below, over the largest."""
    tail = 0.9677083

    def quantiles(count: int) -> Tensor:
        steps = torch.linspace(tail, 0.5, count + 1, dtype=torch.float64)[:-1]
        return torch.special.ndtri(steps)

    above, below = quantiles(8), quantiles(7)
    expected = torch.cat((-below, torch.zeros(1), above.flip(0))) / above[0]
    assert torch.allclose(torch.tensor(nf4.LEVELS, dtype=torch.float64), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (48, 128), (5, 4100), (513, 96), (2049, 640)])
@pytest.mark.parametrize("blocksize", [32, 64, 4096])
def test_every_number_gets_its_nearest_level(shape: tuple[int, int], blocksize: int) -> None:
    """No other level of a number's block is nearer to it than the one it got."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(shape[1]))
    found = nf4.dequantize(*nf4.quantize(numbers, blocksize), numbers.numel(), blocksize)
    flat = numbers.reshape(-1)
    blocks = F.pad(flat, (0, -flat.numel() % blocksize)).view(-1, blocksize).abs().amax(1)
    largest = blocks.repeat_interleave(blocksize)[: flat.numel()]
    for start in range(0, flat.numel(), 100_000):
        part = slice(start, start + 100_000)
        nearest = (flat[part, None] - nf4.levels() * largest[part, None]).abs().amin(1)
        assert bool(((flat[part] - found[part]).abs() <= nearest + 1e-6 * largest[part]).all())


def test_quantizing_again_changes_nothing() -> None:
    """Weights that are levels of their blocks already are kept as they are."""
    layer, _ = random_layer()
    once = layer.dequantize()
    assert torch.equal(Nf4Linear.from_weight(once).dequantize(), once)


def test_zeros_and_tiny_numbers_stay_finite() -> None:
    """A block of zeros stays zero, and one of subnormal numbers becomes no NaN."""
    numbers = torch.zeros((2, 64))
    numbers[1] = 1e-44
    found = nf4.dequantize(*nf4.quantize(numbers), 128)
    assert torch.equal(found[:64], torch.zeros(64)) and bool(found.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(128, 48), (96, 1030), (33, 7), (200, 601)])
def test_both_products_multiply_with_the_same_weights(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Expanding piece by piece or once gives what a matrix product with the decoded weights gives."""
    inputs, outputs = shape
    layer, _ = random_layer(inputs, outputs)
    weight = layer._checked("layer")
    x = torch.randn((3, inputs), generator=torch.Generator().manual_seed(1)).to(dtype)
    choice = choose(CPU, dtype, inputs, outputs)
    for product in ("dense", "dequantize"):
        made = build(type(choice)(product, "", choice.dtype), weight)
        expected = F.linear(x.to(choice.dtype), layer.dequantize().to(choice.dtype)).to(dtype)
        assert torch.equal(made.weight(), layer.dequantize().to(choice.dtype))
        assert torch.allclose(
            made(x).float(), expected.float(), rtol=2e-2, atol=2e-2 if dtype != torch.float32 else 1e-4
        )


def test_some_outputs_are_those_of_all() -> None:
    """A part of the weights, wherever it begins, is that part of all of them, before and after `prepare`."""
    layer, _ = random_layer(96, 1030)
    whole = layer.dequantize()
    for part in (slice(0, 5), slice(3, 700), slice(512, 2000), slice(1029, None), slice(None)):
        assert torch.equal(layer.dequantize(part), whole[part])
    layer.prepare(torch.float32)
    assert torch.equal(layer.dequantize(slice(3, 700)), whole[3:700])


def test_pieces_begin_with_a_block_and_a_byte() -> None:
    """Whatever the width, a piece's first weight is the first of a block and of a byte, and all outputs are covered."""
    for inputs in (1, 33, 96, 100, 5120):
        for blocksize in BLOCKSIZES:
            empty = torch.empty((0, 1), dtype=torch.uint8)
            weight = Nf4Weight(empty, torch.empty(0), inputs, 9000, blocksize)
            pieces = weight.pieces()
            assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
            assert pieces[0].start == 0 and pieces[-1].stop == 9000
            assert all(piece.start * inputs % blocksize == 0 for piece in pieces)


@pytest.mark.parametrize("case", CASES)
def test_a_prepared_layer_answers_as_before(tensors: dict[str, Tensor], case: str) -> None:
    """`prepare` lets the stored tensors go and changes neither the weights nor the outputs."""
    layer = layer_of(tensors, case)
    x = torch.randn((2, layer.in_features), generator=torch.Generator().manual_seed(2))
    before, weights = layer(x), layer.dequantize()
    layer.prepare(torch.float32)
    assert torch.allclose(layer(x), before, atol=1e-5) and torch.equal(layer.dequantize(), weights)
    assert not [name for name, _ in layer.named_buffers() if name != "bias"]
    assert layer.choice is not None and layer.choice.product == "dense" and layer.nbytes > weights.nbytes - 1
    with pytest.raises(RuntimeError, match="stays as it was loaded"):
        layer.to(torch.bfloat16)


def test_large_layers_stay_packed() -> None:
    """A layer too large to be kept expanded holds 4.5 bits a weight and says why it is slow."""
    inputs, outputs = 2048, 1032
    layer = Nf4Linear.from_weight(torch.ones((outputs, inputs)))
    layer.prepare(torch.float32)
    assert layer.choice is not None and layer.choice.product == "dequantize"
    assert "NF4" in layer.choice.reason
    assert layer.nbytes == inputs * outputs // 2 + 4 * inputs * outputs // 64


@pytest.mark.gpu
def test_a_gpu_decodes_what_the_cpu_decodes() -> None:
    """On a CUDA device the weights are the same to the last bit, packed and decoded, and products agree."""
    layer, weight = random_layer(2048, 1032)
    there = Nf4Linear.from_weight(weight.cuda(), layer.bias.cuda() if layer.bias is not None else None)
    assert torch.equal(there._buffers[CODES].cpu(), layer._buffers[CODES])
    assert torch.equal(there.dequantize().cpu(), layer.dequantize())
    x = torch.randn((3, 2048), generator=torch.Generator().manual_seed(1)).bfloat16()
    expected = layer(x.float())
    there.prepare(torch.bfloat16)
    assert (there(x.cuda()).float().cpu() - expected).norm() < 0.01 * expected.norm()


def test_gradients_go_through() -> None:
    """What comes before a frozen layer can be trained: the gradient is that of the decoded weights."""
    layer, _ = random_layer()
    layer.prepare(torch.float32)
    x = torch.randn((2, layer.in_features), requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and torch.allclose(x.grad[0], layer.dequantize().sum(0), atol=1e-4)


HOSTILE = {
    "NaN absmax": (ABSMAX, lambda t: t.fill_(float("nan")), "NaN or infinite"),
    "too few blocks": (ABSMAX, lambda t: t[:-1], "has shape"),
    "whole-number absmax": (ABSMAX, lambda t: t.to(torch.int32), "stored as int32"),
    "cut codes": (CODES, lambda t: t[:-1], "has shape"),
    "float codes": (CODES, lambda t: t.float(), "stored as float32"),
    "other levels": (TABLE, lambda t: t.neg(), "not those of NF4"),
    "NaN levels": (TABLE, lambda t: t.fill_(float("nan")), "not those of NF4"),
    "short table": (TABLE, lambda t: t[:8], "has shape"),
    "float state": (STATE, lambda t: t.float(), "not bytes"),
    "square state": (STATE, lambda t: t[:64].view(8, 8), "not bytes"),
    "NaN bias": ("bias", lambda t: t.fill_(float("nan")), "NaN or infinite"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_tensors_are_one_error(tensors: dict[str, Tensor], what: str) -> None:
    """Each tensor that does not fit is refused by its full name, before anything is multiplied."""
    part, harm, message = HOSTILE[what]
    layer = layer_of(tensors, "plain")
    layer._buffers[part] = harm(layer._buffers[part])
    with pytest.raises(CheckpointError, match=message) as caught:
        layer.prepare(torch.float32, "transformer.h.0.attn.c_attn")
    assert f"transformer.h.0.attn.c_attn.{part}" in str(caught.value)


STATES = {
    "another type": ({"quant_type": "fp4"}, "quant_type is 'fp4'"),
    "no type": ({"quant_type": None}, "quant_type is None"),
    "a shape transposed": ({"shape": [128, 48]}, r"shape \(128, 48\)"),
    "a shape of one": ({"shape": [6144]}, r"shape is \[6144\]"),
    "an absurd shape": ({"shape": [10**30, 10**30]}, "has shape"),
    "a negative shape": ({"shape": [-48, -128]}, "shape is"),
    "a shape of floats": ({"shape": [48.0, 128.0]}, "shape is"),
    "true for a number": ({"shape": [True, True]}, "shape is"),
    "another blocksize": ({"blocksize": 128}, "has shape"),
    "no block at all": ({"blocksize": 0}, "blocksize is 0"),
    "an absurd blocksize": ({"blocksize": 10**40}, "blocksize is 1000"),
    "a blocksize in words": ({"blocksize": "64"}, "blocksize is '64'"),
    "double quantization": ({"nested_blocksize": 256, "nested_offset": 0.1}, "differ about double quantization"),
    "an infinite offset": ({"nested_blocksize": 256, "nested_offset": float("inf")}, "nested_offset is inf"),
}


@pytest.mark.parametrize("what", STATES)
def test_a_lying_state_is_one_error(tensors: dict[str, Tensor], what: str) -> None:
    """JSON that lies about type, shape or blocks is refused, however large its numbers."""
    changes, message = STATES[what]
    layer = layer_of(tensors, "plain")
    state = json.loads(bytes(layer._buffers[STATE].tolist())) | changes
    layer._buffers[STATE] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    with pytest.raises(CheckpointError, match=message):
        layer.prepare(torch.float32)


@pytest.mark.parametrize("text", [b"", b"null", b"[1]", b"\xff\xfe", b"{", b"[" * 4000, b" " * 100_000])
def test_a_state_that_is_no_json_is_one_error(text: bytes) -> None:
    """Bytes that are no JSON object, cut, deep or endless, raise a ValueError with a short reason."""
    with pytest.raises(ValueError) as caught:
        read_state(text)
    assert len(str(caught.value)) < 100


def test_damaged_double_quantization_is_one_error(tensors: dict[str, Tensor]) -> None:
    """Tables of the wrong length and values that are not finite are refused there, too."""
    for part, harm in (
        (NESTED_ABSMAX, lambda t: t[:-1]),
        (NESTED_TABLE, lambda t: t[:16]),
        (NESTED_ABSMAX, lambda t: t.fill_(float("inf"))),
        (ABSMAX, lambda t: t.float()),
    ):
        layer = layer_of(tensors, "double")
        layer._buffers[part] = harm(layer._buffers[part])
        with pytest.raises(CheckpointError):
            layer.prepare(torch.float32)
