"""The small files beside the weights: configurations, vocabulary, licences. Knows no tensor."""

from __future__ import annotations

from pathlib import Path

from bellevl.config import read_json

from ..recipe import Recipe
from .disk import write_json, write_whole

#: Larger files are not copied.
LARGEST = 64 * 2**20

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
#: Written anew, or about the source alone: its own figures, and what was said of how it was made.
_WRITTEN = ("config.json", "quantize_config.json", "accuracy.json", "receipt.json", "report.html")


def write_small_files(source: Path, target: Path, recipe: Recipe) -> None:
    """Writes the configurations and copies what else belongs to a model (not its card: that described the source)."""
    for path in sorted(source.iterdir()):
        if _belongs(path):
            write_whole(target / path.name, path.read_bytes())
    if recipe.method != "nf4":  # AutoGPTQ's own file
        write_json(target / "quantize_config.json", recipe.quantize_config())
    config = read_json(source / "config.json")
    config |= {"bf16": False, "fp16": True, "fp32": False, "torch_dtype": "float16"}
    config.pop("dtype", None)
    write_json(target / "config.json", config | {"quantization_config": recipe.quantize_config()})


def _belongs(path: Path) -> bool:
    name = path.name
    if not path.is_file() or name.startswith(".") or name in _WRITTEN or name.upper().startswith("README"):
        return False
    return not name.endswith((*_WEIGHTS, ".index.json")) and path.stat().st_size <= LARGEST
