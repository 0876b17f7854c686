"""AWQ's scaling (Lin et al., 2306.00978) of a layer's inputs, to be followed by GPTQ.

Inputs are divided by s, channel by channel, and weights multiplied by it: the same function, in which inputs of large
activations have larger weights, of which rounding loses a smaller part. What divides goes into whatever makes the
inputs; where that is, this module does not know.

    s = 2^round(alpha log2(rms of the input / geometric mean of all))

Powers of two, so that nothing is rounded by it, in any dtype. Of ALPHAS the one is taken whose GPTQ solution loses
least on the layer's own Hessian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .gptq import QuantizedWeight
from .hessian import PANEL, energy, sampled

#: What is tried; 0 leaves everything as it is.
ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8)

#: s is at most 2^LARGEST and at least one over that: stored scales of float16 must not become subnormal.
LARGEST = 5

#: Weights [O, I] of layers that share inputs, and their Hessian -> what becomes of them.
Solve = Callable[[list[Tensor], Tensor], list[QuantizedWeight]]


def find_scales(weights: Sequence[Tensor], H: Tensor, solve: Solve) -> Tensor:
    """s [I], float32, for layers of `weights` [O, I] that share inputs, found on some of their outputs.

    H serves as working space and is as before when this returns, bit by bit.
    """
    some = [sampled(W) for W in weights]
    energies = [energy(W.float(), H) for W in some]
    diagonal = H.diagonal().clone()
    tried: list[Tensor] = []
    best, least = torch.ones_like(diagonal), float("inf")
    for alpha in ALPHAS:
        s = channel_scales(diagonal, alpha)
        if any(bool((s == other).all()) for other in tried):
            continue
        tried.append(s)
        divide_inputs(H, s)
        found = solve([multiply_inputs(W, s) for W in some], H)
        divide_inputs(H, 1 / s)
        lost = sum(solved.error**2 * e for solved, e in zip(found, energies, strict=True))
        if lost < least:
            best, least = s, lost
    return best


def channel_scales(squares: Tensor, alpha: float) -> Tensor:
    """s [I] of inputs whose mean squares are `squares` [I]; 1 for those that are always 0."""
    live = squares > 0
    logs = torch.where(live, alpha / 2 * squares.clamp(min=torch.finfo(squares.dtype).tiny).log2(), 0.0)
    mean = logs.sum() / live.sum().clamp(min=1)
    return torch.where(live, (logs - mean).round(), 0.0).clamp(-LARGEST, LARGEST).exp2()


def divide_inputs(H: Tensor, s: Tensor) -> None:
    """H becomes that of the inputs divided by s, in place."""
    for start in range(0, H.shape[0], PANEL):
        rows = H[start : start + PANEL]
        rows.div_(s).div_(s[start : start + PANEL, None])


def multiply_inputs(W: Tensor, s: Tensor) -> Tensor:
    """The weights [O, I] for inputs that are divided by s: exact, in bfloat16 or float32."""
    return W * s.bfloat16() if W.dtype == torch.bfloat16 else W.float() * s
