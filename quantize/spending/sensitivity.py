"""How far the rounding of each unit alone takes the model's predictions, measured before anything is quantized.

A unit is what is given 4 or 8 bits together: the layers of a block that see the same inputs. Some conversations go
through the float model, and beside them, for every unit, through a variant of it in which only that unit is rounded to
4 bits (to the nearest code, with the recipe's own search of scales: what GPTQ takes off shifts units alike enough to
rank them). A variant is born at its block and goes through the float blocks behind it; at the end stands
KL(float || variant), the mean over the positions whose predictions are ever used, those outside of pictures.

One block is in memory at a time and everything else in a file, in float32: a variant differs from the float model by
less than bfloat16 can hold. After every block the state is on the disk, and a killed measurement goes on from there.
Knows no budget and no result file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bellevl.checkpoint import Checkpoint
from bellevl.config import ModelConfig
from bellevl.errors import QuantizeError
from bellevl.layers import RMSNorm
from bellevl.quantization import HEAD
from bellevl.sizes import block_linears
from bellevl.text import Block

from ..blocks.linears import QuantizedLinear, StoredLinear
from ..blocks.passes import RotaryTables
from ..blocks.reader import BlockReader
from ..calibration import CalibrationSet
from ..prefix import embed_samples
from ..recipe import Recipe
from ..solver.gptq import round_weight
from ..storage.activations import CPU, Activations
from ..storage.disk import write_json
from ..storage.layout import STAGES, block_prefix
from ..transform import Rotation

#: Tokens that are measured on. Every one goes through half the model once for each unit, and the order of the embedded
#: model's units is nearly that of sixteen times as many: rank correlation 0.96 (benchmarks/results/quantize_budget.md).
TOKENS = 512

#: Rows of the head that become float32 at a time, and positions whose predictions are compared at a time.
ROWS = 8192
POSITIONS = 64

FILE = "sensitivity.json"

#: A unit: the full names of its layers.
Layers = tuple[str, ...]


def block_units(index: int, recipe: Recipe) -> list[Layers]:
    """The units of a block, in the order of STAGES; layers that have 8 bits anyway are in none."""
    named = [tuple(block_prefix(index) + layer for layer in stage) for stage in STAGES]
    units = [tuple(layer for layer in unit if layer not in recipe.eight_bits) for unit in named]
    return [unit for unit in units if unit]


def all_units(config: ModelConfig, recipe: Recipe) -> list[Layers]:
    """Those of all blocks, and the head where the recipe gives it 4 bits."""
    units = [unit for index in range(config.num_hidden_layers) for unit in block_units(index, recipe)]
    return [*units, (HEAD,)] if recipe.lm_head_bits == 4 else units


def measured_samples(calibration: CalibrationSet, tokens: int = TOKENS) -> CalibrationSet:
    """The samples, in order, that fit into `tokens`; the shortest where none does."""
    chosen, room = [], tokens
    for sample in calibration.samples:
        if len(sample.ids) <= room:
            chosen.append(sample)
            room -= len(sample.ids)
    return CalibrationSet(tuple(chosen or [min(calibration.samples, key=lambda sample: len(sample.ids))]))


def measuring_bytes(config: ModelConfig, stored: int, tokens: int) -> int:
    """The most memory that measuring holds, of weights stored in `stored` bytes each: a block in float32 and the next
    one, a unit's codes, weights and errors, and the head with three predictions of all tokens."""
    shapes = block_linears(config)
    unit = max(sum(shapes[layer][0] * shapes[layer][1] for layer in stage) for stage in STAGES)
    block = (4 + stored) * sum(i * o for i, o in shapes.values()) + 9 * unit + 4 * 4 * tokens * config.mlp_width
    head = stored * config.vocab_size * config.hidden_size + 4 * (
        ROWS * config.hidden_size + 3 * tokens * config.vocab_size
    )
    return max(block, head)


@dataclass(frozen=True)
class Sensitivity:
    """A measurement of the model in `source`, turned by `rotation` where there is one. `folder` keeps its files, the
    result FILE among them."""

    source: Path
    config: ModelConfig
    recipe: Recipe
    samples: CalibrationSet
    folder: Path
    device: torch.device = CPU
    rotation: Rotation | None = None

    def result(self) -> dict[Layers, float] | None:
        """KL of every unit in nats, block by block; None as long as it is not measured."""
        try:
            found = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return {tuple(unit["layers"]): float(unit["kl"]) for unit in found["units"]}

    def reached(self) -> int | None:
        """The block that an interrupted measurement goes on from; None: it has not begun."""
        for index in range(self.config.num_hidden_layers, -1, -1):
            path = self._path(index)
            if path.is_file() and path.stat().st_size == self._bytes(index):
                return index
        return None

    def run(self) -> Iterator[float]:
        """Measures what is not measured yet. Yields the work done (see `block_work`) since the last time.

        Raises QuantizeError when activations are not finite.
        """
        if self.result() is None:
            yield from self._measure()
        for path in self.folder.glob("measured-*.bin"):
            path.unlink()

    def stream_bytes(self) -> int:
        """The most disk that it takes: the streams before and behind the last block."""
        blocks = self.config.num_hidden_layers
        return self._bytes(blocks) + self._bytes(blocks - 1)

    def block_work(self, index: int) -> float:
        """Multiply-adds of a block; the float stream and all variants so far go through it."""
        weights = sum(i * o for i, o in block_linears(self.config).values())
        # Searching scales takes as long as some hundred tokens.
        return weights * (sum(self.samples.lengths) * float(self._streams(index + 1)) + 400)

    def head_work(self) -> float:
        """Multiply-adds of all predictions."""
        predictions = float(sum(self.samples.lengths)) * (1 + len(all_units(self.config, self.recipe)))
        return predictions * self.config.vocab_size * self.config.hidden_size

    def total_work(self) -> float:
        """Multiply-adds of all of it."""
        return self.head_work() + sum(self.block_work(n) for n in range(self.config.num_hidden_layers))

    def done_work(self) -> float:
        """The part of it that an earlier run did."""
        if self.result() is not None:
            return self.total_work()
        return sum(self.block_work(n) for n in range(self.reached() or 0))

    def _measure(self) -> Iterator[float]:
        first = self.reached()
        if first is None:
            yield from self._embed()
            first = 0
        rotary = RotaryTables(self.config, self.device)
        with BlockReader(self.source, self.config, first, self.device, self.rotation) as reader:
            for index in range(first, self.config.num_hidden_layers):
                yield from self._pass_block(reader.take()[0].float(), index, rotary)
        yield from self._compare()

    def _path(self, index: int) -> Path:
        """What enters a block: the float stream, then the variants in the order in which they were born."""
        return self.folder / f"measured-{index:04}.bin"

    def _streams(self, index: int) -> int:
        """How many streams enter a block."""
        return 1 + sum(len(block_units(n, self.recipe)) for n in range(index))

    def _bytes(self, index: int) -> int:
        return 4 * self.config.hidden_size * sum(self._lengths(index))

    def _lengths(self, index: int) -> list[int]:
        return self.samples.lengths * self._streams(index)

    def _open(self, path: Path, index: int) -> Activations:
        return Activations(path, self._lengths(index), self.config.hidden_size, self.device, torch.float32)

    def _stream(self, number: int) -> range:
        """The samples of the stream of that number, 0: the float model's."""
        count = len(self.samples.samples)
        return range(number * count, (number + 1) * count)

    @torch.inference_mode()
    def _embed(self) -> Iterator[float]:
        with Checkpoint.open(self.source) as checkpoint, self._open(self.folder / "measuring.bin", 0) as stream:
            for _ in embed_samples(checkpoint, self.samples, stream, self.rotation):
                yield 0.0
            stream.move(self._path(0))

    @torch.inference_mode()
    def _pass_block(self, block: Block, index: int, rotary: RotaryTables) -> Iterator[float]:
        """Every stream through a float block, and the block's own variants into being."""
        streams, lengths = self._streams(index), self.samples.lengths
        work = self.block_work(index) / self._streams(index + 1)
        with (
            self._open(self._path(index), index) as entering,
            self._open(self.folder / "measuring.bin", index + 1) as leaving,
        ):
            for number in range(streams):
                out = _through(block, entering.read(self._stream(number)), lengths, rotary)
                self._check(out, index)
                leaving.write(self._stream(number), out)
                yield work
            for number, unit in enumerate(block_units(index, self.recipe), streams):
                with _rounded(block, unit, self.recipe):
                    out = _through(block, entering.read(self._stream(0)), lengths, rotary)
                self._check(out, index)
                leaving.write(self._stream(number), out)
                yield work
            leaving.move(self._path(index + 1))
        self._path(index).unlink()

    @torch.inference_mode()
    def _compare(self) -> Iterator[float]:
        """KL of every variant's predictions, into the result's file."""
        blocks, units = self.config.num_hidden_layers, all_units(self.config, self.recipe)
        step = self.head_work() / (1 + len(units))
        head, used, kls = self._head(), self._used(), []
        with self._open(self._path(blocks), blocks) as streams:
            x = streams.read(self._stream(0))[used]
            float_logits = head(x)
            yield step
            for number in range(1, self._streams(blocks)):
                kls.append(_divergence(float_logits, head(streams.read(self._stream(number))[used])))
                yield step
            if len(kls) < len(units):
                kls.append(_divergence(float_logits, head(x, self.recipe.for_layer(HEAD))))
                yield step
        found = [{"layers": list(unit), "kl": kl} for unit, kl in zip(units, kls, strict=True)]
        write_json(self.folder / FILE, {"tokens": sum(self.samples.lengths), "units": found})

    def _head(self) -> _Head:
        tied = self.config.tie_word_embeddings
        norm = RMSNorm(self.config.hidden_size, self.config.layer_norm_epsilon)
        with Checkpoint.open(self.source) as checkpoint:
            weight = checkpoint.read_copy("transformer.wte.weight" if tied else "lm_head.weight")
            norm.weight.data = checkpoint.read_copy("transformer.ln_f.weight").float()
        if self.rotation is not None:
            self.rotation.readers(norm, weight)
        return _Head(norm.to(self.device), weight.to(self.device))

    def _used(self) -> Tensor:
        """Rows [T] of a stream whose predictions count: outside of pictures, and not a sample's last, whose next
        token nobody knows."""
        weights = self.samples.token_weights(self.config, 0.0) or [torch.ones(n) for n in self.samples.lengths]
        for weight in weights:
            weight[-1] = 0
        return torch.cat(weights).bool().to(self.device)

    def _check(self, out: Tensor, index: int) -> None:
        if not bool(out.sum().isfinite()) and not bool(out.isfinite().all()):
            raise QuantizeError("quantize.not_finite", block=index, layer=STAGES[0][0])


@dataclass(frozen=True)
class _Head:
    """The last norm and the head as it is stored."""

    norm: RMSNorm
    weight: Tensor

    def __call__(self, x: Tensor, rounded: Recipe | None = None) -> Tensor:
        """[T, C] -> logits [T, V] in float32, piece by piece; `rounded`: of the head rounded as this says."""
        x = self.norm(x)
        logits = torch.empty((len(x), len(self.weight)), device=x.device)
        for start in range(0, len(self.weight), ROWS):
            part = slice(start, start + ROWS)
            weight = self.weight[part].float()
            logits[:, part] = F.linear(x, weight if rounded is None else round_weight(weight, rounded).dequantize())
        return logits


def _through(block: Block, x: Tensor, lengths: list[int], rotary: RotaryTables) -> Tensor:
    """The samples of one stream, one after the other [T, C], through a block; they do not see each other."""
    projected = block.attn.c_attn(block.ln_1(x)).split(lengths)
    mixed = torch.cat([block.attn.mix_projected(qkv[None], rotary(len(qkv)))[0] for qkv in projected])
    x = x + block.attn.c_proj(mixed)
    return x + block.mlp(block.ln_2(x))


@contextmanager
def _rounded(block: Block, unit: Layers, recipe: Recipe) -> Iterator[None]:
    """The layers of a unit with every weight at its nearest code meanwhile."""
    names = {name.removeprefix(block_prefix(block.index)): name for name in unit}
    kept = {layer: cast(StoredLinear, block.get_submodule(layer)) for layer in names}
    for layer, module in kept.items():
        weight = round_weight(module.weight, recipe.for_layer(names[layer]))
        _put(block, layer, QuantizedLinear(weight, module.bias, torch.float32))
    try:
        yield
    finally:
        for layer, module in kept.items():
            _put(block, layer, module)


def _put(block: Block, layer: str, module: nn.Module) -> None:
    owner, _, name = layer.rpartition(".")
    setattr(block.get_submodule(owner), name, module)


def _divergence(ours: Tensor, theirs: Tensor) -> float:
    """The mean of KL(ours || theirs) over positions, from logits [T, V]."""
    kls = []
    for p, q in zip(ours.split(POSITIONS), theirs.split(POSITIONS), strict=True):
        p, q = p.log_softmax(-1), q.log_softmax(-1)
        # Rounding can take a divergence of almost nothing below zero.
        kls.append((p.exp() * (p - q)).sum(-1).clamp_(min=0).double())
    return float(torch.cat(kls).mean())
