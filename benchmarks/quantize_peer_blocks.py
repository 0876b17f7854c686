"""Whole blocks of the 14B's widths through this package's pipeline and through GPTQModel's, side by side.

    make interop                     # once: the environment that has GPTQModel
    python benchmarks/quantize_peer_blocks.py .venv/interop/bin/python [--blocks 2] [--samples 16] [--widths 1]

A checkpoint of that many blocks with random weights and a small vocabulary, without a vision encoder (GPTQModel's class
calibrates text alone), lies on disk. Each tool, in a process of its own, reads it, calibrates on the same ids, and
writes the int4 folder: symmetric, groups of 128, damping 1%, true sequential, each tool's other settings its defaults.
Measured are the seconds from the open folder to the written one, and the most memory the process held (VmHWM).
`--memory 2 8` measures memory alone: one run each for every number of blocks, into quantize_peer_memory.md.
`quantize_peer.py` compares the solver alone, and its error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
VOCABULARY = ROOT / "bellevl" / "nano" / "model" / "qwen.tiktoken"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", nargs="?", type=Path, help="a Python that has gptqmodel")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--widths", type=int, default=1, help="divide the 14B's widths by this, for a trial")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory", type=int, nargs="+", metavar="BLOCKS", help="only memory, for so many blocks")
    parser.add_argument("--child", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work(options.child[0], Path(options.child[1]), options)
    elif options.peer is None:
        print("needs a Python with gptqmodel: make interop, then name .venv/interop/bin/python")
    elif options.memory:
        measure_memory(options)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Both in turn, twice, the faster run of each; writes the result of full widths."""
    from _machine import describe_machine, machine_line, save_result

    machine = describe_machine() | {"torch_threads": options.threads}
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "gptqmodel": []}
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, str(ROOT))
        tokens = write_model(Path(folder), options)
        for _ in range(2):
            for who, python in (("ours", sys.executable), ("gptqmodel", str(options.peer.absolute()))):
                runs[who].append(child(who, python, folder, options))
    best = {who: min(found, key=lambda run: run["seconds"]) for who, found in runs.items()}
    settings = {"blocks": options.blocks, "samples": options.samples, "tokens": tokens, "widths": options.widths}
    record = {"machine": machine, **settings, "best": best, "runs": runs}
    record["load_average_after"] = describe_machine()["load_average"]
    text = table(record, machine_line(machine))
    if options.widths == 1:
        save_result("quantize_peer_blocks", record, text)
    else:
        print(text)


def measure_memory(options: argparse.Namespace) -> None:
    """How the most memory that each holds grows with the model; one run each, so the seconds say little."""
    from _machine import describe_machine, machine_line, save_result

    machine, rows = describe_machine() | {"torch_threads": options.threads}, []
    for blocks in options.memory:
        options.blocks = blocks
        with tempfile.TemporaryDirectory() as folder:
            sys.path.insert(0, str(ROOT))
            tokens = write_model(Path(folder), options)
            float_bytes = sum(path.stat().st_size for path in (Path(folder) / "float").glob("*.safetensors"))
            found = {"ours": child("ours", sys.executable, folder, options)}
            found["gptqmodel"] = child("gptqmodel", str(options.peer.absolute()), folder, options)
        rows.append({"blocks": options.blocks, "tokens": tokens, "float_bytes": float_bytes, **found})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    lines = [
        "# Memory beside GPTQModel",
        "",
        f"`python benchmarks/quantize_peer_blocks.py .venv/interop/bin/python --samples {options.samples} --memory "
        f"{' '.join(map(str, options.memory))}`: blocks of the 14B's widths, {rows[-1]['tokens']} tokens; the most "
        "memory that each process held (VmHWM), GB.",
        "",
        "| blocks | float model | ours | GPTQModel 7.6 | share |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = [row["float_bytes"], row["ours"]["peak_bytes"], row["gptqmodel"]["peak_bytes"]]
        cells = " | ".join(f"{size / 1e9:.2f}" for size in sizes)
        lines.append(f"| {row['blocks']} | {cells} | {sizes[1] / sizes[2]:.2f} |")
    lines += ["", f"Machine: {machine_line(machine)}."]
    save_result("quantize_peer_memory", {"machine": machine, "rows": rows}, "\n".join(lines) + "\n")


def write_model(folder: Path, options: argparse.Namespace) -> int:
    """The float checkpoint and ids.json for both; returns the tokens that calibrate."""
    import torch
    from safetensors.torch import save_file

    from bellevl import load_tokenizer
    from bellevl.config import parse_config
    from bellevl.model import BelleVL

    source = folder / "float"
    source.mkdir()
    heads, mlp = 40 // options.widths, 13_696 // options.widths // 128 * 128
    raw = {
        "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "hidden_size": 128 * heads,
        "num_hidden_layers": options.blocks, "num_attention_heads": heads, "kv_channels": 128,
        "intermediate_size": 2 * mlp, "vocab_size": 2048, "seq_length": 2048, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (source / "config.json").write_text(json.dumps(raw))
    (source / "generation_config.json").write_text(json.dumps({"max_new_tokens": 16}))
    shutil.copy(VOCABULARY, source)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in BelleVL(parse_config(raw, source)).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator, dtype=torch.bfloat16).mul_(0.02)
        weights[name] = drawn + 1 if len(shape) == 1 and "ln_" in name else drawn
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    samples = calibration(load_tokenizer(source), parse_config(raw, source), source, options.samples)
    (folder / "ids.json").write_text(json.dumps([list(sample.ids) for sample in samples]))
    return sum(len(sample.ids) for sample in samples)


def examples(samples: int) -> list[Any]:
    """Pieces of the guide as questions."""
    from bellevl.prompt import Turn
    from quantize.calibration import Example

    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    step = len(text) // samples
    return [Example((Turn(text[n * step : n * step + min(step, 800)]),)) for n in range(samples)]


def calibration(tokenizer: Any, config: Any, folder: Path, samples: int) -> Any:
    """What our pipeline makes of them."""
    from quantize import Recipe
    from quantize.calibration import calibration_set

    return calibration_set(examples(samples), tokenizer, config, folder, Recipe(nsamples=samples)).samples


def child(who: str, python: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [python, str(Path(__file__).resolve()), "--child", who, folder, "--samples", str(options.samples)]
    command += ["--threads", str(options.threads)]
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    environment["GPTQMODEL_CPU_WORKERS"] = str(max(options.threads, 2))  # it does not start with fewer
    shutil.rmtree(Path(folder) / who, ignore_errors=True)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        sys.exit(f"{who}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work(who: str, folder: Path, options: argparse.Namespace) -> None:
    """The measured process: quantizes the folder, prints one line of JSON."""
    import torch

    torch.set_num_threads(options.threads)
    seconds = (by_us if who == "ours" else by_gptqmodel)(folder, folder / who, options.samples)
    written = sum(path.stat().st_size for path in (folder / who).glob("*.safetensors"))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    print(json.dumps({"seconds": seconds, "peak_bytes": 1024 * int(peak[1]) if peak else 0, "bytes": written}))


def by_us(folder: Path, target: Path, samples: int) -> float:
    from quantize import Recipe, quantize

    began = time.perf_counter()
    for _ in quantize(folder / "float", target, Recipe(nsamples=samples), examples(samples)):
        pass
    return time.perf_counter() - began


def by_gptqmodel(folder: Path, target: Path, samples: int) -> float:
    """Its import is not in the time, loading, quantizing and saving are."""
    import torch
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    import bellevl.hf  # noqa: F401 - registers the architecture

    sys.path.insert(0, str(ROOT / "scripts"))
    from interop import teach_replay

    teach_replay()
    ids = json.loads((folder / "ids.json").read_text())
    data = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids]
    config = QuantizeConfig(bits=4, group_size=128, sym=True, damp_percent=0.01)
    began = time.perf_counter()
    model = GPTQModel.load(str(folder / "float"), quantize_config=config, dtype=torch.bfloat16)
    model.quantize(data, batch_size=1, backend=BACKEND.GPTQ_TORCH)
    model.save(str(target))
    return time.perf_counter() - began


def table(record: dict[str, Any], machine: str) -> str:
    """The same as a page."""
    ours, theirs = record["best"]["ours"], record["best"]["gptqmodel"]
    blocks, widths = record["blocks"], "" if record["widths"] == 1 else f" divided by {record['widths']}"
    lines = [
        "# Whole blocks beside GPTQModel",
        "",
        f"`python benchmarks/quantize_peer_blocks.py`: {blocks} blocks of the 14B's widths{widths}, "
        f"{record['samples']} conversations with {record['tokens']} tokens; from the float folder to the int4 folder. "
        "The faster of two runs each.",
        "",
        "| | ours | GPTQModel 7.6 |",
        "|---|---|---|",
        f"| seconds a block | {ours['seconds'] / blocks:.1f} | {theirs['seconds'] / blocks:.1f} |",
        f"| peak memory, GB | {ours['peak_bytes'] / 1e9:.2f} | {theirs['peak_bytes'] / 1e9:.2f} |",
        f"| int4 folder, MB | {ours['bytes'] / 1e6:.0f} | {theirs['bytes'] / 1e6:.0f} |",
        "",
        f"Machine: {machine}; load {record['load_average_after']} after.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
