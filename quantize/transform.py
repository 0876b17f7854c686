"""Offline rotation: the same function with weights that are easier to round.

The norms' weights move into the linears behind them (then RMSNorm commutes with every orthogonal matrix), the residual
stream is turned by one orthogonal matrix Q, and the values of each head by another. What writes into the stream is
multiplied by Q, what reads from it by Q^T, so they cancel, and outliers of single channels are spread over all of them
(QuaRot, Ashkboos et al., 2404.00456, without its rotations at run time). The result is a plain checkpoint of the
family with norms of ones; running it costs nothing.

Knows neither grids nor files.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bellevl.config import ModelConfig
from bellevl.errors import QuantizeError
from bellevl.layers import RMSNorm
from bellevl.text import Block

from .storage.layout import STAGES

#: Rows that become float32 at a time.
ROWS = 512

#: A Hadamard matrix of a larger power of two is taken apart into factors of this many rows.
FACTOR = 64

#: Tensors outside the blocks whose rows are vectors of the residual stream, before a norm or as they are.
STREAM_ROWS = ("transformer.wte.weight", "transformer.visual.proj", "lm_head.weight")


@dataclass(frozen=True)
class Orthogonal:
    """Q = diag(signs) (F_1 x F_2 x ...) [n, n], a Kronecker product of small orthogonal matrices, in float32.

    A width of m 2^k has a Hadamard matrix of 2^k and, where m > 1 is odd, the Hartley matrix of m, whose entries are
    at most sqrt(2 / m); the signs are drawn.
    """

    signs: Tensor
    factors: tuple[Tensor, ...]

    @classmethod
    def draw(cls, sizes: tuple[int, ...], generator: torch.Generator) -> Orthogonal:
        """For vectors of sizes[0] x sizes[1] x ... numbers, of which only the last ones are mixed with each other;
        every row of the others gets signs of its own."""
        count = math.prod(sizes)
        signs = torch.randint(0, 2, (count,), generator=generator, dtype=torch.int8).float() * 2 - 1
        return cls(signs, _factors(sizes[-1]))

    @property
    def multiplications(self) -> int:
        """Of a number that is turned."""
        return 1 + sum(len(factor) for factor in self.factors)

    def turn(self, x: Tensor) -> Tensor:
        """x Q, rows [R, n], float32."""
        rows = (x.float() * self.signs).reshape(-1, math.prod(len(factor) for factor in self.factors))
        for factor in self.factors:
            # Multiplies the first of the axes and puts it last: after as many steps as axes all are in place.
            rows = (rows.view(len(rows), len(factor), -1).transpose(1, 2) @ factor).reshape(len(rows), -1)
        return rows.view(x.shape)


def _factors(width: int) -> tuple[Tensor, ...]:
    """Orthogonal symmetric matrices whose Kronecker product is as wide as that and mixes evenly."""
    power = width & -width
    odd, sizes = width // power, []
    while power > 1:
        sizes.append(min(power, FACTOR))
        power //= sizes[-1]
    found = [_hadamard(size) for size in sizes]
    return tuple(matrix.float() for matrix in ([_hartley(odd)] if odd > 1 or not found else []) + found)


def _hadamard(size: int) -> Tensor:
    """Sylvester's, for a power of two, of length-1 rows."""
    H = torch.ones((1, 1), dtype=torch.float64)
    while len(H) < size:
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H / size**0.5


def _hartley(size: int) -> Tensor:
    """cos + sin of 2 pi i j / n, of length-1 rows."""
    n = torch.arange(size, dtype=torch.float64)
    angles = (n[:, None] * n).remainder(size) * (2 * math.pi / size)
    return (angles.cos() + angles.sin()) / size**0.5


class Rotation:
    """The rotations of one model, drawn from a seed."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self.residual = Orthogonal.draw((config.hidden_size,), _generator(seed, 0))

    def values(self, index: int) -> Orthogonal:
        """That of the values of block `index`, head by head."""
        heads, width = self._config.num_attention_heads, self._config.kv_channels
        return Orthogonal.draw((heads, width), _generator(self._seed, index + 1))

    def stream(self, x: Tensor) -> Tensor:
        """Vectors of the residual stream [T, C], turned."""
        return self.residual.turn(x)

    def rows(self, name: str, rows: Tensor, last_norm: Tensor) -> Tensor:
        """Some rows of a tensor outside the blocks as the turned model has them; `last_norm` is ln_f's weight."""
        if name == "transformer.ln_f.weight" or _is_norm(name):
            return torch.ones_like(rows)
        if name not in STREAM_ROWS:
            return rows
        before = last_norm.float() if name == "lm_head.weight" else None
        return torch.cat([self._read(part, before) for part in rows.split(ROWS)])

    def block(self, block: Block, index: int) -> None:
        """Turns the weights of block `index` in place, in the dtype they are stored in."""
        weights = {layer: _tensor(block, f"{layer}.weight") for stage in STAGES for layer in stage}
        self.readers(block.ln_1, weights["attn.c_attn"])
        self.readers(block.ln_2, weights["mlp.w1"], weights["mlp.w2"])
        values = self.values(index)
        self._turn_values(weights["attn.c_attn"], _tensor(block, "attn.c_attn.bias"), values)
        _change_rows(weights["attn.c_proj"], values.turn)
        for writer in ("attn.c_proj", "mlp.c_proj"):
            _change_rows(weights[writer].T, self.residual.turn)

    def readers(self, norm: RMSNorm, *weights: Tensor) -> None:
        """Turns, in place, the weights of linears that read from the stream behind `norm`, whose own are ones then."""
        for weight in weights:
            _change_rows(weight, functools.partial(self._read, norm=norm.weight))
        norm.weight = nn.Parameter(torch.ones_like(norm.weight), requires_grad=False)

    def _read(self, rows: Tensor, norm: Tensor | None) -> Tensor:
        """Weights of a linear that reads from the stream, behind a norm of weight `norm`."""
        return self.residual.turn(rows.float() if norm is None else rows.float() * norm)

    def _turn_values(self, weight: Tensor, bias: Tensor, values: Orthogonal) -> None:
        """c_attn gives [q ; k ; v]: the outputs that are v."""
        first = 2 * self._config.hidden_size
        _change_rows(weight[first:].T, values.turn)
        bias[first:] = values.turn(bias[None, first:])[0]


def check_rotation(config: ModelConfig) -> None:
    """Raises QuantizeError for a model that cannot be turned: one whose head is its embedding, since the last norm's
    weight belongs to the one and not to the other."""
    if config.tie_word_embeddings:
        reason = "and this model's head is its embedding (tie_word_embeddings)"
        raise QuantizeError("quantize.option", name="rotate", value=True, reason=reason)


def _is_norm(name: str) -> bool:
    """Whether a tensor is the weight of a block's norm."""
    parts = name.split(".")
    return parts[:2] == ["transformer", "h"] and parts[3:] in (["ln_1", "weight"], ["ln_2", "weight"])


def _generator(seed: int, number: int) -> torch.Generator:
    """Random numbers of part `number` of a model."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)


def _tensor(block: Block, name: str) -> Tensor:
    """A tensor of a block by its name in it."""
    owner, _, part = name.rpartition(".")
    tensor = getattr(block.get_submodule(owner), part)
    assert isinstance(tensor, Tensor), f"{name} is not a tensor"
    return tensor


def _change_rows(weight: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    """Every row of a weight becomes what `change` makes of it, some at a time."""
    for part in weight.split(ROWS):
        part.copy_(change(part))
