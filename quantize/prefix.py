"""What comes before block 0: token embeddings with the picture features in their slots.

The embedding stands on the checkpoint's own bytes while it is used. Knows no Hessian and no result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import nn

from bellevl.checkpoint import Checkpoint
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.model import BelleVL

from .calibration import CalibrationSet
from .storage.activations import CPU, Activations
from .transform import Rotation
from .vision import PREFIX, PictureFeatures, computed_in

EMBEDDING = "transformer.wte.weight"

#: The patches of all pictures lie in this file, beside the stream's, as long as they are looked at.
PATCHES = "patches.bin"


@torch.inference_mode()
def embed_samples(
    checkpoint: Checkpoint, calibration: CalibrationSet, stream: Activations, rotation: Rotation | None = None
) -> Iterator[float]:
    """Writes what enters block 0 of every sample into `stream`; yields the share of the work that is done.

    With a `rotation` that is what enters block 0 of the turned model.

    The vision encoder works on the stream's device. The embedding stays on the CPU: a sample needs a few of its rows.

    Raises CheckpointError for weights that are not finite where they were used.
    """
    model = _embedding_model(checkpoint)
    with ExitStack() as stack:
        features = None
        if any(sample.pictures for sample in calibration.samples):
            path = stream.path.with_name(PATCHES)
            features = stack.enter_context(PictureFeatures(checkpoint, calibration, path, stream.device))
            for step, _ in enumerate(features.look(), 1):
                yield step / (features.steps() + 1)
        for n, sample in enumerate(calibration.samples):
            seen = None if features is None else features.of_sample(n)
            x = model.embed(torch.tensor([sample.ids]), None if seen is None else seen.to(CPU))[0].float()
            if not bool(x.isfinite().all()):
                raise _not_finite(checkpoint)
            stream.write(range(n, n + 1), x if rotation is None else rotation.stream(x))
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
