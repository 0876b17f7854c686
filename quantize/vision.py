"""The vision encoder over all calibration pictures, one of its blocks in memory at a time. Knows no text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from bellevl.checkpoint import Checkpoint
from bellevl.config import ModelConfig
from bellevl.sizes import count_parameters
from bellevl.vision import VisionTransformer

from .calibration import CalibrationSet
from .storage.activations import Activations

PREFIX = "transformer.visual."
BLOCKS = "transformer.resblocks."

#: Up to this many bytes the embedding and the vision encoder compute in float32.
FLOAT32_BYTES = 1 << 30


def computed_in(config: ModelConfig) -> torch.dtype:
    """What embedding and vision encoder compute in."""
    numbers = config.vocab_size * config.hidden_size + count_parameters(config).vision
    return torch.float32 if 4 * numbers <= FLOAT32_BYTES else torch.bfloat16


def patch_bytes(config: ModelConfig, calibration: CalibrationSet) -> int:
    """Size of the file of PictureFeatures."""
    pictures = sum(len(sample.pictures) for sample in calibration.samples)
    if config.visual is None:
        return 0
    return pictures * config.visual.patches * config.visual.width * computed_in(config).itemsize


class PictureFeatures:
    """Features of every sample's pictures, computed on `device`. A context manager: what leaves the blocks lies in the
    file `path`, which is removed in the end."""

    def __init__(self, checkpoint: Checkpoint, calibration: CalibrationSet, path: Path, device: torch.device) -> None:
        assert checkpoint.config.visual is not None
        self._config = checkpoint.config.visual
        self._checkpoint, self._calibration = checkpoint, calibration
        self._device, self._dtype = device, computed_in(checkpoint.config)
        self._numbers = [n for n, sample in enumerate(calibration.samples) if sample.pictures]
        lengths = [self._config.patches * len(calibration.samples[n].pictures) for n in self._numbers]
        self._patches = Activations(path, lengths, self._config.width, device, self._dtype)
        with torch.device("meta"):
            self._visual = VisionTransformer(self._config).eval()

    def __enter__(self) -> PictureFeatures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patches.__exit__(kind, error, trace)
        self._patches.path.unlink(missing_ok=True)

    def steps(self) -> int:
        """How often `look` yields."""
        return len(self._numbers) * (1 + self._config.layers)

    def look(self) -> Iterator[None]:
        """All pictures through all blocks; yields after each sample in each of them."""
        self._load(self._visual, "")
        for k, n in enumerate(self._numbers):
            pixels = self._calibration.pixels(n, self._config.image_size)
            x = self._visual.embed_patches(pixels.to(self._device, self._dtype))
            self._patches.write(range(k, k + 1), x.flatten(0, 1))
            yield
        blocks = self._visual.transformer.resblocks
        for index in range(len(blocks)):
            block, blocks[index] = blocks[index], nn.Identity()  # gone with the next one
            self._load(block, f"{BLOCKS}{index}.")
            for k in range(len(self._numbers)):
                self._patches.write(range(k, k + 1), block(self._read(k)).flatten(0, 1))
                yield

    def of_sample(self, n: int) -> Tensor | None:
        """Features [N, Q, C] of the pictures of sample n, once `look` is through; None where it has none."""
        if n not in self._numbers:
            return None
        return self._visual.pool_patches(self._read(self._numbers.index(n)))

    def _read(self, k: int) -> Tensor:
        """Patches [N, P, W] of the pictures of a sample."""
        return self._patches.read(range(k, k + 1)).to(self._dtype).unflatten(0, (-1, self._config.patches))

    def _load(self, module: nn.Module, prefix: str) -> None:
        """A block's weights or, for the encoder itself, those outside its blocks."""
        names = [name for name in module.state_dict() if prefix or not name.startswith(BLOCKS)]
        read = {name: self._checkpoint.read_copy(f"{PREFIX}{prefix}{name}", self._dtype) for name in names}
        state = {name: tensor.to(self._device) for name, tensor in read.items()}
        module.load_state_dict(state, assign=True, strict=False)
