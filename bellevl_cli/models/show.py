"""`bellevl show`: what a model is, from its folder's configuration. Reads no weight and imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bellevl.config import read_json
from bellevl.sizes import cache_bytes, count_parameters, weight_bytes

from .. import guard
from ..options import ModelOptions
from ..preflight import readable_bytes
from ..screen.clean import clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..session import Plan, plan
from ..words import say


def run(model: Path | None, as_json: bool, renderer: Renderer | None = None) -> None:
    """Prints the table, or one JSON object. Raises CheckpointError."""
    guard.install()
    renderer = renderer or Renderer()
    chosen = plan(ModelOptions(model))
    record = model_record(chosen)
    if as_json:
        renderer.line(json_line(record))
        return
    for line in table_lines(_rows(chosen, record)):
        renderer.line(line)


def model_record(chosen: Plan) -> dict[str, Any]:
    """What `--json` prints; sizes in bytes and tokens."""
    config, visual = chosen.config, chosen.config.visual
    parameters = count_parameters(config)
    files = _files(chosen.choice.folder)
    return {
        "name": chosen.choice.name,
        "folder": typed_text(str(chosen.choice.folder)),
        "embedded": chosen.choice.embedded,
        "architecture": _architecture(chosen.choice.folder),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "mlp_width": config.mlp_width,
        "vocab_size": config.vocab_size,
        "parameters": {
            "total": parameters.total,
            "language": parameters.language,
            "vision": parameters.vision,
        },
        "quantization": chosen.quantization_name,
        "dtype": config.torch_dtype,
        "disk_bytes": sum(files.values()),
        "weight_bytes": weight_bytes(config, chosen.quantization),
        "cache_bytes_per_token": cache_bytes(config, 1),
        "context_window": chosen.generation.max_window_size,
        "seq_length": config.seq_length,
        "vision": None
        if visual is None
        else {
            "image_size": visual.image_size,
            "patch_size": visual.patch_size,
            "tokens_per_picture": visual.n_queries,
            "pictures": 1,
        },
        "files": files,
    }


def _rows(chosen: Plan, record: dict[str, Any]) -> list[tuple[str, str]]:
    config, visual = chosen.config, chosen.config.visual
    sizes = say(
        "show.sizes_text", layers=config.num_hidden_layers, hidden=config.hidden_size,
        heads=config.num_attention_heads, mlp=config.mlp_width, vocabulary=config.vocab_size,
    )  # fmt: skip
    counts = {name: readable_count(count) for name, count in record["parameters"].items()}
    vision = say("show.text_only")
    if visual is not None:
        vision = say("show.vision_text", image=visual.image_size, patch=visual.patch_size, tokens=visual.n_queries)
    memory = say(
        "show.memory_text",
        weights=readable_bytes(record["weight_bytes"]),
        cache=readable_bytes(1000 * record["cache_bytes_per_token"]),
    )
    window = say("show.window_text", window=record["context_window"], trained=config.seq_length)
    return [
        (say("show.name"), clean_line(chosen.choice.name)),
        (say("show.folder"), clean_line(record["folder"])),
        (say("show.architecture"), record["architecture"]),
        (say("show.sizes"), sizes),
        (say("show.parameters"), say("show.parameters_text", **counts)),
        (
            say("show.quantization"),
            chosen.quantization_name or say("show.float", dtype=clean_line(config.torch_dtype or "?")),
        ),
        (say("show.disk"), readable_bytes(record["disk_bytes"])),
        (say("show.memory"), memory),
        (say("show.window"), window),
        (say("show.vision"), vision),
        *_file_rows(record["files"]),
    ]


def _file_rows(files: dict[str, int]) -> list[tuple[str, str]]:
    """A row for each file; the first one says what they are."""
    titles = [say("show.files")] + [""] * len(files)
    return [
        (title, f"{name}  {readable_bytes(size)}") for title, (name, size) in zip(titles, files.items(), strict=False)
    ]


def _architecture(folder: Path) -> str:
    """As config.json names it."""
    raw = read_json(folder / "config.json")
    names = raw.get("architectures")
    first = names[0] if isinstance(names, list) and names else raw.get("model_type", "?")
    return clean_line(str(first))[:80]


def _files(folder: Path) -> dict[str, int]:
    """The folder's files and their bytes, in order; folders in it are not the model's."""
    found = sorted(path for path in folder.iterdir() if path.is_file())
    return {clean_line(typed_text(path.name)): path.stat().st_size for path in found}


def readable_count(count: int) -> str:
    """16152325888 -> "16.15 B"."""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return str(count)
