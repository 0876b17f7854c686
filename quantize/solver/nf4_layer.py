"""NF4 in place of GPTQ: what a layer becomes, and which tensors stand for it. No calibration, nothing to choose.

The layout is that of bitsandbytes as transformers saves it (bellevl/nf4_state.py), without double quantization.
Knows no file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bellevl import nf4
from bellevl.nf4_linear import Nf4Weight
from bellevl.nf4_state import ABSMAX, CODES, STATE, TABLE, State, block_count, packed_bytes, write_state

from .hessian import relative_error, sampling_step


@dataclass(frozen=True)
class Nf4Layer:
    """A layer's weights; `error` is |W - Q| / |W|, measured on evenly spaced outputs. Beside QuantizedWeight."""

    weight: Nf4Weight
    error: float
    method: str = "nf4"
    damp_percent: float = 0.0


def round_nf4(W: Tensor) -> Nf4Layer:
    """W [O, I] with every weight at its nearest level."""
    outputs, inputs = W.shape
    weight = Nf4Weight(*nf4.quantize(W), inputs, outputs)
    step = sampling_step(outputs)
    sampled = torch.cat([weight.rows(piece)[-piece.start % step :: step] for piece in weight.pieces()])
    return Nf4Layer(weight, relative_error(W[::step], sampled, None))


def nf4_parts(inputs: int, outputs: int, bias: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensors of a layer by the last part of their names: format as safetensors names it, and shape."""
    count = inputs * outputs
    parts: dict[str, tuple[str, tuple[int, ...]]] = {
        CODES: ("U8", (packed_bytes(count), 1)),
        ABSMAX: ("F32", (block_count(count),)),
        TABLE: ("F32", (len(nf4.LEVELS),)),
        STATE: ("U8", (len(_state(inputs, outputs)),)),
    }
    return parts | ({"bias": ("F16", (outputs,))} if bias else {})


def nf4_tensors(layer: Nf4Layer, bias: Tensor | None) -> dict[str, Tensor]:
    """The tensors themselves, on the CPU."""
    weight = layer.weight
    state = _state(weight.in_features, weight.out_features)
    tensors = {
        CODES: weight.packed.cpu(),
        ABSMAX: weight.absmax.cpu(),
        TABLE: nf4.levels(),
        STATE: torch.tensor(list(state), dtype=torch.uint8),
    }
    return tensors | ({} if bias is None else {"bias": bias.half().cpu()})


def _state(inputs: int, outputs: int) -> bytes:
    return write_state(State((outputs, inputs)))
