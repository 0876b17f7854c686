"""A model folder on disk: index, shards, lazy tensors, strict load.

Weights go from the shards straight to the device, tensor by tensor: there is never a second full copy in memory.
Nothing in a folder is executed: safetensors are data, `.bin` files are read with `weights_only=True`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from .config import ModelConfig, QuantizationConfig, is_file, read_config, read_generation_config, read_json
from .embedding import MappedEmbedding
from .errors import CheckpointError, DeviceError
from .model import BelleVL
from .nf4_linear import Nf4Linear
from .packed_linear import PackedLinear
from .qlinear import as_stored
from .shard import Shard
from .sizes import count_parameters, mapped_bytes

#: The index and, without one, the files; a folder that has both forms is read in the first.
FORMS = (
    ("model.safetensors.index.json", "*.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model*.bin"),
)

#: Tables that old checkpoints carry and that are recomputed.
IGNORED = re.compile(r"\.(rotary_emb\.inv_freq|masked_bias|attn\.bias)$")

#: The tensor of an int4 layer that takes almost all of its memory, and the products that make something else of it.
WORDS = "qweight"
PASSING = ("int4pack", "int8pack", "dense")

#: How the names of the vision encoder's modules begin.
VISION = ["transformer", "visual"]

#: The table of token embeddings, and a small layer whose words show which version of the format they are.
EMBEDDING = "transformer.wte"
PROBED = "transformer.h.0.attn.c_proj"

#: Below this many bytes in float32, a model on the CPU runs in float32: bf16 gains nothing and costs digits.
SMALL = 1 << 30


class Checkpoint(AbstractContextManager["Checkpoint"]):
    """The tensors of a model folder by name, read when asked for. Use it as a context manager."""

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        quantization: QuantizationConfig | None,
        where: dict[str, str],
    ) -> None:
        self.folder = folder
        self.config = config
        self._declared = quantization
        self._where = where
        self._shards: dict[str, Shard] = {}
        self._stack = ExitStack()

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Reads config and index. Raises CheckpointError when the folder is not a model of the family."""
        folder = Path(folder)
        config, quantization = read_config(folder)
        checkpoint = cls(folder, config, quantization, {})
        try:
            checkpoint._where = _locate(folder, checkpoint._shard)
        except BaseException:
            checkpoint.close()
            raise
        return checkpoint

    @cached_property
    def quantization(self) -> QuantizationConfig | None:
        """How the linears of the language model are stored; None: float.

        The words have the last word: who loads v1 with transformers (optimum) and saves it writes v2 under v1's name.
        """
        return _as_stored(self, self._declared)

    def close(self) -> None:
        """Lets go of the shards."""
        self._shards.clear()
        self._stack.close()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def names(self) -> list[str]:
        """Every tensor's name, without the tables that are recomputed."""
        return [name for name in self._where if not IGNORED.search(name)]

    def shard_of(self, name: str) -> Path:
        """The file that holds `name`."""
        return self.folder / self._where[name]

    def shards(self) -> list[Path]:
        """The files, in order."""
        return [self.folder / name for name in sorted(set(self._where.values()))]

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises CheckpointError when the tensor is missing."""
        return self._holder(name).shape(name)

    def read(self, name: str, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Tensor:
        """The tensor on `device`; floats are cast to `dtype` when it is given. Raises CheckpointError.

        On the CPU and as it is stored, it is the file's own memory map.
        """
        tensor = self._holder(name).read(name)
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        if torch.device(device).type == "cpu" and tensor.dtype == wanted:
            return tensor
        return self.read_copy(name, dtype).to(device)

    def read_copy(
        self, name: str, dtype: torch.dtype | None = None, *, shared: bool = False, rows: range | None = None
    ) -> Tensor:
        """The tensor in memory of its own on the CPU, floats cast to `dtype` when it is given. Raises CheckpointError.

        What is read so leaves no mapped pages behind, which would count as this program's memory. `shared`: good until
        the next tensor is read so. `rows`: no others (the first axis).
        """
        return self._holder(name).read_copy(name, dtype, shared, rows)

    def warm(self, name: str) -> None:
        """Reads the tensor into the system's cache and no further. Raises CheckpointError."""
        self._holder(name).warm(name)

    def keep_shared(self, name: str) -> None:
        """What was read shared last from the file of this tensor stays good for ever."""
        self._holder(name).keep_shared()

    def _holder(self, name: str) -> Shard:
        if name not in self._where:
            raise CheckpointError("model.missing_tensor", folder=self.folder, name=name, count=1)
        shard = self._shard(self._where[name])
        if name not in shard.names:
            raise CheckpointError("model.missing_tensor", folder=shard.path, name=name, count=1)
        return shard

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
            self._shards[name] = Shard(self.folder / name, self._stack)
        return self._shards[name]


def _as_stored(checkpoint: Checkpoint, declared: QuantizationConfig | None) -> QuantizationConfig | None:
    """What is declared, with the version that the words of a small layer show. Damaged ones show nothing: whoever reads
    on will say what is wrong."""
    names = [f"{PROBED}.{part}" for part in ("qweight", "qzeros")]
    layer = None if declared is None else declared.for_layer(PROBED)
    if declared is None or layer is None or not all(name in checkpoint for name in names):
        return declared
    try:
        version = as_stored(layer, *map(checkpoint.read, names)).checkpoint_format
        return replace(declared, checkpoint_format=version)
    except (CheckpointError, RuntimeError):
        return declared


def load_model(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[float], object] | None = None,
    *,
    vision_device: str | torch.device | None = None,
    mapped_embedding: bool = True,
) -> BelleVL:
    """The model in `folder`, float or int4, whichever it holds, in eval mode. `progress` hears how much of it has been
    read, from 0 to 1. `vision_device`: a place of its own for the vision encoder, whose features then travel.
    `mapped_embedding`: a quantized model leaves a large embedding in its file (embedding.py).

    `dtype` None: bfloat16 (float16 on GPUs without it), float32 for a small model on the CPU. Parameters of a float
    model ask for gradients, as in a new one; those of an int4 model do not.
    Raises CheckpointError for a folder that is missing, damaged or not of the family; DeviceError.
    """
    target = check_device(device)
    apart = None if vision_device is None else check_device(vision_device)
    with Checkpoint.open(folder) as checkpoint:
        with torch.device("meta"):
            model = BelleVL(checkpoint.config, checkpoint.quantization)
        check_tensors(model, checkpoint)
        generation = read_generation_config(folder)
        places = Places.of(checkpoint.config, target, apart, dtype)
        total, read = max(sum(tensor.nbytes for tensor in model.state_dict().values()), 1), 0
        for name, module in model.named_modules():
            read += sum(tensor.nbytes for _, tensor in _own_tensors(module))
            device, computed_in = places.of_module(name)
            if name == EMBEDDING and mapped_embedding and mapped_bytes(checkpoint.config, checkpoint.quantization):
                table = checkpoint.read(f"{name}.weight")
                model.transformer.wte = MappedEmbedding(table, device, computed_in)
            else:
                _load_module(name, module, checkpoint, computed_in, device)
            if progress is not None:
                progress(min(read / total, 1.0))
    if checkpoint.config.tie_word_embeddings:
        model.lm_head.weight = model.transformer.wte.weight
    if checkpoint.quantization is not None:
        # int4 products have no backward pass: outside no_grad every layer would be expanded and kept for one
        model.requires_grad_(False)
    model.folder, model.generation, model.vision_place = Path(folder), generation, places.vision
    return model.eval()


@dataclass(frozen=True)
class Places:
    """Device and dtype of a model's weights; `vision` None: the vision encoder is with the language model."""

    language: tuple[torch.device, torch.dtype]
    vision: tuple[torch.device, torch.dtype] | None = None

    @classmethod
    def of(
        cls, config: ModelConfig, device: torch.device, vision: torch.device | None, dtype: torch.dtype | None
    ) -> Places:
        """`vision`: the vision encoder's device, None where nobody said; each device's own dtype unless one is said."""
        language = (device, dtype or default_dtype(config, device))
        if vision is None or vision == device or config.visual is None:
            return cls(language)
        return cls(language, (vision, dtype or default_dtype(config, vision)))

    def of_module(self, name: str) -> tuple[torch.device, torch.dtype]:
        """Where the module called `name` goes, and in what."""
        if self.vision is not None and name.split(".")[:2] == VISION:
            return self.vision
        return self.language


def load_part(
    module: nn.Module, prefix: str, checkpoint: Checkpoint, dtype: torch.dtype, device: str | torch.device = "cpu"
) -> None:
    """Replaces the empty tensors of one part of a model, which the checkpoint knows as `prefix`, by its own.

    For who cannot hold a whole model. Raises CheckpointError.
    """
    for name, part in module.named_modules():
        _load_module(f"{prefix}.{name}" if name else prefix, part, checkpoint, dtype, torch.device(device))


def check_device(device: str | torch.device) -> torch.device:
    """`device` as torch knows it. Raises DeviceError when it is not there."""
    try:
        target = torch.device(device)
    except (RuntimeError, ValueError) as error:
        raise DeviceError("device.unknown", device=device) from error
    if target.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("device.absent", device=device, reason="torch sees no CUDA device")
        if (target.index or 0) >= torch.cuda.device_count():
            raise DeviceError("device.absent", device=device, reason=f"there are {torch.cuda.device_count()}")
    elif target.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device.absent", device=device, reason="torch sees no Metal device")
    elif target.type != "cpu":
        raise DeviceError("device.unknown", device=device)
    return target


def default_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """What to compute in when nobody says."""
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported says yes where bfloat16 is emulated, and asks the current device, not this one
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.float32 if 4 * count_parameters(config).total < SMALL else torch.bfloat16


def _locate(folder: Path, open_shard: Callable[[str], Shard]) -> dict[str, str]:
    """Tensor name -> file name, from the index or, without one, from the files themselves."""
    for index, pattern in FORMS:
        if is_file(folder / index):
            return _read_index(folder / index)
        if files := sorted(folder.glob(pattern)):
            return {tensor: path.name for path in files for tensor in open_shard(path.name).names}
    raise CheckpointError("model.no_weights", folder=folder)


def _read_index(index: Path) -> dict[str, str]:
    """An index's weight_map, every file of it present and inside the folder."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
        raise CheckpointError("model.bad_json", path=index, reason="no weight_map")
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard:
            raise CheckpointError("model.outside", index=index, shard=shard)
        if not is_file(index.parent / shard):
            raise CheckpointError("model.missing_shard", index=index, shard=shard)
    return where


def check_tensors(model: BelleVL, checkpoint: Checkpoint) -> None:
    """Every tensor is there, none is left over and every shape is config.json's, before a byte of weights is read."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    optional = _optional_names(model, checkpoint.config)
    missing = [n for n in expected if n not in checkpoint and n not in optional]
    if missing:
        raise CheckpointError("model.missing_tensor", folder=checkpoint.folder, name=missing[0], count=len(missing))
    extra = [n for n in checkpoint.names() if n not in expected]
    if extra:
        raise CheckpointError("model.extra_tensor", folder=checkpoint.folder, name=extra[0], count=len(extra))
    free = {f"{n}.{part}" for n, m in model.named_modules() if isinstance(m, Nf4Linear) for part in m.any_length}
    for name in checkpoint.names():
        if checkpoint.shape(name) != expected[name] and name not in free:
            raise CheckpointError("model.shape", name=name, found=checkpoint.shape(name), expected=expected[name])


def _optional_names(model: BelleVL, config: ModelConfig) -> set[str]:
    """Tensors a file may leave out: g_idx and bias of an int4 layer, the head of tied embeddings."""
    names = {"lm_head.weight"} if config.tie_word_embeddings else set()
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear):
            names |= {f"{name}.{tensor}" for tensor in module.optional}
    return names


def _load_module(
    prefix: str, module: nn.Module, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device
) -> None:
    """Replaces the module's own empty tensors by the checkpoint's."""
    for name, empty in _own_tensors(module):
        full = f"{prefix}.{name}" if prefix else name
        if full not in checkpoint:
            module._parameters.pop(name, None)
            continue
        if isinstance(module, PackedLinear):  # its words become another form, and then nobody needs them
            tensor = checkpoint.read_copy(full, shared=name == WORDS).to(device)
        else:
            tensor = checkpoint.read(full, dtype, device)
        if isinstance(empty, nn.Parameter):
            if not tensor.is_floating_point():
                found = str(tensor.dtype).removeprefix("torch.")
                raise CheckpointError("model.dtype", name=full, found=found, expected="a float")
            module._parameters[name] = nn.Parameter(tensor, requires_grad=empty.requires_grad)
        else:
            module._buffers[name] = tensor
    if isinstance(module, PackedLinear):
        module.prepare(dtype, prefix)
        if module.choice is not None and module.choice.product not in PASSING and f"{prefix}.{WORDS}" in checkpoint:
            checkpoint.keep_shared(f"{prefix}.{WORDS}")


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from list(module.named_parameters(recurse=False))
    yield from list(module.named_buffers(recurse=False))
