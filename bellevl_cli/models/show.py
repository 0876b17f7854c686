"""`bellevl show`: what a model is, from its folder's files. Reads no weight; asks torch for the int4 product only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bellevl.config import QuantizationConfig, is_file, read_json
from bellevl.errors import CheckpointError
from bellevl.sizes import average_bits, block_linears, cache_bytes, count_parameters, mapped_bytes, weight_bytes

from .. import guard
from ..options import ModelOptions
from ..running.preflight import readable_bytes
from ..running.session import Plan, plan
from ..screen.clean import clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..settings import best_device
from ..words import reason as phrase
from ..words import say
from . import records


def run(model: Path | str | None, as_json: bool, renderer: Renderer | None = None) -> None:
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
    source = records.source_of(chosen.choice.folder)
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
        "average_bits": None if chosen.quantization is None else average_bits(config, chosen.quantization),
        "dtype": config.torch_dtype,
        "disk_bytes": sum(files.values()),
        "weight_bytes": weight_bytes(config, chosen.quantization),
        "mapped_bytes": mapped_bytes(config, chosen.quantization),
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
        "licence": licence(chosen.choice.folder),
        "kernel": None if chosen.quantization is None else _kernel(chosen),
        "chosen_by": chosen.choice.source,
        "source": None if source is None else vars(source),
        "sha256": records.fingerprint(chosen.choice.folder),
        "receipt": _receipt(chosen.choice.folder),
        "files": files,
    }


def licence(folder: Path) -> str | None:
    """What the model's card says of it, else the first line of its licence file; None where neither is there."""
    card = _text(folder / "README.md")
    front = card.split("\n---", 1)[0] if card.startswith("---") else ""
    if found := re.search(r"^license(?:_name)?:\s*[\"']?([^\"'\n]+)", front, re.MULTILINE):
        return clean_line(found[1])[:80]
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        if lines := [clean_line(line) for line in _text(folder / name).splitlines() if line.strip()]:
            return lines[0][:80]
    return None


def _text(path: Path) -> str:
    """The beginning of a text file; "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(20_000).replace("\r\n", "\n").lstrip("\ufeff")
    except OSError:
        return ""


def _kernel(chosen: Plan) -> dict[str, str] | None:
    """The int4 product of the model's largest layers on the device that would be used; None without torch."""
    try:
        import torch

        from bellevl.checkpoint import default_dtype
        from bellevl.kernels import choose
        from bellevl.nf4_linear import choose as choose_nf4

        device = torch.device(chosen.device or best_device())
        stored = chosen.quantization or QuantizationConfig()
        inputs, outputs = max(block_linears(chosen.config).values(), key=lambda sizes: sizes[0] * sizes[1])
        group = inputs if stored.group_size == -1 else stored.group_size
        dtype = default_dtype(chosen.config, device)
        if stored.method == "nf4":
            choice = choose_nf4(device, dtype, inputs, outputs)
        else:
            choice = choose(device, dtype, inputs, outputs, group, stored.bits)
    except (ImportError, OSError, RuntimeError):
        return None
    return {"device": str(device), "product": choice.product, "reason": choice.reason}


def _receipt(folder: Path) -> dict[str, Any] | None:
    """The figures that quantizing left; None without them, or where they are not what they should be."""
    if not is_file(folder / records.RECEIPT):
        return None
    from quantize.record.receipt import headline, read_receipt

    try:
        receipt = read_receipt(folder)
        return None if receipt is None else headline(receipt)
    except (CheckpointError, KeyError, TypeError, AttributeError):
        return None


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
        weights=readable_bytes(record["weight_bytes"] - record["mapped_bytes"]),
        cache=readable_bytes(1000 * record["cache_bytes_per_token"]),
    )
    window = say("show.window_text", window=record["context_window"], trained=config.seq_length)
    return [
        (say("show.name"), clean_line(chosen.choice.name)),
        (say("show.folder"), clean_line(record["folder"])),
        (say("show.architecture"), record["architecture"]),
        (say("show.sizes"), sizes),
        (say("show.parameters"), say("show.parameters_text", **counts)),
        (say("show.quantization"), _quantization(chosen, record)),
        (say("show.disk"), readable_bytes(record["disk_bytes"])),
        (say("show.memory"), memory),
        (say("show.window"), window),
        (say("show.vision"), vision),
        *_more_rows(record),
        *_file_rows(record["files"]),
    ]


def _quantization(chosen: Plan, record: dict[str, Any]) -> str:
    """How the weights are stored; with layers of several kinds also the average of their bits."""
    if chosen.quantization is None:
        return say("show.float", dtype=clean_line(chosen.config.torch_dtype or "?"))
    if not chosen.quantization.rules:
        return chosen.quantization_name or ""
    return say("show.average", name=chosen.quantization_name, bits=f"{record['average_bits']:.2f}")


def _more_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Licence, and what is known of the int4 product, of the download and of the quantization."""
    rows = [(say("show.licence"), record["licence"] or say("show.licence_unknown"))]
    if kernel := record["kernel"]:
        rows.append((say("show.kernel"), f"{kernel['product']}, {kernel['device']} ({phrase(kernel['reason'])})"))
    if source := record["source"]:
        rows.append((say("show.source"), clean_line(f"{source['repo']} {source['commit'][:8]} {source['endpoint']}")))
    if (receipt := record["receipt"]) and receipt["worst_error"] is not None:
        worst = say("show.quality_text", error=f"{receipt['worst_error']:.2g}", layer=receipt["worst_layer"])
        rows.append((say("show.quality"), clean_line(worst)))
    return rows


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
