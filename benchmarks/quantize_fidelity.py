"""How far ways of quantizing take the embedded model from its float original: KL divergence on held-out conversations.

    python benchmarks/quantize_fidelity.py [--source models/nano] [--samples 64] [--peer PEER/bin/python]

Rounding to nearest, NF4 as bitsandbytes stores it (blocks of 64, computed here from its published sixteen values),
the default recipe, and its options one by one; at groups of 128 and at one group for all inputs. With `--peer` (a
Python that has gptqmodel) also GPTQModel's solver: it gets our calibration, our order of layers with quantized inputs
upstream, and our Hessians, so that nothing but the solver differs.

All are measured by `bellevl evaluate fidelity` on the same conversations, which calibrate none of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from _machine import describe_machine, machine_line, save_result  # noqa: E402

#: The values of NF4 (Dettmers et al., 2305.14314, appendix E), and the weights that share a scale.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
NF4_BLOCK = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "models" / "nano")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--peer", help="a Python that has gptqmodel")
    parser.add_argument("--child", nargs=2, metavar=("GROUP", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        quantize_with_peer(options.source, Path(options.child[1]), int(options.child[0]))
        return
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(options, Path(folder)))
    record = {"machine": machine, "samples": options.samples, "rows": rows}
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
    for name, group, made in variants(options, folder):
        found = fidelity(options.source, made, conversations, tokenizer)
        row = {"name": name, "group_size": group, **found.record()}
        print(f"{name:40} g{group:4} kl {row['kl_mean']:.5f} top1 {row['top1_agreement']:.4f}", flush=True)
        yield row
        shutil.rmtree(made)


def variants(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, int, Path]]:
    """What is compared: its name, its group size and the folder it was made in."""
    from quantize import Recipe, quantize

    yield "NF4 (bitsandbytes' values)", NF4_BLOCK, write_nf4(options.source, folder / "nf4")
    default = Recipe()
    ways = {
        "round to nearest": replace(default, method="rtn", search_scales=False),
        "round to nearest, scales searched": replace(default, method="rtn"),
        "plain GPTQ (range of weights)": replace(default, search_scales=False),
        "default": default,
        "default, act order": replace(default, desc_act=True),
        "default, layers in parallel": replace(default, true_sequential=False),
        "default, picture tokens x 0.3": replace(default, picture_weight=0.3),
    }
    for group in (128, -1):
        for number, (name, recipe) in enumerate(ways.items()):
            target = folder / f"way{group}-{number}"
            for _ in quantize(options.source, target, replace(recipe, group_size=group)):
                pass
            yield name, group, target
        if options.peer:
            target = folder / f"peer{group}"
            command = [options.peer, __file__, "--source", str(options.source), "--child", str(group), str(target)]
            subprocess.run(command, check=True)
            yield "GPTQModel 7.6's solver, our calibration", group, target


def write_nf4(source: Path, folder: Path) -> Path:
    """A float checkpoint with the weights that NF4 stands for in the layers that int4 replaces."""
    import torch
    from safetensors.torch import load_file, save_file

    from quantize.layout import is_quantized

    folder.mkdir()
    for name in ("generation_config.json", "qwen.tiktoken"):
        shutil.copy(source / name, folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {name: tensor.float() for name, tensor in load_file(source / "model.safetensors").items()}
    values = torch.tensor(NF4)
    for name, tensor in tensors.items():
        if is_quantized(name) and name.endswith(".weight"):
            blocks = tensor.reshape(-1, NF4_BLOCK)
            scale = blocks.abs().amax(1, keepdim=True)
            nearest = torch.bucketize((blocks / scale).contiguous(), (values[1:] + values[:-1]) / 2)
            tensors[name] = (values[nearest] * scale).reshape(tensor.shape)
    save_file(tensors, folder / "model.safetensors")
    return folder


def quantize_with_peer(source: Path, target: Path, group_size: int) -> None:
    """Our pipeline with GPTQModel's solver in it; runs in the peer's Python."""
    import torch
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ

    from quantize import Recipe, block_stream, quantize
    from quantize.gptq import QuantizedWeight
    from quantize.hessian import relative_error

    settings = QuantizeConfig(bits=4, group_size=group_size, sym=True, desc_act=False, damp_percent=0.01)

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
        codes = (steps + 8).round_().clamp_(0, 15).to(torch.uint8)
        zeros = torch.full_like(scales, 8).to(torch.uint8)
        found = QuantizedWeight(codes.contiguous(), scales.contiguous(), zeros, g_idx, "gptq", 0.01, 0.0)
        return replace(found, error=relative_error(W, found.dequantize(), H))

    block_stream.quantize_weights = lambda weights, H, recipe: [solve(W, H) for W in weights]  # type: ignore[assignment]
    for _ in quantize(source, target, Recipe(group_size=group_size)):
        pass


def table(record: dict[str, Any], machine: str) -> str:
    """The same as a page; each row beside round to nearest in the same groups."""
    plain = {row["group_size"]: row["kl_mean"] for row in record["rows"] if row["name"] == "round to nearest"}
    lines = [
        "# KL divergence of ways to quantize the embedded model",
        "",
        f"`python benchmarks/quantize_fidelity.py`: {record['samples']} held-out conversations, "
        f"{record['rows'][0]['tokens']} positions; KL(float || int4) in nats.",
        "",
        "| way | group | KL mean | of nearest | KL p99 | same top | KL answers | same top, answers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        answer, base = row["by"]["answer"], plain.get(row["group_size"])
        share = f"{row['kl_mean'] / base:.2f}" if base else "-"
        lines.append(
            f"| {row['name']} | {row['group_size']} | {row['kl_mean']:.5f} | {share} | {row['kl_p99']:.4f} "
            f"| {100 * row['top1_agreement']:.2f}% | {answer['kl_mean']:.5f} | {100 * answer['top1_agreement']:.2f}% |"
        )
    return "\n".join([*lines, "", f"Machine: {machine}."]) + "\n"


if __name__ == "__main__":
    main()
