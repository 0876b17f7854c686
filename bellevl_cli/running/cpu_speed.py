"""What a CPU is good for, measured in a second on this very machine: one layer of the model's size, timed.

An answer's speed is what its weights take to be multiplied with, once a token; attention and sampling come on top, so
what is said is the upper end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bellevl.config import ModelConfig, QuantizationConfig
from bellevl.kernels import Int4Weight, build, choose
from bellevl.nf4_linear import Nf4Linear
from bellevl.qlinear import Int4Linear
from bellevl.quantization import HEAD
from bellevl.sizes import block_linears

#: A layer is timed so often, and the best time counts: other programs only ever make it slower.
TIMES = 3


def tokens_a_second(config: ModelConfig, quantization: QuantizationConfig | None) -> float:
    """Of decoding on the CPU, in bfloat16 as a large model runs there."""
    inputs, outputs = config.hidden_size, config.mlp_width
    per_token = config.num_hidden_layers * sum(i * o for i, o in block_linears(config).values())
    head = config.vocab_size * config.hidden_size
    dense = _rate(_dense(inputs, outputs), inputs, outputs)
    packed = dense if quantization is None else _rate(_int4(inputs, outputs, quantization), inputs, outputs)
    stored = None if quantization is None else quantization.for_layer(HEAD)
    product = dense if stored is None else _rate(_int4(inputs, outputs, stored), inputs, outputs)
    return 1 / (per_token / packed + head / product)


def slowdown(layer: Int4Linear | Nf4Linear) -> float:
    """How many times as long a layer takes for one token as one of the same size with weights of 16 bits does, where
    it is."""
    x = torch.zeros((1, layer.in_features), dtype=layer._like.dtype, device=layer._like.device)
    weight = layer.dequantize().to(x.dtype)
    return _seconds(lambda: layer(x)) / _seconds(lambda: F.linear(x, weight))


def _rate(product: Callable[[Tensor], Tensor], inputs: int, outputs: int) -> float:
    """Weights a second."""
    x = torch.zeros((1, inputs), dtype=torch.bfloat16)
    return inputs * outputs / _seconds(lambda: product(x))


def _dense(inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
    weight = torch.zeros((outputs, inputs), dtype=torch.bfloat16)
    return lambda x: F.linear(x, weight)


def _int4(inputs: int, outputs: int, quantization: QuantizationConfig) -> Callable[[Tensor], Tensor]:
    """The product that a layer of this size gets, with weights of no meaning."""
    if quantization.method == "nf4":
        zeros = Nf4Linear.from_weight(torch.zeros((outputs, inputs)))
        zeros.prepare(torch.bfloat16)
        return zeros
    group = inputs if quantization.group_size == -1 else quantization.group_size
    groups = max(inputs // group, 1)
    weight = Int4Weight(
        torch.zeros((inputs * quantization.bits // 32, outputs), dtype=torch.int32),
        torch.full((groups, outputs), 2 ** (quantization.bits - 1), dtype=torch.uint8),
        torch.ones((groups, outputs), dtype=torch.float16),
        bits=quantization.bits,
    )
    chosen = choose(torch.device("cpu"), torch.bfloat16, inputs, outputs, group, quantization.bits)
    return build(chosen, weight)


@torch.inference_mode()
def _seconds(work: Callable[[], Tensor]) -> float:
    best = float("inf")
    for _ in range(TIMES + 1):  # the first one also warms up
        began = time.perf_counter()
        result = work()
        if result.is_cuda:
            torch.cuda.synchronize(result.device)
        best = min(best, time.perf_counter() - began)
    return max(best, 1e-9)
