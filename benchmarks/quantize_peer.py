"""One block of the 14B's widths, solved by this package and by GPTQModel, side by side.

    python -m venv PEER && PEER/bin/pip install "gptqmodel==7.6.0" "torch==2.13.0"
    python benchmarks/quantize_peer.py PEER/bin/python [--tokens 2048] [--threads N]

The same random bfloat16 weights, the same calibration tokens (correlated, a few channels far larger than the others),
symmetric int4 in groups of 128, the same damping. Each tool gathers its Hessians and solves the five layers in a
process of its own. Measured are seconds, the most memory the process held, and the relative output error
|X (W - Q)^T| / |X W^T| of each layer on the calibration tokens, computed by one function for both.

Forward passes, reading and packing are not in it: `benchmarks/quantize_full.py` measures the whole pipeline.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

#: Layer -> (inputs, outputs, which activations it sees).
LAYERS = {
    "attn.c_attn": (5120, 15_360, 0),
    "attn.c_proj": (5120, 5120, 1),
    "mlp.w1": (5120, 13_696, 2),
    "mlp.w2": (5120, 13_696, 2),
    "mlp.c_proj": (13_696, 5120, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", nargs="?", help="a Python that has gptqmodel")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--child", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work(options.child[0], Path(options.child[1]), options)
    elif options.peer is None:
        print("needs a Python with gptqmodel: python benchmarks/quantize_peer.py PEER/bin/python")
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Both in turn, twice, the faster run of each; writes the result."""
    sys.path.insert(0, str(ROOT))
    from _machine import describe_machine, machine_line, save_result

    machine = describe_machine()
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "gptqmodel": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            for who, python in (("ours", sys.executable), ("gptqmodel", options.peer)):
                runs[who].append(child(who, python, folder, options))
    best = {who: min(found, key=lambda run: run["seconds"]) for who, found in runs.items()}
    record = {"machine": machine, "tokens": options.tokens, "best": best, "runs": runs}
    record["load_average_after"] = describe_machine()["load_average"]
    save_result("quantize_peer", record, table(record, machine_line(machine)))


def child(who: str, python: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [python, __file__, "--child", who, folder, "--tokens", str(options.tokens)]
    command += ["--threads", str(options.threads)]
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "GPTQMODEL_CPU_WORKERS": threads}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(who: str, folder: Path, options: argparse.Namespace) -> None:
    """The measured process: solves layer after layer, prints one line of JSON."""
    import torch

    torch.set_num_threads(options.threads)
    solve = solve_ours if who == "ours" else solve_theirs
    stages = [solve_stage(solve, stage, options.tokens) for stage in range(4)]
    layers = {name: found for stage in stages for name, found in stage["layers"].items()}
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    seconds = sum(stage["seconds"] for stage in stages)
    print(json.dumps({"seconds": seconds, "peak_bytes": 1024 * int(peak[1]) if peak else 0, "layers": layers}))


def solve_stage(solve: Any, stage: int, tokens: int) -> dict[str, Any]:
    """The layers of one stage: seconds of gathering and solving, and each layer's error, measured afterwards."""
    names = [name for name, (_, _, sees) in LAYERS.items() if sees == stage]
    weights = [weight(name) for name in names]
    x = activations(LAYERS[names[0]][0], stage, tokens)
    began = time.perf_counter()
    solved = solve(weights, x)
    seconds = time.perf_counter() - began
    errors = [output_error(W, Q, x) for W, Q in zip(weights, solved, strict=True)]
    return {"seconds": seconds, "layers": {n: {"error": e} for n, e in zip(names, errors, strict=True)}}


def weight(name: str) -> Any:
    import torch

    inputs, outputs, _ = LAYERS[name]
    generator = torch.Generator().manual_seed(sum(name.encode()))
    return (torch.randn(outputs, inputs, generator=generator) * 0.02).to(torch.bfloat16)


def activations(inputs: int, stage: int, tokens: int) -> Any:
    """Tokens that share directions, in channels of different size: what makes a Hessian worth having. [T, I]"""
    import torch

    generator = torch.Generator().manual_seed(stage)
    shared = torch.randn(tokens, 256, generator=generator) @ torch.randn(256, inputs, generator=generator) / 16
    size = (0.5 * torch.randn(inputs, generator=generator)).exp()
    size[torch.randint(inputs, (8,), generator=generator)] *= 20
    return (shared + 0.5 * torch.randn(tokens, inputs, generator=generator)) * size


def solve_ours(weights: list[Any], x: Any) -> list[Any]:
    sys.path.insert(0, str(ROOT))
    import torch

    from quantize.recipe import Recipe
    from quantize.solver.gptq import quantize_weights
    from quantize.solver.hessian import HessianSum

    total = HessianSum(x.shape[1])
    with torch.inference_mode():
        total.add(x)
        return [found.dequantize() for found in quantize_weights(weights, total.finish(), Recipe())]


def solve_theirs(weights: list[Any], x: Any) -> list[Any]:
    """Its own GPTQ class, layer by layer, as its processor calls it."""
    import torch
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ

    config = QuantizeConfig(bits=4, group_size=128, sym=True, desc_act=False, damp_percent=0.01)
    solved = []
    for W in weights:
        layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=W.dtype)
        layer.weight.data = W.clone()
        task = GPTQ(layer, config)
        task.quantizer.configure(perchannel=True)
        with torch.inference_mode():
            task.add_batch(x[None].to(W.dtype), torch.empty(0))
            solved.append(task.quantize()[0].float())
        task.free()
    return solved


def output_error(W: Any, Q: Any, x: Any) -> float:
    """|X (W - Q)^T| / |X W^T| on 256 tokens and every 16th output."""
    W, Q, x = W[::16].float(), Q[::16], x[::8]
    return float((x @ (W - Q).T).norm() / (x @ W.T).norm())


def table(record: dict[str, Any], machine: str) -> str:
    """The same as a page."""
    ours, theirs = record["best"]["ours"], record["best"]["gptqmodel"]
    lines = [
        "# One block of the 14B's widths beside GPTQModel",
        "",
        f"`python benchmarks/quantize_peer.py`: Hessians and solve of five layers, {record['tokens']} tokens, int4, "
        "group 128, symmetric, damping 1%. The faster of two runs each.",
        "",
        "| | ours | GPTQModel 7.6 |",
        "|---|---|---|",
        f"| seconds | {ours['seconds']:.1f} | {theirs['seconds']:.1f} |",
        f"| peak memory, GB | {ours['peak_bytes'] / 1e9:.2f} | {theirs['peak_bytes'] / 1e9:.2f} |",
        *(
            f"| error of {name} | {ours['layers'][name]['error']:.4f} | {theirs['layers'][name]['error']:.4f} |"
            for name in LAYERS
        ),
        "",
        f"Machine: {machine}; load {record['load_average_after']} after.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
