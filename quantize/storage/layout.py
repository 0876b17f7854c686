"""What the result is made of: which layers are quantized, which tensors stand for them, and their shapes.

AutoGPTQ's layout, format "gptq" (v1): the linears of every block become qweight, qzeros, scales, g_idx and a bias
(zeros where the layer has none); everything else is float16. NF4's layout is in nf4_layer.py. Knows no file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from bellevl import packing
from bellevl.checkpoint import Checkpoint
from bellevl.quantization import HEAD
from bellevl.sizes import linears

from ..recipe import Recipe
from ..solver.gptq import QuantizedWeight
from ..solver.nf4_layer import Nf4Layer, nf4_parts, nf4_tensors

#: Layers of a block in the order in which they are solved; those of one stage see the same inputs.
STAGES = (("attn.c_attn",), ("attn.c_proj",), ("mlp.w1", "mlp.w2"), ("mlp.c_proj",))

#: The first layer behind each norm of a block.
NORMS = {"attn.c_attn": "ln_1", "mlp.w1": "ln_2"}

#: Formats as safetensors names them.
DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "I32": torch.int32,
    "U8": torch.uint8,
}

_LINEAR = re.compile(r"(transformer\.h\.\d+\.(?:attn\.(?:c_attn|c_proj)|mlp\.(?:w1|w2|c_proj)))\.[\w.]+")


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the result; `dtype` is a key of DTYPES."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        size = DTYPES[self.dtype].itemsize
        for n in self.shape:
            size *= n
        return size


def block_prefix(index: int) -> str:
    """How the names of a block's tensors begin."""
    return f"transformer.h.{index}."


def is_quantized(name: str, recipe: Recipe) -> bool:
    """Whether a tensor of the source belongs to a layer that is quantized."""
    return _LINEAR.fullmatch(name) is not None or (name == f"{HEAD}.weight" and recipe.lm_head_bits < 16)


def is_packed(name: str) -> bool:
    """Whether a tensor of the result stands for a quantized layer."""
    return _LINEAR.fullmatch(name) is not None or (name.startswith(f"{HEAD}.") and name != f"{HEAD}.weight")


def plan_tensors(checkpoint: Checkpoint, recipe: Recipe) -> list[TensorPlan]:
    """Every tensor of the result, in the order in which it is laid out."""
    kept = [TensorPlan(n, "F16", checkpoint.shape(n)) for n in checkpoint.names() if not is_quantized(n, recipe)]
    packed = []
    for name, inputs, outputs, bias in linears(checkpoint.config):
        if not is_quantized(f"{name}.weight", recipe):
            continue
        if recipe.method == "nf4":
            parts = nf4_parts(inputs, outputs, bias).items()
            packed += [TensorPlan(f"{name}.{part}", dtype, shape) for part, (dtype, shape) in parts]
        else:
            packed += _plan_layer(name, inputs, outputs, recipe.for_layer(name))
    return sorted(kept + packed, key=lambda plan: natural_key(plan.name))


def packed_tensors(quantized: QuantizedWeight | Nf4Layer, bias: Tensor | None, recipe: Recipe) -> dict[str, Tensor]:
    """The tensors that stand for one layer, by the last part of their names, on the CPU. `recipe` is the layer's."""
    if isinstance(quantized, Nf4Layer):
        return nf4_tensors(quantized, bias)
    outputs = quantized.codes.shape[1]
    tensors = {
        "qweight": packing.pack_rows(quantized.codes, recipe.bits),
        "qzeros": packing.pack_zeros(quantized.zeros, recipe.quantization().zero_offset, recipe.bits),
        "scales": quantized.scales,
        "g_idx": quantized.g_idx,
        "bias": torch.zeros(outputs, dtype=torch.float16) if bias is None else bias.half(),
    }
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def _plan_layer(name: str, inputs: int, outputs: int, recipe: Recipe) -> list[TensorPlan]:
    groups = packing.group_count(inputs, recipe.group_size)
    per_word = 32 // recipe.bits
    return [
        TensorPlan(f"{name}.qweight", "I32", (inputs // per_word, outputs)),
        TensorPlan(f"{name}.qzeros", "I32", (groups, outputs // per_word)),
        TensorPlan(f"{name}.scales", "F16", (groups, outputs)),
        TensorPlan(f"{name}.g_idx", "I32", (inputs,)),
        TensorPlan(f"{name}.bias", "F16", (outputs,)),
    ]


def natural_key(name: str) -> list[tuple[int, str]]:
    """A sorting key in which block 10 comes after block 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
