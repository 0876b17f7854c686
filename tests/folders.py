"""What lies in a folder that a job made, and a job that is stopped on its way."""

from __future__ import annotations

import hashlib
from pathlib import Path

from quantize import Recipe, quantize


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file below a folder but the receipt, which tells times."""
    told = ("receipt.json", "report.html")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in told)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def stop(source: Path, target: Path, recipe: Recipe, steps: int) -> None:
    """A quantization that ends after so many of its steps."""
    job = quantize(source, target, recipe)
    for _ in range(steps):
        next(job)
    job.close()  # type: ignore[attr-defined]
