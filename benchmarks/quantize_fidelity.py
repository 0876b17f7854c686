"""How far ways of quantizing take the embedded model from its float original: KL divergence on held-out conversations.

    python benchmarks/quantize_fidelity.py [--source models/nano] [--samples 64] [--peer PEER/bin/python]

Rounding to nearest, NF4 (`--method nf4`, blocks of 64), the default recipe and the best one; at groups of 128, at one
group for all inputs, and at three bits (codes 0 to 7, stored in the words of four). `--options` adds the recipe's
options one by one. With `--peer` (a Python that has gptqmodel) also GPTQModel's solver: it gets our calibration, our
order of layers with quantized inputs upstream, and our Hessians, so that nothing but the solver differs.

All are measured by `bellevl evaluate fidelity` on the same conversations, which calibrate none of them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from _machine import describe_machine, machine_line, save_result  # noqa: E402

#: Weights that share a scale in NF4.
NF4_BLOCK = 64

#: Bits and group sizes that are compared.
SETTINGS = ((4, 128), (4, -1), (3, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "models" / "nano")
    parser.add_argument("--samples", type=int, default=64, help="conversations that are measured on")
    parser.add_argument("--calibration", type=int, default=128, help="conversations that calibrate")
    parser.add_argument("--seed", type=int, default=0, help="seed of those that calibrate")
    parser.add_argument("--options", action="store_true", help="the recipe's options too")
    parser.add_argument("--peer", help="a Python that has gptqmodel")
    parser.add_argument("--child", nargs=3, metavar=("BITS", "GROUP", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        bits, group, target = options.child
        quantize_with_peer(options, int(bits), int(group), Path(target))
        return
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(options, Path(folder)))
    calibration = {"conversations": options.calibration, "seed": options.seed}
    record = {"machine": machine, "samples": options.samples, "calibration": calibration, "rows": rows}
    save_result("quantize_fidelity", record, table(record, machine_line(machine)))


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """One row for every way."""
    from bellevl.config import read_config
    from bellevl.evaluation.fidelity import Conversation, fidelity
    from bellevl.tokenizer import load_tokenizer
    from quantize.calibration import held_out_set

    config, _ = read_config(options.source)
    tokenizer = load_tokenizer(options.source)
    chosen = held_out_set(tokenizer, config, options.source, options.samples, 1024)
    conversations = [Conversation(sample.ids, sample.pictures) for sample in chosen.samples]
    for name, bits, group, made in variants(options, folder):
        found = fidelity(options.source, made, conversations, tokenizer)
        row = {"name": name, "bits": bits, "group_size": group, **found.record()}
        print(f"{name:40} {bits} bits g{group:4} kl {row['kl_mean']:.5f} top1 {row['top1_agreement']:.4f}", flush=True)
        yield row
        shutil.rmtree(made)


def variants(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, int, int, Path]]:
    """What is compared: its name, its bits and group size, and the folder it was made in."""
    from quantize import Recipe, quantize

    for _ in quantize(options.source, folder / "nf4", Recipe(method="nf4")):
        pass
    yield "NF4 (--method nf4)", 4, NF4_BLOCK, folder / "nf4"
    for bits, group in SETTINGS:
        for number, (name, recipe) in enumerate(ways(options).items()):
            target = folder / f"way{bits}-{group}-{number}"
            with codes_of(bits):
                for _ in quantize(options.source, target, replace(recipe, group_size=group)):
                    pass
            yield name, bits, group, target
        if options.peer:
            target = folder / f"peer{bits}-{group}"
            # It writes logs where it is.
            command = [*peer_command(options), "--child", str(bits), str(group), str(target)]
            subprocess.run(command, check=True, cwd=folder)
            yield f"GPTQModel {peer_version(options.peer)}'s solver, our calibration", bits, group, target


def ways(options: argparse.Namespace) -> dict[str, Any]:
    """Name -> recipe."""
    from quantize import Recipe

    default = Recipe(nsamples=options.calibration, seed=options.seed)
    found = {
        "round to nearest": replace(default, method="rtn", search_scales=False),
        "default": default,
        "best (--float-targets)": replace(default, float_targets=True),
    }
    if options.options:
        found |= {
            "round to nearest, scales searched": replace(default, method="rtn"),
            "plain GPTQ (range of weights)": replace(default, search_scales=False, desc_act=False),
            "default without act order": replace(default, desc_act=False),
            "default, layers in parallel": replace(default, true_sequential=False),
            "default, picture tokens x 0.3": replace(default, picture_weight=0.3),
        }
    return found


@contextmanager
def codes_of(bits: int) -> Iterator[None]:
    """Weights are rounded to so many bits meanwhile; the words that hold them stay those of four."""
    from quantize import Recipe

    with mock.patch.object(Recipe, "top", 2**bits - 1):
        yield


def peer_command(options: argparse.Namespace) -> list[str]:
    """This program in the peer's Python, with the same calibration."""
    given = {"source": options.source.resolve(), "calibration": options.calibration, "seed": options.seed}
    return [options.peer, str(Path(__file__).resolve()), *(f"--{name}={value}" for name, value in given.items())]


def peer_version(python: str) -> str:
    """The version of gptqmodel in that Python."""
    command = "from importlib.metadata import version; print(version('gptqmodel'))"
    return subprocess.run([python, "-c", command], check=True, capture_output=True, text=True).stdout.strip()


def quantize_with_peer(options: argparse.Namespace, bits: int, group_size: int, target: Path) -> None:
    """Our pipeline with GPTQModel's solver in it; runs in the peer's Python."""
    import torch
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ

    from quantize import Recipe, quantize
    from quantize.blocks import stages
    from quantize.solver.gptq import QuantizedWeight
    from quantize.solver.hessian import relative_error

    # Its own default order of inputs within groups; with a single group it has act order instead.
    single = group_size == -1
    settings = QuantizeConfig(
        bits=bits, group_size=group_size, sym=True, damp_percent=0.01, desc_act=single, act_group_aware=not single
    )
    middle = 2 ** (bits - 1)

    def solve(W: Any, H: Any) -> QuantizedWeight:
        """Its Hessian is gathered from inputs: rows whose products are ours."""
        values, vectors = torch.linalg.eigh(H.double())
        rows = (vectors * values.clamp(min=0).sqrt()).T.float() * len(H) ** 0.5
        layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=torch.float32)
        layer.weight.data = W.float().clone()
        task = GPTQ(layer, settings)
        task.quantizer.configure(perchannel=True)
        task.add_batch(rows[None], torch.empty(0))
        dequantized, scales, _, g_idx = task.quantize()[:4]
        scales, g_idx = scales.T.half(), g_idx.to(torch.int32)
        steps = dequantized.float().T / scales.float()[g_idx.long()]
        codes = (steps + middle).round_().clamp_(0, 2 * middle - 1).to(torch.uint8)
        zeros = torch.full_like(scales, middle).to(torch.uint8)
        found = QuantizedWeight(codes.contiguous(), scales.contiguous(), zeros, g_idx, "gptq", 0.01, 0.0)
        return replace(found, error=relative_error(W, found.dequantize(), H))

    def solve_all(weights: list[Any], H: Any, recipe: Any, drift: Any = None) -> list[QuantizedWeight]:
        return [solve(W, H) for W in weights]

    recipe = Recipe(group_size=group_size, nsamples=options.calibration, seed=options.seed)
    with mock.patch.object(stages, "quantize_weights", solve_all):
        for _ in quantize(options.source, target, recipe):
            pass


def table(record: dict[str, Any], machine: str) -> str:
    """The same as a page; each row beside round to nearest of the same bits and groups."""
    rows, calibration = record["rows"], record["calibration"]
    plain = {setting(row): row["kl_mean"] for row in rows if row["name"] == "round to nearest"}
    lines = [
        "# KL divergence of ways to quantize the embedded model",
        "",
        f"`python benchmarks/quantize_fidelity.py`: {record['samples']} held-out conversations, {rows[0]['tokens']} "
        f"positions; {calibration['conversations']} others calibrate (seed {calibration['seed']}). "
        "KL(float || int4) in nats.",
        "",
        "| way | bits | group | KL mean | of nearest | KL p99 | same top | KL answers | same top, answers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        answer, base = row["by"]["answer"], plain.get(setting(row))
        share = f"{row['kl_mean'] / base:.2f}" if base else "-"
        lines.append(
            f"| {row['name']} | {row['bits']} | {row['group_size']} | {row['kl_mean']:.5f} | {share} "
            f"| {row['kl_p99']:.4f} | {100 * row['top1_agreement']:.2f}% | {answer['kl_mean']:.5f} "
            f"| {100 * answer['top1_agreement']:.2f}% |"
        )
    return "\n".join([*lines, "", f"Machine: {machine}."]) + "\n"


def setting(row: dict[str, Any]) -> tuple[int, int]:
    """Rows of one setting can be compared."""
    return row["bits"], row["group_size"]


if __name__ == "__main__":
    main()
