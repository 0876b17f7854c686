"""What comes before block 0: token embeddings with the picture features in their slots.

The embedding stands on the checkpoint's own bytes while it is used. Knows no Hessian and no result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from bellevl.checkpoint import Checkpoint
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.model import BelleVL

from .calibration import CalibrationSet
from .storage.activations import CPU, Activations
from .transform import Rotation
from .vision import PREFIX, PictureFeatures, computed_in

EMBEDDING = "transformer.wte.weight"


@torch.inference_mode()
def embed_samples(
    checkpoint: Checkpoint, calibration: CalibrationSet, stream: Activations, rotation: Rotation | None = None
) -> Iterator[float]:
    """Writes what enters block 0 of every sample into `stream`; yields the share of the work that is done. What becomes
    of the pictures lies beside it meanwhile, and an interrupted job goes on with that.

    With a `rotation` that is what enters block 0 of the turned model.

    The vision encoder works on the stream's device. The embedding stays on the CPU: a sample needs a few of its rows.

    Raises CheckpointError for weights that are not finite where they were used.
    """
    model = _embedding_model(checkpoint)
    looked = None
    features: Iterable[Tensor | None] = itertools.repeat(None, len(calibration.samples))
    if any(sample.pictures for sample in calibration.samples):
        stem = f"{stream.path.stem}-patches"
        looked = PictureFeatures(checkpoint, calibration, stream.path.parent, stem, stream.device)
        for step in looked.look():
            yield step / (looked.steps + 1)
        features = looked.of_samples()
    for n, (sample, seen) in enumerate(zip(calibration.samples, features, strict=True)):
        x = model.embed(torch.tensor([sample.ids]), None if seen is None else seen.to(CPU))[0].float()
        if not bool(x.isfinite().all()):
            raise _not_finite(checkpoint)
        stream.write(range(n, n + 1), x if rotation is None else rotation.stream(x))
    if looked is not None:
        looked.remove()
    yield 1.0


def _embedding_model(checkpoint: Checkpoint) -> BelleVL:
    """A model of which nothing but the embedding is loaded."""
    with torch.device("meta"):
        model = BelleVL(checkpoint.config).eval()
    wte = checkpoint.read(EMBEDDING, computed_in(checkpoint.config))
    model.transformer.wte.weight = nn.Parameter(wte, requires_grad=False)
    return model


def _not_finite(checkpoint: Checkpoint) -> CheckpointError | QuantizeError:
    """Which weights are to blame, if any are."""
    for name in checkpoint.names():
        if (name == EMBEDDING or name.startswith(PREFIX)) and not bool(checkpoint.read(name).isfinite().all()):
            return CheckpointError("model.not_finite", name=name)
    return QuantizeError("quantize.not_finite", block=0, layer="transformer.wte")
