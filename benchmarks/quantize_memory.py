"""Peak memory of quantizing blocks of the 14B's true widths, beside the size of one block in float32.

    python benchmarks/quantize_memory.py [--blocks 2] [--samples 8] [--tokens 256] [--threads N] [--keep FOLDER]

Writes a random checkpoint (hidden 5120, 40 heads, intermediate 27392, a small vocabulary, no vision encoder; 0.6 GB a
block) into a temporary folder, quantizes it in a process of its own, and samples what that process holds (Linux). More
tokens take more time, not more memory: activations lie in a file and are read sample by sample.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CONFIG = {
    "architectures": ["QWenLMHeadModel"],
    "model_type": "qwen",
    "hidden_size": 5120,
    "num_attention_heads": 40,
    "kv_channels": 128,
    "intermediate_size": 27392,
    "vocab_size": 2048,
    "seq_length": 2048,
    "torch_dtype": "bfloat16",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256, help="tokens of each sample")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0: its own choice")
    parser.add_argument("--keep", type=Path, help="folder for the checkpoint and the result, kept afterwards")
    parser.add_argument("--child", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        quantize_and_tell(options)
        return
    if options.keep:
        measure(options.keep, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Makes the checkpoint, quantizes it, writes the result."""
    from _machine import describe_machine, machine_line, save_result

    machine = describe_machine()
    source = write_checkpoint(folder / "float", options.blocks)
    command = [sys.executable, __file__, "--child", str(source), str(folder / "int4")]
    for name in ("blocks", "samples", "tokens", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(options.threads)} if options.threads else {})}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout
    events = [json.loads(child.stdout.readline())]
    sampler = Sampler(child.pid)
    events += [json.loads(line) for line in child.stdout]
    if child.wait():
        sys.exit(f"the quantization ended with status {child.returncode}")
    record = {"machine": machine} | summary(events, sampler, folder, options)
    save_result("quantize_memory", record, table(record, machine_line(machine)))


class Sampler:
    """Reads what a process holds, twenty times a second, until it ends."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self.peak_anonymous = 0
        self._path = Path(f"/proc/{pid}/status")
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                now = held(self._path)
            except OSError:
                return
            self.peak = max(self.peak, now.get("VmHWM", 0))
            self.peak_anonymous = max(self.peak_anonymous, now.get("RssAnon", 0))
            time.sleep(0.05)


def held(status: Path) -> dict[str, int]:
    """Bytes that a process holds now (VmRSS), held at most (VmHWM), and of its own (RssAnon)."""
    found = re.findall(r"(VmRSS|VmHWM|RssAnon):\s+(\d+) kB", status.read_text(encoding="ascii"))
    return {name: 1024 * int(kilobytes) for name, kilobytes in found}


def quantize_and_tell(options: argparse.Namespace) -> None:
    """The measured process: one line of JSON for what it holds at the start and for every step."""
    import torch

    from bellevl.prompt import Turn
    from quantize import Example, Recipe, quantize

    if options.threads:
        torch.set_num_threads(options.threads)
    tell({"stage": "start", "rss": held(Path("/proc/self/status"))["VmRSS"]})
    text = "".join(chr(97 + n * 7 % 26) for n in range(4 * options.tokens))
    examples = [Example((Turn(f"{n} {text}"),)) for n in range(options.samples)]
    recipe = Recipe(nsamples=options.samples, seqlen=options.tokens)
    for step in quantize(*options.child, recipe, examples):
        if step.stage in ("block", "finish"):
            report = step.report.__dict__ if step.report else None
            tell({"stage": step.stage, "block": step.block, "seconds": step.elapsed, "report": report})


def tell(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def write_checkpoint(folder: Path, blocks: int) -> Path:
    """A random checkpoint, one shard a block; weights are scaled so that activations stay finite."""
    import base64

    import torch
    from safetensors.torch import save_file

    from bellevl.config import parse_config
    from bellevl.model import BelleVL

    folder.mkdir(parents=True, exist_ok=True)
    raw = {**CONFIG, "num_hidden_layers": blocks}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    lines = (f"{base64.b64encode(bytes([n])).decode()} {n}\n" for n in range(256))
    (folder / "qwen.tiktoken").write_text("".join(lines), encoding="ascii")
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in BelleVL(parse_config(raw, folder / "config.json")).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    where = {}
    for shard in sorted({shard_of(name) for name in shapes}):
        tensors = {}
        for name in (n for n in shapes if shard_of(n) == shard):
            tensor = torch.randn(shapes[name], generator=generator) * 0.02
            tensors[name] = (tensor + 1 if "ln_" in name else tensor).to(torch.bfloat16)
            where[name] = shard
        save_file(tensors, folder / shard)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def shard_of(name: str) -> str:
    block = re.search(r"\.h\.(\d+)\.", name)
    return f"block-{int(block[1]):02}.safetensors" if block else "rest.safetensors"


def summary(
    events: list[dict[str, Any]], sampler: Sampler, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one run."""
    from bellevl.config import read_config
    from bellevl.sizes import block_linears

    weights = sum(i * o for i, o in block_linears(read_config(folder / "float")[0]).values())
    ends = [event["seconds"] for event in events if event["stage"] == "block" and not event["report"]]
    tokens = options.samples * options.tokens
    return {
        "settings": {"blocks": options.blocks, "samples": options.samples, "tokens": options.tokens},
        "block_float32_bytes": 4 * weights,
        "largest_hessian_bytes": 4 * (CONFIG["intermediate_size"] // 2) ** 2,
        "residual_stream_file_bytes": 4 * tokens * CONFIG["hidden_size"],
        "start_bytes": events[0]["rss"],
        "peak_bytes": sampler.peak,
        "peak_anonymous_bytes": sampler.peak_anonymous,
        "peak_above_start_bytes": sampler.peak - events[0]["rss"],
        "seconds_per_block": [round(b - a, 1) for a, b in zip([0.0, *ends], ends, strict=False)],
        "layers": [event["report"] for event in events if event.get("report")],
    }


def table(record: dict[str, Any], machine: str) -> str:
    """The same as a page."""
    rows = {
        "one block in float32": record["block_float32_bytes"],
        "its largest Hessian (mlp.c_proj, float32)": record["largest_hessian_bytes"],
        "the program before it starts (Python, torch)": record["start_bytes"],
        "**peak resident memory**": record["peak_bytes"],
        "peak above the start": record["peak_above_start_bytes"],
        "of the peak, memory of its own (not mapped files)": record["peak_anonymous_bytes"],
        "residual stream, in a file": record["residual_stream_file_bytes"],
    }
    settings = record["settings"]
    lines = [
        "# Memory of quantizing blocks of the 14B's widths",
        "",
        "`python benchmarks/quantize_memory.py`: hidden 5120, 40 heads, intermediate 27392, random bfloat16 weights, "
        f"{settings['blocks']} blocks, {settings['samples']} samples of {settings['tokens']} tokens.",
        "",
        "| what | GB |",
        "|---|---|",
        *(f"| {name} | {value / 1e9:.2f} |" for name, value in rows.items()),
        "",
        f"Seconds per block: {', '.join(map(str, record['seconds_per_block']))}.",
        "",
        f"Machine: {machine}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
