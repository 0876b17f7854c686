"""Sends one block through the quantizer on a device that torch pretends: shapes and places are real, numbers are not.

Prints a word for every recipe that went through. Run in a process of its own, since a pretended device stays.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

sys.path.insert(0, str(Path(__file__).parents[1]))

from bellevl.config import read_config
from bellevl.text import Block
from quantize.blocks import linears
from quantize.blocks.linears import StoredLinear
from quantize.blocks.passes import RotaryTables, Streams
from quantize.blocks.stages import quantize_block, round_block
from quantize.meter import Stopwatch
from quantize.recipe import Recipe
from quantize.solver import hessian
from quantize.storage.layout import packed_tensors

RECIPES = {
    "default": Recipe(group_size=32),
    "plain": Recipe(group_size=32, desc_act=False),
    "asymmetric": Recipe(group_size=32, sym=False, search_scales=False),
    "one-group": Recipe(group_size=-1),
    "act-order": Recipe(group_size=32, desc_act=True, static_groups=False),
    "at-once": Recipe(group_size=32, true_sequential=False),
    "scaled": Recipe(group_size=32, awq_scaling=True),
}
TOKENS = 48


class Held:
    """Activations that stand in memory; what is written must come from where they are."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.device, self.x = device, torch.randn(TOKENS, width, device=device)

    def spans(self, tokens: int) -> list[range]:
        return [range(2)]

    def read(self, span: range) -> Tensor:
        return self.x

    def write(self, span: range, x: Tensor) -> None:
        assert x.device == self.x.device and x.shape[0] == TOKENS
        self.x = x

    def split(self, span: range, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(TOKENS // 2)


def pretend() -> None:
    """Numbers that nothing is known of become 1 where Python asks for them, and every matrix is positive definite."""
    _setup_privateuseone_for_python_backend("gpu")
    changes: dict[str, Any] = {"__float__": lambda t: 1.0, "__int__": lambda t: 0, "__bool__": lambda t: True}
    for name, value in {**changes, "__index__": lambda t: 0}.items():
        setattr(Tensor, name, value)
    hessian._factorize_corner = lambda corner: (corner.tril(), hessian.invert_triangle(corner, upper=False))
    linears._has_bfloat16 = lambda device: True  # type: ignore[assignment]


def main() -> None:
    config, _ = read_config(Path(__file__).parents[1] / "models" / "nano")
    config = replace(config, hidden_size=64, num_attention_heads=2, kv_channels=32, intermediate_size=128)
    pretend()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        device = torch.device("gpu")
        for name, recipe in RECIPES.items():
            held = [Held(width, device) for width in (config.hidden_size, config.hidden_size, config.mlp_width)]
            streams: Any = Streams(*held)
            weights = [torch.ones(TOKENS // 2)] * 2
            solved = quantize_block(
                make_block(config, device),
                0,
                streams,
                RotaryTables(config, device),
                recipe,
                Stopwatch(),
                weights=weights,
            )
            check([*solved], recipe, device)
            print(name)
        recipe = Recipe(method="rtn", group_size=32, search_scales=False)
        check([*round_block(make_block(config, device), 0, recipe, Stopwatch())], recipe, device)
        print("nearest")


def make_block(config: Any, device: torch.device) -> Block:
    with device:
        block = Block(config, 0, lambda name, *sizes: StoredLinear(*sizes)).eval()
    for layer in block.modules():
        if isinstance(layer, StoredLinear):
            layer.weight = layer.weight.bfloat16()
    return block


def check(solved: list[Any], recipe: Recipe, device: torch.device) -> None:
    """Five layers, solved on the device and packed for the file on the CPU."""
    assert len(solved) == 5
    for layer in solved:
        assert layer.weight.codes.device.type == device.type
        packed = packed_tensors(layer.weight, layer.bias, recipe)
        assert {tensor.device.type for tensor in packed.values()} == {"cpu"}


if __name__ == "__main__":
    main()
