"""The head: after the blocks, the largest of the quantized layers. Knows no result file and no job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bellevl.checkpoint import Checkpoint
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.layers import RMSNorm
from bellevl.quantization import HEAD

from .blocks.passes import TOKENS, Streams
from .blocks.stages import QuantizedLayer
from .meter import Stopwatch
from .recipe import Recipe
from .solver.drift import Drift
from .solver.gptq import QuantizedWeight, quantize_weights, round_weight
from .solver.hessian import HessianSum, energy, sampled
from .transform import Rotation

WEIGHT = f"{HEAD}.weight"

#: Outputs that are in memory as floats at a time: 0.5 GB at the 14B's width while they are solved.
PART = 16_384


@torch.inference_mode()
def quantize_head(
    source: Path,
    recipe: Recipe,
    streams: Streams | None,
    weights: list[Tensor] | None,
    device: torch.device,
    watch: Stopwatch,
    rotation: Rotation | None = None,
) -> QuantizedLayer:
    """The head rounded by its own `recipe`, calibrated on `streams` out of the last block (None: not calibrated).

    `weights`: how much each token of each sample counts [T], None: all the same. `rotation`: the model is turned by it.
    Raises CheckpointError for weights, QuantizeError for activations that are not finite.
    """
    with Checkpoint.open(source) as checkpoint:
        H = drift = None
        if streams is not None:
            drift = None if streams.floats is None else Drift.of_inputs(streams.entering.width, device)
            norm = _read_norm(checkpoint) if rotation is None else _flat_norm(checkpoint)
            H = _gather(streams, norm.to(device), drift, weights, watch)
        outputs, inputs = checkpoint.shape(WEIGHT)
        joined = _Joined(inputs, outputs)
        for first in range(0, outputs, PART):
            rows = range(first, min(first + PART, outputs))
            with watch.part("wait"):
                W = _read(checkpoint, rows, rotation).to(device)
            with watch.part("solve"):
                if H is None:
                    joined.add(rows, W, round_weight(W, recipe), None)
                else:
                    told = None if drift is None else drift.for_weights([W])
                    joined.add(rows, W, quantize_weights([W], H, recipe, told)[0], H)
            del W
    return QuantizedLayer(HEAD, joined.result(), None)


class _Joined:
    """Parts of a layer's outputs, solved one after the other, put together on the CPU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self._codes = torch.empty((inputs, outputs), dtype=torch.uint8)
        self._parts: list[QuantizedWeight] = []
        self._energy = self._lost = 0.0

    def add(self, rows: range, W: Tensor, part: QuantizedWeight, H: Tensor | None) -> None:
        """The outputs `rows`, of weights W [O, I]."""
        self._codes[:, rows.start : rows.stop] = part.codes
        self._parts.append(replace(part, codes=part.codes[:0].clone()))
        some = sampled(W).float()
        whole = len(W) / len(some) * energy(some, H)
        self._energy += whole
        self._lost += whole * part.error**2

    def result(self) -> QuantizedWeight:
        scales = torch.cat([part.scales.cpu() for part in self._parts], dim=1)
        zeros = torch.cat([part.zeros.cpu() for part in self._parts], dim=1)
        error = (self._lost / self._energy) ** 0.5 if self._energy > 0 else 0.0
        first = self._parts[0]
        return replace(first, codes=self._codes, scales=scales, zeros=zeros, g_idx=first.g_idx.cpu(), error=error)


def _read(checkpoint: Checkpoint, rows: range, rotation: Rotation | None) -> Tensor:
    """Some outputs of the head, turned by `rotation`."""
    W = checkpoint.read_copy(WEIGHT, rows=rows)
    if not bool(W.isfinite().all()):
        raise CheckpointError("model.not_finite", name=WEIGHT)
    if rotation is not None:
        rotation.readers(_read_norm(checkpoint), W)
    return W


def _read_norm(checkpoint: Checkpoint) -> RMSNorm:
    weight = checkpoint.read_copy("transformer.ln_f.weight").float()
    norm = RMSNorm(len(weight), checkpoint.config.layer_norm_epsilon)
    norm.weight.data = weight
    return norm


def _flat_norm(checkpoint: Checkpoint) -> RMSNorm:
    """That of a turned model."""
    return RMSNorm(checkpoint.config.hidden_size, checkpoint.config.layer_norm_epsilon)


def _gather(
    streams: Streams, norm: RMSNorm, drift: Drift | None, weights: list[Tensor] | None, watch: Stopwatch
) -> Tensor:
    """The Hessian of what the last norm gives; `drift` gathers how the float model's is different."""
    entering = streams.entering
    total = HessianSum(entering.width, entering.device)
    for span in entering.spans(TOKENS):
        counts = None if weights is None else torch.cat([weights[n] for n in span]).to(entering.device)
        with watch.part("forward"):
            x = norm(entering.read(span))
        with watch.part("hessian"):
            total.add(x, counts)
        if drift is not None and streams.floats is not None:
            y = norm(streams.floats.entering.read(span))
            drift.add(x, y, counts)
    H = total.finish()
    if not bool(H.diagonal().isfinite().all()):
        raise QuantizeError("quantize.not_finite", block="-", layer=HEAD)
    return H
