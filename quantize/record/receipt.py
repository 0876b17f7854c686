"""The receipt of a quantization, receipt.json beside the weights: what was made, from what, how well, at what cost.

Times, memory and the machine stand here and nowhere else, so that two quantizations of the same source with the same
recipe have the same bytes in every other file. Reading it needs no torch. Knows no tensor.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bellevl.config import read_json
from bellevl.errors import CheckpointError
from bellevl.quantization import HEAD

if TYPE_CHECKING:
    import torch

    from ..job import Job
    from ..storage.shards import ShardWriter
    from ..task import Task

FILE = "receipt.json"
REPORT = "report.html"

#: Raised when a reader of the old form would misunderstand the new one.
FORMAT = 1

#: Packages whose versions can change the result.
PACKAGES = ("torch", "numpy", "safetensors", "pillow", "tiktoken")

_HASHED_AT_ONCE = 1 << 22


def make_receipt(task: Task, job: Job, hashes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The receipt of a job whose weights are done. `hashes`: see `hash_files`."""
    from bellevl import __version__

    costs = job.costs
    seconds = {**costs.seconds, "blocks": round(sum(block.wall for block in costs.blocks), 3)}
    return {
        "format": FORMAT,
        "files": hashes,
        "source": source_hashes(task.source),
        "recipe": task.recipe.record(),
        "calibration": {
            "sha256": task.settings["calibration"],
            "samples": len(task.calibration.samples),
            "tokens": sum(task.calibration.lengths),
            "pictures": sum(len(sample.pictures) for sample in task.calibration.samples),
        },
        "layers": [dataclasses.asdict(report) for report in job.reports],
        "units": [dataclasses.asdict(report) for report in task.units],
        "fallbacks": [
            dataclasses.asdict(report)
            for report in job.reports
            if task.recipe.calibrates and (report.method, report.damp_percent) != ("gptq", task.recipe.damp_percent)
        ],
        "cost": {
            "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
            "runs": costs.runs,
            "blocks": [dataclasses.asdict(block) for block in costs.blocks],
            "peak_bytes": max((count for _, count in costs.curve), default=None),
            "device_peak_bytes": costs.device_peak_bytes or None,
            "memory": costs.curve,
        },
        "versions": {"bellevl": __version__, "python": platform.python_version(), **package_versions()},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "instructions": _instructions(),
            "cores": os.cpu_count(),
            "device": _device(task.device),
        },
    }


def write_receipt(folder: Path, receipt: dict[str, Any]) -> None:
    """Writes receipt.json and report.html, the same for people."""
    from ..storage.disk import write_json, write_whole
    from .report import report_page

    write_json(folder / FILE, receipt)
    write_whole(folder / REPORT, report_page(receipt, folder.resolve().name).encode())


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """A folder's receipt, None without one. Raises CheckpointError for one that cannot be understood."""
    path = folder / FILE
    if not path.is_file():
        return None
    receipt = read_json(path)
    wanted = {"format": int, "files": dict, "recipe": dict, "layers": list, "fallbacks": list, "cost": dict}
    if not all(isinstance(receipt.get(key), kind) for key, kind in wanted.items()):
        raise CheckpointError("model.bad_json", path=path, reason="not a receipt")
    if receipt["format"] != FORMAT:
        raise CheckpointError("model.bad_json", path=path, reason=f"format {receipt['format']}, not {FORMAT}")
    return receipt


def headline(receipt: dict[str, Any]) -> dict[str, Any]:
    """The figures that one wants to see first; keys as they stand in `bellevl show --json`."""
    layers = receipt["layers"]
    worst = max(layers, key=lambda layer: layer["error"], default=None)
    return {
        "method": receipt["recipe"].get("method", "gptq"),
        "calibration_samples": receipt.get("calibration", {}).get("samples"),
        "calibration_tokens": receipt.get("calibration", {}).get("tokens"),
        "seconds": receipt["cost"].get("seconds", {}).get("total"),
        "peak_bytes": receipt["cost"].get("peak_bytes"),
        "mean_error": sum(layer["error"] for layer in layers) / len(layers) if layers else None,
        "worst_layer": _layer_name(worst) if worst else None,
        "worst_error": worst["error"] if worst else None,
        "fallbacks": len(receipt["fallbacks"]),
        "kl_mean": receipt.get("fidelity", {}).get("kl_mean"),
        "top1_agreement": receipt.get("fidelity", {}).get("top1_agreement"),
    }


def _layer_name(report: dict[str, Any]) -> str:
    return HEAD if report["layer"] == HEAD else f"h.{report['block']}.{report['layer']}"


def hash_files(writer: ShardWriter, target: Path) -> dict[str, dict[str, Any]]:
    """Every file of the result: bytes and sha256. Weights are still in the job's folder or already in their place."""
    from ..storage.shards import INDEX

    small = (path for path in target.iterdir() if path.is_file() and path.suffix != ".part")
    places = {path.name: path for path in small if path.name not in (FILE, REPORT)}
    for plan in writer.plans:
        moved = target / plan.name
        places[plan.name] = moved if moved.is_file() else writer.folder / plan.name
    hashes = {name: hash_file(path) for name, path in sorted(places.items())}
    if (index := writer.index_bytes()) is not None:
        hashes[INDEX] = {"bytes": len(index), "sha256": hashlib.sha256(index).hexdigest()}
    return hashes


def hash_file(path: Path) -> dict[str, Any]:
    """Bytes and sha256 of a file. Raises CheckpointError when it cannot be read."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while data := file.read(_HASHED_AT_ONCE):
                digest.update(data)
                size += len(data)
    except OSError as error:
        raise CheckpointError("model.damaged_shard", shard=path, reason=error.strerror or error) from error
    return {"bytes": size, "sha256": digest.hexdigest()}


def source_hashes(folder: Path) -> dict[str, Any]:
    """What tells one source from another without reading all of it again: its configuration, and each weight file's
    bytes with the sha256 of its first and last MiB (the first holds the table of its tensors)."""
    from bellevl.checkpoint import Checkpoint

    from ..job import end_digest

    with Checkpoint.open(folder) as checkpoint:
        shards = checkpoint.shards()
    files = {path.name: {"bytes": path.stat().st_size, "ends_sha256": end_digest(path)} for path in shards}
    return {"config_sha256": hashlib.sha256((folder / "config.json").read_bytes()).hexdigest(), "files": files}


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == "model name"), platform.machine())


def _instructions() -> str:
    """What torch computes with ("AVX512"): sums of another kind round differently, and so do then some weights."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def _device(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def package_versions() -> dict[str, str]:
    """Installed versions of what computes."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a build without its metadata
            continue
    return found
