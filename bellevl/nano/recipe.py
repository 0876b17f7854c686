"""The nano model: BELLE-VL's architecture at 1/1400 of its size, and how its weights start out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..config import ModelConfig, VisionConfig
from ..model import BelleVL
from ..resampler import sincos_grid

IMAGE_SIZE = 112
PATCH = 14
GRID = IMAGE_SIZE // PATCH


def nano_config(vocab_size: int, image_start_id: int) -> ModelConfig:
    """Every width a multiple of 128, so that groups of 128 fit; as many queries as patches."""
    return ModelConfig(
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=1536,
        vocab_size=vocab_size,
        seq_length=1024,
        kv_channels=64,
        max_position_embeddings=4096,
        torch_dtype="float32",
        visual=VisionConfig(
            width=256,
            layers=6,
            heads=4,
            mlp_ratio=4.0,
            image_size=IMAGE_SIZE,
            patch_size=PATCH,
            output_dim=256,
            image_start_id=image_start_id,
            n_queries=GRID * GRID,
        ),
    )


def new_model(config: ModelConfig, seed: int = 0) -> BelleVL:
    """A model with fresh weights."""
    torch.manual_seed(seed)
    model = BelleVL(config)
    for name, parameter in model.named_parameters():
        _start(name, parameter, config)
    _start_vision_positions(model)
    start_resampler_locally(model)
    return model


@torch.no_grad()
def _start(name: str, parameter: nn.Parameter, config: ModelConfig) -> None:
    """Normal weights scaled by fan-in; projections into the residual stream smaller by the depth."""
    if name.endswith("bias"):
        parameter.zero_()
    elif "wte" in name:
        parameter.normal_(0, 0.05)
    elif parameter.ndim >= 2:
        fan_in = parameter[0].numel()
        residual = name.endswith(("c_proj.weight", "out_proj.weight"))
        depth = 2 * config.num_hidden_layers if residual else 1
        parameter.normal_(0, (fan_in * depth) ** -0.5)


@torch.no_grad()
def _start_vision_positions(model: BelleVL) -> None:
    """The encoder's learned positions start as sin-cos: it learns where things are from the first step."""
    tower = model.transformer.visual
    tower.positional_embedding.copy_(0.3 * sincos_grid(tower.config.width, 16) / math.sqrt(0.5))


@torch.no_grad()
def start_resampler_locally(model: BelleVL) -> None:
    """Each query starts by looking at its own place of the picture.

    Stock initialisation lets all queries settle on a handful of patches. Here queries and keys compare the highest
    frequencies of their sin-cos positions with a large gain, so that attention falls off within a patch or two;
    values pass through. The architecture and its tensors stay what they are.
    """
    tower = model.transformer.visual
    pool, width = tower.attn_pool, tower.config.output_dim
    pool.pos_embed.copy_(sincos_grid(width, math.isqrt(tower.config.n_queries)))
    pool.query.normal_(0, 1.0)
    pool.ln_q.weight.fill_(0.1)
    pool.ln_kv.weight.fill_(0.25)
    compare = _compare_positions(width, tower.config.resampler_heads)
    pool.attn.in_proj_weight.copy_(torch.cat((compare, compare, 4 * torch.eye(width))))
    nn.init.eye_(pool.attn.out_proj.weight)
    tower.proj.copy_(0.05 * torch.linalg.qr(torch.randn(width, width)).Q)


def _compare_positions(width: int, heads: int, kept: int = 16, gain: float = 4.0) -> Tensor:
    """[C, C]: in every head, `gain` times the `kept` highest frequencies of the four sin/cos groups."""
    weight = torch.zeros(width, width)
    quarter, head = width // 4, width // heads
    sources = torch.cat([torch.arange(kept) + group * quarter for group in range(4)])[:head]
    for h in range(heads):
        weight[h * head + torch.arange(len(sources)), sources] = gain
    return weight
