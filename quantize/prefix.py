"""What comes before block 0: token embeddings with the picture features in their slots.

The vision encoder and the embedding stand on the checkpoint's own bytes while they are used (nothing is copied when
they are large), and are gone afterwards. Knows no Hessian and no result.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bellevl.checkpoint import Checkpoint
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.model import BelleVL
from bellevl.sizes import count_parameters

from .calibration import CalibrationSet
from .storage.activations import Activations
from .transform import Rotation

#: Up to this many bytes the embedding and the vision encoder compute in float32.
FLOAT32_BYTES = 1 << 30


@torch.inference_mode()
def embed_samples(
    checkpoint: Checkpoint, calibration: CalibrationSet, stream: Activations, rotation: Rotation | None = None
) -> Iterator[int]:
    """Writes what enters block 0 of every sample into `stream`; yields the number of each sample once done.

    With a `rotation` that is what enters block 0 of the turned model.

    The vision encoder works on the stream's device. The embedding stays on the CPU: a sample needs a few of its rows.

    Raises CheckpointError for weights that are not finite where they were used.
    """
    model = _prefix_model(checkpoint, stream.device)
    for n, sample in enumerate(calibration.samples):
        features = None
        if sample.pictures:
            assert checkpoint.config.visual is not None
            pixels = calibration.pixels(n, checkpoint.config.visual.image_size)
            features = model.encode_images(pixels)
        x = model.embed(torch.tensor([sample.ids]), features)[0].float()
        if not bool(x.isfinite().all()):
            names = _not_finite(model)
            if names:
                raise CheckpointError("model.not_finite", name=names[0])
            raise QuantizeError("quantize.not_finite", block=0, layer="transformer.wte")
        stream.write(range(n, n + 1), x if rotation is None else rotation.stream(x))
        yield n


def _prefix_model(checkpoint: Checkpoint, device: torch.device) -> BelleVL:
    """A model whose embedding and, on `device`, vision encoder are loaded and whose blocks are empty."""
    config = checkpoint.config
    with torch.device("meta"):
        model = BelleVL(config).eval()
    table = config.vocab_size * config.hidden_size
    small = 4 * (table + count_parameters(config).vision) <= FLOAT32_BYTES
    dtype = torch.float32 if small else torch.bfloat16
    wte = checkpoint.read("transformer.wte.weight", dtype)
    model.transformer.wte.weight = nn.Parameter(wte, requires_grad=False)
    if config.visual is not None:
        visual = model.transformer.visual
        state = {name: checkpoint.read(f"transformer.visual.{name}", dtype, device) for name in visual.state_dict()}
        visual.load_state_dict(state, assign=True)
        model.vision_place = None if device.type == "cpu" else (device, dtype)
    return model


def _not_finite(model: BelleVL) -> list[str]:
    """Names of loaded tensors with NaN or infinite values."""
    loaded: list[tuple[str, Tensor]] = [(n, t) for n, t in model.state_dict().items() if not t.is_meta]
    return [name for name, tensor in loaded if not bool(tensor.isfinite().all())]
