"""How long a person waits: `bellevl --help`, and the first token of a second picture in a warm process.

    python benchmarks/startup.py [--model DIR] [--runs 20]

Prints a table and writes benchmarks/results/startup.json, with the machine it ran on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "startup.json"
PICTURES = 6
QUESTION = "描述图片"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder; the embedded model without it")
    parser.add_argument("--runs", type=int, default=20, help="runs of bellevl --help")
    arguments = parser.parse_args()
    figures = {
        "help_seconds": summary([time_help() for _ in range(arguments.runs)]),
        "help_with_torch_imported": help_imports_torch(),
        **warm_process(arguments.model),
    }
    record = {"machine": machine(), "runs": arguments.runs, "figures": figures}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:28} {value}")


def time_help() -> float:
    """Seconds of one `bellevl --help`."""
    return timed(lambda: run_cli("--help"))


def help_imports_torch() -> bool:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bellevl_cli", "--help"],
        capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return any(line.rpartition(b"|")[2].strip() == b"torch" for line in done.stderr.splitlines())


def run_cli(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "bellevl_cli", *arguments], capture_output=True, check=True, cwd=ROOT)


def warm_process(model: Path | None) -> dict[str, Any]:
    """Seconds of loading, and from a new picture to the first token: the first time, and later ones."""
    sys.path.insert(0, str(ROOT))
    from PIL import Image

    import bellevl
    from bellevl.nano import folder

    where = model or folder()
    began = time.perf_counter()
    chat = bellevl.Chat(bellevl.load_model(where), bellevl.load_tokenizer(where))
    loading = time.perf_counter() - began
    seconds = []
    for number in range(PICTURES):
        picture = Image.new("RGB", (640, 480), (40 * number, 200 - 30 * number, 90))
        seconds.append(timed(lambda shown=picture: first_token(chat, shown)))  # type: ignore[misc]
    return {
        "load_seconds": round(loading, 3),
        "first_picture_seconds": round(seconds[0], 3),
        "later_picture_seconds": summary(seconds[1:]),
    }


def first_token(chat: Any, picture: Any) -> None:
    """From a question about a new picture to the answer's first piece."""
    pieces = chat.stream(QUESTION, image=picture, greedy=True)
    next(pieces)
    pieces.close()


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {
        "median": round(statistics.median(seconds), 4),
        "least": round(min(seconds), 4),
        "greatest": round(max(seconds), 4),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on; load tells whether it was busy with something else."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": None if load is None else round(load, 1),
    }


if __name__ == "__main__":
    main()
