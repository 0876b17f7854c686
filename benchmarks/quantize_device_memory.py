"""What a GPU would hold while one block of the 14B is quantized on it: bytes of tensors, counted without a GPU.

    python benchmarks/quantize_device_memory.py [--tokens 2048]

The pipeline runs on a device that torch pretends (tests/pretended_gpu.py): every tensor has its true shape, dtype and
place and no numbers, and every storage on the device is counted from its first use to its end. A card adds what this
cannot see: its context (some hundred megabytes), the workspace of its matrix library and what its allocator keeps.
The block has the true widths; the calibration set is `--tokens` tokens in two conversations, since a job holds one
piece of it at a time, however long it is. Before the blocks, one of the vision encoder's is there at a time.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import pretended_gpu  # noqa: E402
import torch  # noqa: E402
from _machine import save_result  # noqa: E402
from torch import Tensor  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from bellevl.config import ModelConfig, read_config  # noqa: E402
from bellevl.vision import VisionTransformer  # noqa: E402
from quantize.blocks.passes import RotaryTables, Streams  # noqa: E402
from quantize.blocks.stages import quantize_block  # noqa: E402
from quantize.meter import Stopwatch  # noqa: E402
from quantize.recipe import Recipe  # noqa: E402
from quantize.vision import BLOCKS, PictureFeatures  # noqa: E402

RECIPES = {
    "default": Recipe(),
    "--float-targets": Recipe(float_targets=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048, help="of both conversations together")
    parser.add_argument("--widths", type=int, default=1, help="divide the 14B's widths by this, for a trial")
    options = parser.parse_args()
    pretended_gpu.pretend()
    pretended_gpu.TOKENS = options.tokens
    config = full_size(options.widths)
    device, rows = torch.device("gpu"), []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        for name, recipe in RECIPES.items():
            with DeviceBytes() as held:
                at = solve(config, recipe, device, held)
            rows.append({"what": f"a block, {name}", "peak_bytes": held.peak, "at": at})
            print(rows[-1], flush=True)
        with DeviceBytes() as held:
            Looking(config, device).features()
        rows.append({"what": "vision encoder, one picture", "peak_bytes": held.peak, "at": "looking"})
        print(rows[-1], flush=True)
    if options.widths == 1:
        save_result("quantize_device_memory", {"tokens": options.tokens, "rows": rows}, page(options.tokens, rows))


class DeviceBytes(TorchDispatchMode):
    """Counts the storages on the pretended device."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._live: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "gpu":
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._live:
            return
        self._live.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._end, key, storage.nbytes())

    def _end(self, key: int, size: int) -> None:
        self._live.discard(key)
        self.now -= size


def full_size(widths: int) -> ModelConfig:
    """BELLE-VL-14B's shapes."""
    config, _ = read_config(ROOT / "models" / "nano")
    assert config.visual is not None
    visual = replace(
        config.visual, width=1664, layers=48, heads=16, mlp_ratio=4.9231, image_size=448, patch_size=14,
        output_dim=5120, n_queries=256,
    )  # fmt: skip
    return replace(
        config, hidden_size=5120 // widths, num_attention_heads=40 // widths, kv_channels=128,
        intermediate_size=27392 // widths // 256 * 256, visual=visual,
    )  # fmt: skip


def solve(config: ModelConfig, recipe: Recipe, device: torch.device, held: DeviceBytes) -> str:
    """Quantizes a block; returns what was solved when the most was held."""

    def streams(floats: Any = None) -> Any:
        made = [pretended_gpu.Held(width, device) for width in (config.hidden_size, config.hidden_size)]
        return Streams(made[0], made[1], pretended_gpu.Held(config.mlp_width, device), floats)  # type: ignore[arg-type]

    given = streams(streams() if recipe.float_targets else None)
    # In files, not on the device.
    held.now = held.peak = 0
    block = pretended_gpu.make_block(config, device)
    work = quantize_block(block, 0, given, RotaryTables(config, device), recipe, Stopwatch())
    most, at = 0, ""
    for solved in work:
        if held.peak > most:
            most, at = held.peak, solved.layer
    return at if held.peak == most else "the pass that leaves the block"


class Looking(PictureFeatures):
    """One picture, on its way through an encoder without a checkpoint."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        assert config.visual is not None
        self._config, self._device, self._dtype, self._numbers = config.visual, device, torch.bfloat16, [0]
        with torch.device("meta"):
            self._visual = VisionTransformer(config.visual).eval()

    def features(self) -> Tensor:
        """Everything that `look` and `of_samples` do on the device."""
        with mock.patch.object(Path, "unlink"):
            for _ in self.look():
                pass
        return self._visual.pool_patches(self._read(None, 0))

    def _walk(self, number: int, entering: Any, step: Any) -> Iterator[int]:
        side = self._config.image_size
        step(
            torch.empty((1, 3, side, side), dtype=self._dtype, device=self._device)
            if entering is None
            else self._read(None, 0)
        )
        yield number

    def _read(self, patches: Any, k: int) -> Tensor:
        return torch.empty((1, self._config.patches, self._config.width), dtype=self._dtype, device=self._device)

    def _reached(self) -> None:
        return None

    def _open(self, path: Path) -> Any:
        return nullcontext(path)

    def _path(self, index: int) -> Path:
        return Path("patches")

    def _load(self, module: torch.nn.Module, prefix: str) -> None:
        names = {name: x for name, x in module.state_dict().items() if prefix or not name.startswith(BLOCKS)}
        state = {name: torch.empty(x.shape, dtype=self._dtype, device=self._device) for name, x in names.items()}
        module.load_state_dict(state, assign=True, strict=False)


def page(tokens: int, rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Memory on a GPU, counted",
        "",
        "`python benchmarks/quantize_device_memory.py`: bytes of tensors on a pretended device, the 14B's widths, "
        f"pieces of {tokens} tokens. No card was there: its context, workspaces and its allocator's slack come on top.",
        "",
        "| what is on the device | most, GB | reached while |",
        "|---|---|---|",
    ]
    lines += [f"| {row['what']} | {row['peak_bytes'] / 1e9:.2f} | {row['at']} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
