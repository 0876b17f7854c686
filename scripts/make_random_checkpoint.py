"""Writes a checkpoint of exactly BELLE-VL-14B's tensors with random weights: 917 tensors, 32.3 GB in bfloat16.

    python scripts/make_random_checkpoint.py FOLDER [--blocks 40] [--seed 0] [--shard-gb 4] [--vocabulary qwen.tiktoken]

For measuring what a program needs at full size; it answers nonsense. Weights are scaled like trained ones: rows and
norms differ in size, a few channels are much larger than the rest, output projections shrink with depth, so that
activations stay finite through all blocks.

Drawing 16 billion normal numbers would take longer than writing them. One pool of 64 million is drawn; every tensor
is a stretch of it, from a place of its own, times a scale for each row. No two tensors and no two rows are equal.

Tensors are written piece by piece (0.7 GB of memory). A shard gets its name when it is whole, the index last: the
same command goes on after an interruption and ends with the same bytes.

Without `--vocabulary` a made-up one of the true size is written, which splits text into pairs of bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bellevl.config import parse_config  # noqa: E402
from bellevl.model import BelleVL  # noqa: E402
from quantize.storage.disk import bytes_of, write_json, write_whole  # noqa: E402
from quantize.storage.layout import TensorPlan, natural_key  # noqa: E402
from quantize.storage.shards import INDEX, SINGLE, ShardPlan, plan_shards  # noqa: E402

#: Numbers of the pool: prime, so that no tensor's rows come back at the same place.
POOL = 67_108_859

#: Elements made and written at a time.
PIECE = 1 << 24

#: Ranks of the family's vocabulary; the special tokens follow.
RANKS = 151_643

CONFIG: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "model_type": "qwen",
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "kv_channels": 128,
    "intermediate_size": 27_392,
    "vocab_size": 152_064,
    "seq_length": 2048,
    "max_position_embeddings": 8192,
    "layer_norm_epsilon": 1e-6,
    "rotary_emb_base": 10_000,
    "rotary_pct": 1.0,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "no_bias": True,
    "tie_word_embeddings": False,
    "bf16": True,
    "torch_dtype": "bfloat16",
    "visual": {
        "width": 1664,
        "layers": 48,
        "heads": 16,
        "mlp_ratio": 4.9231,
        "image_size": 448,
        "patch_size": 14,
        "output_dim": 5120,
        "image_start_id": 151_857,
    },
}
GENERATION = {"chat_format": "chatml", "do_sample": True, "top_p": 0.3, "top_k": 0, "max_new_tokens": 512}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, default=40, help="blocks of the language model (the 14B has 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-gb", type=float, default=4.0, help="a shard is not larger, unless one tensor is")
    parser.add_argument("--vocabulary", type=Path, help="a qwen.tiktoken to take instead of a made-up one")
    options = parser.parse_args()
    config = {**CONFIG, "num_hidden_layers": options.blocks}
    write_checkpoint(options.folder, config, options.seed, int(options.shard_gb * 1e9), options.vocabulary)


def write_checkpoint(
    folder: Path, config: dict[str, Any], seed: int = 0, shard_bytes: int = 4 * 10**9, vocabulary: Path | None = None
) -> None:
    """Writes what of the checkpoint is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", GENERATION)
    ranks = vocabulary.read_bytes() if vocabulary else made_up_vocabulary(config)
    write_whole(folder / "qwen.tiktoken", ranks)
    plans = plan_shards(tensors_of(config, folder), shard_bytes)
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)
    began = time.monotonic()
    for plan in plans:
        if is_whole(folder / plan.name, plan):
            continue
        write_shard(folder / plan.name, plan, config, pool, seed)
        print(f"{plan.name}  {plan.size / 1e9:.2f} GB  {time.monotonic() - began:.0f} s", flush=True)
    if plans[0].name != SINGLE:
        weight_map = {tensor.name: plan.name for plan in plans for tensor in plan.tensors}
        total = sum(tensor.nbytes for plan in plans for tensor in plan.tensors)
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    count, size = sum(len(plan.tensors) for plan in plans), sum(plan.size for plan in plans)
    print(f"{folder}: {count} tensors, {size / 1e9:.2f} GB")


def tensors_of(config: dict[str, Any], folder: Path) -> list[TensorPlan]:
    """The checkpoint's tensors, from the model's own definition."""
    with torch.device("meta"):
        state = BelleVL(parse_config(config, folder / "config.json")).state_dict()
    plans = [TensorPlan(name, "BF16", tuple(tensor.shape)) for name, tensor in state.items()]
    return sorted(plans, key=lambda plan: natural_key(plan.name))


def is_whole(path: Path, plan: ShardPlan) -> bool:
    """A shard has its name only when it is whole; one of other settings has another header."""
    if not path.is_file() or path.stat().st_size != plan.size:
        return False
    with path.open("rb") as file:
        return file.read(len(plan.header)) == plan.header


def write_shard(path: Path, plan: ShardPlan, config: dict[str, Any], pool: Tensor, seed: int) -> None:
    """One shard under another name, then under its own."""
    part = path.with_name(path.name + ".part")
    with part.open("wb", buffering=0) as file:
        file.write(plan.header)
        for tensor in sorted(plan.tensors, key=lambda tensor: plan.offsets[tensor.name]):
            assert file.tell() == plan.offsets[tensor.name]
            for piece in random_pieces(tensor, config, pool, seed):
                data = bytes_of(piece)
                while data:
                    data = data[file.write(data) :]
        os.fsync(file.fileno())
    part.replace(path)


def random_pieces(tensor: TensorPlan, config: dict[str, Any], pool: Tensor, seed: int) -> Iterator[Tensor]:
    """The values of a tensor, some rows at a time, in bfloat16."""
    number = int.from_bytes(hashlib.sha256(f"{seed} {tensor.name}".encode()).digest()[:8], "little")
    generator = torch.Generator().manual_seed(number % 2**63)
    rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
    width = math.prod(tensor.shape) // rows
    scale = deviation(tensor, config) * (0.25 * torch.randn(rows, generator=generator)).exp()
    step = max(PIECE // width, 1)
    start = number % POOL
    for first in range(0, rows, step):
        count = min(step, rows - first)
        values = stretch(pool, start + first * width, count * width).view(count, width)
        values = values * scale[first : first + count, None].to(torch.bfloat16)
        yield shaped(values, tensor.name, generator)


def stretch(pool: Tensor, start: int, count: int) -> Tensor:
    """`count` numbers of the pool from `start`, round and round."""
    start %= len(pool)
    pieces = []
    while count:
        pieces.append(pool[start : start + count])
        count -= len(pieces[-1])
        start = 0
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def deviation(tensor: TensorPlan, config: dict[str, Any]) -> float:
    """The standard deviation of a tensor's values, as it is after training of such models."""
    name = tensor.name
    if len(tensor.shape) == 1:
        return 0.3 if "c_attn" in name else 0.02
    if name.endswith("c_proj.weight") and ".visual." not in name:
        return 0.02 / math.sqrt(2 * config["num_hidden_layers"])
    if ".visual." in name:
        return 0.5 / math.sqrt(math.prod(tensor.shape[1:]))
    return 0.02


def shaped(values: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """Norms stand around 1, a few of their channels far above: what makes real activations hard to quantize."""
    if "ln_" not in name or not name.endswith("weight"):
        return values
    values = 1 + 10 * values
    channels = torch.randint(values.shape[1], (6,), generator=generator)
    values[:, channels] *= 8
    return values


def made_up_vocabulary(config: dict[str, Any]) -> bytes:
    """Ranks for all bytes, all pairs of bytes, CJK characters and then words of four letters."""
    count = config["visual"]["image_start_id"] - 214 if config.get("visual") else min(RANKS, config["vocab_size"] - 256)
    single = [bytes([n]) for n in range(256)]
    pairs = (bytes(pair) for pair in itertools.product(range(256), repeat=2))
    characters = (chr(n).encode() for n in range(0x4E00, 0xA000))
    words = (bytes(word) for word in itertools.product(range(97, 123), repeat=4))
    ranks = itertools.islice(itertools.chain(single, pairs, characters, words), count)
    return b"".join(base64.b64encode(word) + f" {rank}\n".encode() for rank, word in enumerate(ranks))


if __name__ == "__main__":
    main()
