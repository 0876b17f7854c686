"""Which int4 product a loaded model multiplies with, named for a person. Imports torch."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from bellevl.kernels import Choice, choose, probe
from bellevl.model import BelleVL
from bellevl.nf4_linear import Nf4Linear
from bellevl.qlinear import Int4Linear

from ..words import reason, say
from .cpu_speed import slowdown

#: Products that are slower than weights of 16 bits would be.
SLOW = ("dequantize",)


@dataclass(frozen=True)
class Kernel:
    """`product` and why; `seconds`: what its self-check took, None where it has none."""

    product: str
    reason: str
    seconds: float | None = None

    @property
    def text(self) -> str:
        """ "int4pack (…；自检 0.004 s 通过)"."""
        if self.seconds is None:
            return say("kernel.text", product=self.product, reason=reason(self.reason))
        return say("kernel.checked", product=self.product, reason=reason(self.reason), seconds=f"{self.seconds:.3f}")


def int4_kernel(model: BelleVL) -> Kernel | None:
    """The product of the most layers, checked once more; None for a float model."""
    layer = _layer(model)
    if layer is None or layer.choice is None:
        return None
    return Kernel(layer.choice.product, layer.choice.reason, _checked(layer.choice, layer._like.device))


def kernel_on(device: torch.device) -> Kernel:
    """The product that a layer of the 14B gets on `device`."""
    choice = choose(device, torch.bfloat16)
    return Kernel(choice.product, choice.reason, _checked(choice, device))


def slow_kernel_line(model: BelleVL) -> str | None:
    """What a person is told where the int4 layers are slow, with the measured factor; None: nothing to tell."""
    layer = _layer(model)
    if layer is None or layer.choice is None or layer.choice.product not in SLOW:
        return None
    times = slowdown(layer)
    if times < 1.5:
        return None
    return say("kernel.slow", product=layer.choice.product, times=f"{times:.0f}", reason=reason(layer.choice.reason))


def _layer(model: BelleVL) -> Int4Linear | Nf4Linear | None:
    """An int4 layer that stands for all of them: the smallest, which costs least to try."""
    layers = [module for module in model.modules() if isinstance(module, Int4Linear | Nf4Linear)]
    return min(layers, key=lambda layer: layer.in_features * layer.out_features, default=None)


def _checked(choice: Choice, device: torch.device) -> float | None:
    """Seconds of the self-check of torch's product; None for a product that has none."""
    if choice.product != "int4pack":
        return None
    began = time.perf_counter()
    failed = probe.__wrapped__(device)
    return None if failed else time.perf_counter() - began
