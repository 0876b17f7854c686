"""`bellevl models`: what models are here, how large they are and what they need. Reads no weight, imports no torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from bellevl.config import ModelConfig, QuantizationConfig, read_config, read_generation_config
from bellevl.errors import BellevlError

from ..running import preflight, session
from ..running.preflight import readable_bytes
from ..screen.clean import clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..settings import choose_model, model_folders, named_models, unfinished_folders
from ..words import cause, say
from . import records

#: The table's columns.
HEAD = ("models.name", "models.kind", "models.disk", "models.memory", "models.error", "models.where")


def run(as_json: bool, names_only: bool, renderer: Renderer | None = None) -> None:
    """Prints every model that has a name, and the one in use where it has none. A broken one is a line, not an end."""
    renderer = renderer or Renderer()
    if names_only:
        for name in named_models():
            renderer.line(clean_line(typed_text(name)))
        return
    found = [model_record(name, folder) for name, folder in _all().items()]
    _mark_in_use(found)
    if as_json:
        renderer.line(json_line(found))
    else:
        for line in table_lines([_head(), *map(_row, found)]):
            renderer.line(line)
    _say_unfinished(renderer)
    if not model_folders() and len(found) == 1:
        renderer.say("models.none", command="bellevl pull")


def model_record(name: str, folder: Path) -> dict[str, Any]:
    """What `--json` prints of a model; `memory_bytes` is for one question, `problem` why it cannot be used."""
    record: dict[str, Any] = {
        "name": clean_line(typed_text(name)),
        "folder": typed_text(str(folder)),
        "embedded": folder == named_models()["nano"],
        "in_use": False,
        "quantization": None,
        "dtype": None,
        "disk_bytes": None,
        "memory_bytes": None,
        "worst_error": None,
        "problem": None,
    }
    try:
        record["disk_bytes"] = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        config, quantization = read_config(folder)
        record["dtype"] = clean_line(config.torch_dtype or "")[:20] or None
        record["quantization"] = None if quantization is None else session.quantization_name(quantization)
        record["memory_bytes"] = needed(folder, config, quantization)
        record["worst_error"] = worst_error(folder)
    except BellevlError as error:
        record["problem"] = cause(error)
    except OSError as error:
        record["problem"] = error.strerror or str(error)
    return record


def needed(folder: Path, config: ModelConfig, quantization: QuantizationConfig | None) -> int:
    """Bytes for the weights and one question with the longest answer that the model gives."""
    picture = 0 if config.visual is None else config.visual.n_queries
    tokens = picture + session.QUESTION_TOKENS + read_generation_config(folder).max_new_tokens
    return preflight.estimate(config, quantization, tokens, "cpu").need


def worst_error(folder: Path) -> float | None:
    """The greatest relative error of a layer that quantizing left; None where no receipt says it."""
    rows = records.read_record(folder / records.RECEIPT).get("layers")
    errors = [row.get("error") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return max((float(error) for error in errors if isinstance(error, (int, float))), default=None)


def _all() -> dict[str, Path]:
    """Models by name, and the one that is chosen where it lies elsewhere."""
    found = named_models()
    try:
        chosen = choose_model(None)
    except BellevlError:
        return found
    if chosen.folder.resolve() not in {folder.resolve() for folder in found.values()}:
        found[chosen.name if chosen.name not in found else str(chosen.folder)] = chosen.folder
    return found


def _mark_in_use(found: list[dict[str, Any]]) -> None:
    """The model that answers when nothing is said; none where that cannot be told."""
    try:
        chosen = choose_model(None).folder.resolve()
    except BellevlError:
        return
    for record in found:
        record["in_use"] = Path(record["folder"]).resolve() == chosen


def _say_unfinished(renderer: Renderer) -> None:
    for folder in unfinished_folders():
        source = records.source_of(folder)
        if source is not None:
            size = readable_bytes(sum(path.stat().st_size for path in folder.iterdir() if path.is_file()))
            name = clean_line(typed_text(folder.stem))
            repo = shlex.quote(source.repo) + ("" if source.hub == "hf" else f" --from {source.hub}")
            renderer.say("models.unfinished", name=name, size=size, repo=repo)


def _head() -> list[str]:
    return [say(message) for message in HEAD]


def _row(record: dict[str, Any]) -> list[str]:
    name, in_use = record["name"], say("models.in_use")
    name += f" ({in_use})" if record["in_use"] else ""
    where = say("models.embedded") if record["embedded"] else clean_line(record["folder"])
    if record["problem"] is not None:
        problem = say("models.broken", reason=clean_line(record["problem"]))
        return [name, "-", "-", "-", "-", f"{where}  {problem}"]
    sizes = [readable_bytes(record[size]) for size in ("disk_bytes", "memory_bytes")]
    error = "-" if record["worst_error"] is None else f"{record['worst_error']:.2g}"
    return [name, record["quantization"] or record["dtype"] or "-", *sizes, error, where]
