"""What changing the weights before they are rounded, without changing the function, is worth: KL divergence.

    python benchmarks/quantize_transforms.py [--source models/nano] [--networks as-trained,aligned,scaled]
                                             [--ways "default,--rotate,--awq-scaling,--rotate --awq-scaling"]

The pipeline's own two changes, each alone and together: `--rotate` (quantize/transform.py) and `--awq-scaling`
(quantize/solver/scaling.py).

Three networks, which are one function (their logits differ by rounding):

    as-trained  the embedded model's float original: no outliers, its largest channel is 2.2 times the median (rms of
                what enters the norms, each token normalised)
    aligned     its residual stream turned into the principal directions of its own activations (32 conversations that
                neither calibrate nor are measured, all norms of all blocks alike): the largest channel is 17 times the
                median, four of 256 carry two fifths of the energy; that few channels are large is reported of large
                models (Dettmers et al., 2208.07339). Nothing in this knows of the changes that are measured
    scaled      8 of 256 outputs of every norm and 24 of 768 channels between w1 and mlp.c_proj times 16, the weights
                behind them divided by it: outliers that scaling can undo exactly, for they were made by its inverse

All are measured against the original on the same held-out conversations, each with two seeds, which choose the
conversations that calibrate and draw the rotation. Rows of networks and ways that are not asked for stay in the
results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from _machine import RESULTS, describe_machine, machine_line, save_result  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from bellevl.checkpoint import load_model  # noqa: E402
from bellevl.config import read_config  # noqa: E402
from bellevl.evaluation.fidelity import Conversation, fidelity  # noqa: E402
from bellevl.tokenizer import load_tokenizer  # noqa: E402
from quantize import Recipe, quantize  # noqa: E402
from quantize.blocks.reader import read_block  # noqa: E402
from quantize.calibration import calibration_set, held_out_set  # noqa: E402
from quantize.storage.layout import block_prefix  # noqa: E402
from quantize.transform import Rotation  # noqa: E402

NAME = "quantize_transforms"
GROUPS = (128, 32, -1)
SEEDS = (0, 1)

#: Seed of the conversations whose principal directions are taken, and of the channels that are scaled.
MAKING_SEED = 99

#: By how much channels of the scaled network are larger, and one in how many is.
FACTOR, ONE_IN = 16.0, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "models" / "nano")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--samples", type=int, default=64, help="conversations that are measured on")
    options = parser.parse_args()
    machine = describe_machine()
    networks, ways = options.networks.split(","), options.ways.split(",")
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in networks for row in measure(options.source, name, ways, options.samples, Path(folder))]
    path = RESULTS / f"{NAME}.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    rows += [row for row in kept if row["way"] in WAYS and (row["network"] not in networks or row["way"] not in ways)]
    rows.sort(key=lambda row: (list(NETWORKS).index(row["network"]), GROUPS.index(row["group_size"]), row["seed"]))
    record = {"machine": machine, "samples": options.samples, "rows": rows}
    save_result(NAME, record, page(record, machine_line(machine)))


def measure(original: Path, name: str, ways: list[str], samples: int, folder: Path) -> Iterator[dict[str, Any]]:
    """These ways of quantizing one network, at every group size, with both seeds."""
    config, _ = read_config(original)
    tokenizer = load_tokenizer(original)
    chosen = held_out_set(tokenizer, config, original, samples, 1024)
    conversations = [Conversation(sample.ids, sample.pictures) for sample in chosen.samples]
    source = folder / name
    NETWORKS[name](original, source)
    same = fidelity(original, source, conversations, tokenizer).all.kl_mean
    for group in GROUPS:
        for seed in SEEDS:
            for way in ways:
                target = folder / "result"
                for _ in quantize(source, target, replace(WAYS[way], group_size=group, seed=seed)):
                    pass
                found = fidelity(original, target, conversations, tokenizer).record()
                del found["histogram"]
                shutil.rmtree(target)
                facts = {"network": name, "group_size": group, "seed": seed, "way": way}
                print(*facts.values(), f"kl {found['kl_mean']:.5f}", flush=True)
                yield {**facts, "kl_of_network": same, **found}


# Networks that are the same function.


def as_trained(source: Path, folder: Path) -> None:
    """The float original."""
    shutil.copytree(source, folder)


def aligned(source: Path, folder: Path) -> None:
    """Its residual stream in the principal directions of its own activations."""
    config, _ = read_config(source)
    directions = principal_directions(source)
    rotation = Rotation(config, 0)
    tensors = load_file(source / "model.safetensors")
    last_norm = tensors["transformer.ln_f.weight"]
    with (
        mock.patch.object(rotation, "residual", _Turn(lambda x: x.float() @ directions)),
        mock.patch.object(rotation, "values", return_value=_Turn(Tensor.float)),
    ):
        # In float32: what is rounded to float16 once more would not be quite the same function.
        wide = {name: tensor.float() for name, tensor in tensors.items()}
        changed = {name: rotation.rows(name, tensor, last_norm) for name, tensor in wide.items()}
        for index in range(config.num_hidden_layers):
            block = read_block(source, config, index).float()
            rotation.block(block, index)
            changed |= {block_prefix(index) + name: tensor for name, tensor in block.state_dict().items()}
    write_float(source, folder, changed)


class _Turn:
    """Stands for an Orthogonal."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        self.turn = turn


@torch.inference_mode()
def principal_directions(source: Path) -> Tensor:
    """Of what enters the norms of all blocks, each token normalised [C, C]: a direction a column, the least first."""
    model = load_model(source)
    config = model.config
    calibration = calibration_set(None, load_tokenizer(source), config, source, Recipe(nsamples=32, seed=MAKING_SEED))
    total = torch.zeros((config.hidden_size, config.hidden_size), dtype=torch.float64)

    def gather(module: object, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0][0].double()
        x = x / x.square().mean(-1, keepdim=True).sqrt()
        total.add_(x.T @ x / len(x))

    for block in model.transformer.h:
        for norm in ("ln_1", "ln_2"):
            block.get_submodule(norm).register_forward_pre_hook(gather)
    for n, sample in enumerate(calibration.samples):
        pixels = calibration.pixels(n, config.visual.image_size) if sample.pictures else None  # type: ignore[union-attr]
        model(torch.tensor([sample.ids]), None if pixels is None else model.encode_images(pixels))
    energy, directions = torch.linalg.eigh(total)
    rms = (energy / total.trace() * len(total)).clamp(min=0).sqrt()
    print(f"aligned: rms of the largest channels {[round(float(r), 2) for r in rms.flip(0)[:4]]}, "
          f"median {float(rms.median()):.2f}")  # fmt: skip
    return directions.float()


def scaled(source: Path, folder: Path) -> None:
    """Some outputs of norms and of w1 times FACTOR, the weights behind them divided by it: powers of two, so nothing
    is lost."""
    config, _ = read_config(source)
    generator = torch.Generator().manual_seed(MAKING_SEED)
    tensors = {name: tensor.float() for name, tensor in load_file(source / "model.safetensors").items()}

    def factors(count: int) -> Tensor:
        found = torch.ones(count)
        found[torch.randperm(count, generator=generator)[: count // ONE_IN]] = FACTOR
        return found

    for index in range(config.num_hidden_layers):
        prefix = block_prefix(index)
        for norm, readers in (("ln_1", ("attn.c_attn",)), ("ln_2", ("mlp.w1", "mlp.w2"))):
            s = factors(config.hidden_size)
            tensors[f"{prefix}{norm}.weight"] *= s
            for reader in readers:
                tensors[f"{prefix}{reader}.weight"] /= s
        s = factors(config.mlp_width)
        tensors[f"{prefix}mlp.w1.weight"] *= s[:, None]
        tensors[f"{prefix}mlp.c_proj.weight"] /= s
    write_float(source, folder, tensors)


def write_float(source: Path, folder: Path, tensors: dict[str, Tensor]) -> None:
    """A float32 checkpoint beside the source's other files."""
    folder.mkdir()
    for name in ("generation_config.json", "qwen.tiktoken"):
        shutil.copy(source / name, folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


NETWORKS: dict[str, Callable[[Path, Path], None]] = {"as-trained": as_trained, "aligned": aligned, "scaled": scaled}


WAYS = {
    "default": Recipe(),
    "--rotate": Recipe(rotate=True),
    "--awq-scaling": Recipe(awq_scaling=True),
    "--rotate --awq-scaling": Recipe(rotate=True, awq_scaling=True),
}


# The page.


def page(record: dict[str, Any], machine: str) -> str:
    rows = record["rows"]
    lines = [
        "# What changing the weights beforehand is worth",
        "",
        f"`python benchmarks/quantize_transforms.py`: 4 bits, {record['samples']} held-out conversations, "
        f"{rows[0]['tokens']} positions, KL(float || int4) in nats; 128 others calibrate. The networks are one "
        f"function (KL to the original at most {max(row['kl_of_network'] for row in rows):.0e}); how they were made "
        "stands at the top of the program.",
        "",
        "| network | group | way | KL seed 0 | change | KL seed 1 | change | KL answers, mean of seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for network in dict.fromkeys(row["network"] for row in rows):
        for group in GROUPS:
            lines += [_line(rows, network, group, way) for way in WAYS]
    return "\n".join([*lines, "", CONCLUSION, "", f"Machine: {machine}."]) + "\n"


def _line(rows: list[dict[str, Any]], network: str, group: int, way: str) -> str:
    cells, answers = [], []
    for seed in SEEDS:
        found = {r["way"]: r for r in rows if (r["network"], r["group_size"], r["seed"]) == (network, group, seed)}
        kl, base = found[way]["kl_mean"], found["default"]["kl_mean"]
        cells += [f"{kl:.5f}", "" if way == "default" else f"{100 * (kl / base - 1):+.1f}%"]
        answers.append(found[way]["by"]["answer"]["kl_mean"])
    return f"| {network} | {group} | {way} | {' | '.join(cells)} | {mean(answers):.5f} |"


CONCLUSION = """\
Rotation takes 7 to 18% off the KL divergence where single channels of the residual stream are large, at every group
size and with both seeds, and more than half of what the scaled network loses, though it cannot reach the channels
before mlp.c_proj. The network as it was trained has no such channels and loses by it, up to 14% with one group for all
inputs. So `--rotate` is an option, and off by default.

Scaling takes 45 to 53% off where channels are loud by a factor of 16, at every group size and with both seeds, and
together with rotation up to 58%. Those outliers were made by its own inverse: that says that it works, not what a
trained model gains by it. On the other two networks hardly a layer takes it, and the result is the default's, bit by
bit or nearly: never worse than it, up to 1.1% better. It takes time, so `--awq-scaling` is an option, and off by
default."""


if __name__ == "__main__":
    main()
