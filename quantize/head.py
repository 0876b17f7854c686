"""The head: after the blocks, the largest of the quantized layers. Knows no result file and no job."""

from __future__ import annotations

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
from .solver.gptq import quantize_weights, round_weight
from .solver.hessian import HessianSum
from .transform import Rotation


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
    with Checkpoint.open(source) as checkpoint, watch.part("wait"):
        W = checkpoint.read_copy(f"{HEAD}.weight")
        norm = _read_norm(checkpoint)
    if not bool(W.isfinite().all()):
        raise CheckpointError("model.not_finite", name=f"{HEAD}.weight")
    if rotation is not None:
        rotation.readers(norm, W)
    W, norm = W.to(device), norm.to(device)
    if streams is None:
        with watch.part("solve"):
            return QuantizedLayer(HEAD, round_weight(W, recipe), None)
    drift = None if streams.floats is None else Drift([W])
    H = _gather(streams, norm, drift, weights, watch)
    with watch.part("solve"):
        return QuantizedLayer(HEAD, quantize_weights([W], H, recipe, drift)[0], None)


def _read_norm(checkpoint: Checkpoint) -> RMSNorm:
    weight = checkpoint.read_copy("transformer.ln_f.weight").float()
    norm = RMSNorm(len(weight), checkpoint.config.layer_norm_epsilon)
    norm.weight.data = weight
    return norm


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
