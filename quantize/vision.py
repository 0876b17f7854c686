"""The vision encoder over all calibration pictures, one of its blocks in memory at a time. Knows no text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

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
    """What the files of PictureFeatures take."""
    pictures = sum(len(sample.pictures) for sample in calibration.samples)
    if config.visual is None:
        return 0
    return 2 * pictures * config.visual.patches * config.visual.width * computed_in(config).itemsize


class PictureFeatures:
    """Features of every sample's pictures, computed on `device`.

    What leaves a block lies in a file, `stem`-NN.bin in `folder`. It gets that name when it is whole, so an interrupted
    job looks on from there.
    """

    def __init__(
        self, checkpoint: Checkpoint, calibration: CalibrationSet, folder: Path, stem: str, device: torch.device
    ) -> None:
        assert checkpoint.config.visual is not None
        self._config = checkpoint.config.visual
        self._checkpoint, self._calibration = checkpoint, calibration
        self._folder, self._stem = folder, stem
        self._device, self._dtype = device, computed_in(checkpoint.config)
        self._numbers = [n for n, sample in enumerate(calibration.samples) if sample.pictures]
        self._lengths = [self._config.patches * len(calibration.samples[n].pictures) for n in self._numbers]
        with torch.device("meta"):
            self._visual = VisionTransformer(self._config).eval()

    @property
    def steps(self) -> int:
        """How many steps `look` has."""
        return len(self._numbers) * (1 + self._config.layers)

    def look(self) -> Iterator[int]:
        """All pictures through all blocks; yields, after each sample in each of them, the number of steps that are
        done."""
        self._load(self._visual, "")
        first = self._reached()
        if first is None:
            yield from self._walk(0, None, self._embed)
            first = 0
        blocks = self._visual.transformer.resblocks
        for index in range(first, self._config.layers):
            block, blocks[index] = blocks[index], nn.Identity()  # gone with the next one
            self._load(block, f"{BLOCKS}{index}.")
            with self._open(self._path(index)) as entering:
                yield from self._walk(index + 1, entering, block)
            self._path(index).unlink()

    def of_samples(self) -> Iterator[Tensor | None]:
        """Features [N, Q, C] of the pictures of each sample in turn, once `look` is through; None where it has none."""
        with self._open(self._path(self._config.layers)) as patches:
            for n in range(len(self._calibration.samples)):
                known = n in self._numbers
                yield self._visual.pool_patches(self._read(patches, self._numbers.index(n))) if known else None

    def remove(self) -> None:
        """Removes the files."""
        for path in self._folder.glob(f"{self._stem}-*.bin"):
            path.unlink()

    def _walk(self, number: int, entering: Activations | None, step: Callable[[Tensor], Tensor]) -> Iterator[int]:
        """All pictures through one step of the encoder, into the file of that number."""
        with self._open(self._folder / f"{self._stem}-next.bin") as leaving:
            for k, n in enumerate(self._numbers):
                x = self._pixels(n) if entering is None else self._read(entering, k)
                leaving.write(range(k, k + 1), step(x).flatten(0, 1))
                yield len(self._numbers) * number + k + 1
            leaving.move(self._path(number))

    def _embed(self, pixels: Tensor) -> Tensor:
        return self._visual.embed_patches(pixels)

    def _pixels(self, n: int) -> Tensor:
        return self._calibration.pixels(n, self._config.image_size).to(self._device, self._dtype)

    def _read(self, patches: Activations, k: int) -> Tensor:
        """Patches [N, P, W] of the pictures of a sample."""
        return patches.read(range(k, k + 1)).to(self._dtype).unflatten(0, (-1, self._config.patches))

    def _path(self, index: int) -> Path:
        """What enters the block of that number."""
        return self._folder / f"{self._stem}-{index:02}.bin"

    def _reached(self) -> int | None:
        """The block that an earlier run came to."""
        return max((n for n in range(self._config.layers + 1) if self._path(n).is_file()), default=None)

    def _open(self, path: Path) -> Activations:
        return Activations(path, self._lengths, self._config.width, self._device, self._dtype)

    def _load(self, module: nn.Module, prefix: str) -> None:
        """A block's weights or, for the encoder itself, those outside its blocks."""
        names = [name for name in module.state_dict() if prefix or not name.startswith(BLOCKS)]
        read = {name: self._checkpoint.read_copy(f"{PREFIX}{prefix}{name}", self._dtype) for name in names}
        state = {name: tensor.to(self._device) for name, tensor in read.items()}
        module.load_state_dict(state, assign=True, strict=False)
