"""Quantizing a checkpoint of the 14B's full size: time of every block by its parts, memory over time, disk.

    python scripts/make_random_checkpoint.py FLOAT
    python benchmarks/quantize_full.py FLOAT INT4 [--samples 16] [--seqlen 512] [--threads N]

Goes on with an interrupted run. Writes results/quantize_full.json and .md from the job's own receipt, with what the
system says of the process beside it (the most memory it ever held), and results/quantize_full.html, the receipt's page
with its plots. Without folders it does nothing: 32 GB are not made unasked.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from _machine import RESULTS, describe_machine, machine_line, save_result  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seqlen", type=int, default=512)
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0: its own choice")
    options = parser.parse_args()
    if options.target is None:
        print("needs a full-size checkpoint: python benchmarks/quantize_full.py FLOAT INT4")
        return
    measure(options)


def measure(options: argparse.Namespace) -> None:
    """Quantizes, prints a line a block, writes the result."""
    import torch

    from quantize import Recipe, quantize

    if options.threads:
        torch.set_num_threads(options.threads)
    machine, disk = describe_machine(), DiskWatch(options.target)
    for step in quantize(options.source, options.target, Recipe(nsamples=options.samples, seqlen=options.seqlen)):
        if step.cost is not None:
            print(f"{step.elapsed:7.0f} s  block {step.cost.block}: {step.cost}", flush=True)
        elif step.stage != "block":
            print(f"{step.elapsed:7.0f} s  {step.stage} {100 * step.fraction:.1f}%", flush=True)
    receipt = json.loads((options.target / "receipt.json").read_text(encoding="utf-8"))
    record = {
        "machine": machine,
        "load_average_after": describe_machine()["load_average"],
        "process_peak_bytes": process_peak(),
        "disk_peak_bytes": disk.stop(),
        "result_bytes": sum(entry["bytes"] for entry in receipt["files"].values()),
        **{key: receipt[key] for key in ("recipe", "calibration", "fallbacks", "cost", "versions")},
    }
    save_result("quantize_full", record, table(record, machine_line(machine)))
    shutil.copyfile(options.target / "report.html", RESULTS / "quantize_full.html")


class DiskWatch:
    """The most bytes that a folder ever held, looked at once a second."""

    def __init__(self, folder: Path) -> None:
        self.peak, self._folder, self._stopped = 0, folder, threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> int:
        self._stopped.set()
        return self.peak

    def _run(self) -> None:
        while not self._stopped.wait(1):
            self.peak = max(self.peak, sum(map(allocated, self._folder.rglob("*"))))


def allocated(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # moved between listing and looking
        return 0


def process_peak() -> int | None:
    """The most memory this process ever held, as Linux counts it."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


def table(record: dict[str, Any], machine: str) -> str:
    """The same as a page."""
    cost, blocks = record["cost"], record["cost"]["blocks"]
    parts = list(blocks[0]["parts"])
    mean = {part: sum(block["parts"].get(part, 0.0) for block in blocks) / len(blocks) for part in parts}
    walls = sorted(block["wall"] for block in blocks)
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in cost["seconds"].items())
    calibration = record["calibration"]
    beyond = record["disk_peak_bytes"] - record["result_bytes"]
    lines = [
        "# Quantizing at the 14B's full size",
        "",
        f"`python benchmarks/quantize_full.py`: random bfloat16 weights of BELLE-VL-14B's shapes, {len(blocks)} "
        f"blocks, calibrated on {calibration['samples']} conversations ({calibration['pictures']} with a picture), "
        f"{calibration['tokens']} tokens. Runs: {cost['runs']}.",
        "",
        "| what | figure |",
        "|---|---|",
        f"| peak resident memory (sampled) | {cost['peak_bytes'] / 1e9:.2f} GB |",
        f"| peak resident memory (VmHWM) | {(record['process_peak_bytes'] or 0) / 1e9:.2f} GB |",
        f"| disk beyond source and result | {max(beyond, 0) / 1e9:.2f} GB |",
        f"| result | {record['result_bytes'] / 1e9:.2f} GB |",
        f"| seconds | {seconds} |",
        f"| seconds a block: least, median, most | {walls[0]:.1f}, {walls[len(walls) // 2]:.1f}, {walls[-1]:.1f} |",
        f"| fallbacks | {len(record['fallbacks'])} |",
        "",
        "| part of a block | mean s |",
        "|---|---|",
        *(f"| {part} | {value:.2f} |" for part, value in mean.items()),
        f"| read (beside the work) | {sum(block['read'] for block in blocks) / len(blocks):.2f} |",
        "",
        f"Machine: {machine}; load {record['load_average_after']} after.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
