"""A small real checkpoint with random weights, the same every time: for what the program does, not what it says.

Its head prefers Chinese characters and never ends an answer, so an answer is readable and as long as is asked for.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bellevl.config import parse_config
from bellevl.model import BelleVL

#: What it can say: one token each.
CHARACTERS = "一二三四五六七八九十红黄蓝绿白黑大小上下左右山水天地人口手足日月星云风雨花草木石"

CONFIG: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "model_type": "qwen",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 256,
    "vocab_size": 640,
    "seq_length": 256,
    "kv_channels": 128,
    "max_position_embeddings": 65_536,
    "torch_dtype": "float32",
    "visual": {
        "width": 32,
        "layers": 1,
        "heads": 2,
        "mlp_ratio": 2.0,
        "image_size": 56,
        "patch_size": 14,
        "output_dim": 128,
        "n_queries": 4,
    },
}
GENERATION = {"do_sample": True, "top_p": 0.9, "top_k": 0, "max_new_tokens": 24, "max_window_size": 2048}


def ranks() -> list[bytes]:
    """All bytes, the first two bytes of each character, then the characters."""
    characters = [c.encode() for c in CHARACTERS]
    pairs = sorted({c[:2] for c in characters})
    return [bytes([b]) for b in range(256)] + pairs + characters


def write_tiny_checkpoint(folder: Path, **changes: Any) -> Path:
    """Writes the checkpoint into `folder`; `changes` replace keys of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ranks()
    raw = {**CONFIG, **changes}
    if raw["visual"] is not None:
        raw["visual"] = {**raw["visual"], "image_start_id": len(words) + 214}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION), encoding="utf-8")
    lines = (f"{base64.b64encode(word).decode()} {rank}\n" for rank, word in enumerate(words))
    (folder / "qwen.tiktoken").write_text("".join(lines), encoding="ascii")
    save_file(tiny_weights(parse_config(raw, folder / "config.json"), len(words)), folder / "model.safetensors")
    return folder


def tiny_weights(config: Any, words: int) -> dict[str, torch.Tensor]:
    """Random weights by name; the head's rows of everything but characters are zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in BelleVL(config).state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator) * 0.2
        weights[name] = values + 1 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else values
    head = torch.zeros(shapes["lm_head.weight"])
    spoken = slice(words - len(CHARACTERS), words)
    head[spoken] = torch.randn(head[spoken].shape, generator=generator) * 0.5
    weights["lm_head.weight"] = head
    return weights
