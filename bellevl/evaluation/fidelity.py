"""How far an int4 model's predictions are from those of the float model it was made of.

Both models read the same conversations. At every position the Kullback-Leibler divergence of their predictions for the
next token, KL(float || int4) in nats over the whole vocabulary, whether their likeliest tokens agree, and what each
gives to the token that really follows. Positions fall into three kinds: `picture` (inside a picture's slot), `answer`
(the next token is part of an answer) and `text` (everything else).

The models run side by side, one block of each in memory at a time, in float32: nothing but the weights differs, and a
model that does not fit into memory can be measured. Knows no terminal and no data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..checkpoint import EMBEDDING, Checkpoint, check_tensors, default_dtype, load_part
from ..config import QuantizationConfig
from ..errors import CheckpointError
from ..image import open_picture, preprocess
from ..layers import Rotary, ntk_alpha
from ..model import BelleVL
from ..nf4_linear import Nf4Linear
from ..qlinear import Int4Linear
from ..quantization import HEAD
from ..text import Block
from ..tokenizer import Tokenizer

KINDS = ("text", "picture", "answer")

#: Positions whose predictions are compared at a time, and rows of the head that become float32 at a time.
POSITIONS = 256
ROWS = 16_384

#: Edges of the divergence's histogram: tenths of its logarithm to base ten.
EDGES = tuple(-6 + 0.2 * n for n in range(41))

#: Heard after every step with the share of the work that is done.
Tell = Callable[[float], None]


@dataclass(frozen=True)
class Conversation:
    """One sequence of ids, and a picture for each slot in it."""

    ids: tuple[int, ...]
    pictures: tuple[Path | Image.Image, ...] = ()


@dataclass(frozen=True)
class Figures:
    """Means over positions; `kl_p99` is exceeded by one position in a hundred. Perplexities are of the tokens that
    follow (None where those mean nothing: in a picture)."""

    tokens: int
    kl_mean: float
    kl_p99: float
    top1_agreement: float
    perplexity_float: float | None
    perplexity_int4: float | None


@dataclass(frozen=True)
class Fidelity:
    """Figures of all positions and of each kind. `histogram` counts positions between EDGES of log10(KL)."""

    sequences: int
    all: Figures
    by: dict[str, Figures]
    histogram: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """As JSON has it: the figures of all positions at the top."""
        kinds = {kind: asdict(figures) for kind, figures in self.by.items()}
        return {**asdict(self.all), "sequences": self.sequences, "by": kinds, "histogram": list(self.histogram)}


@torch.inference_mode()
def fidelity(
    reference: Path, other: Path, conversations: Sequence[Conversation], tokenizer: Tokenizer, tell: Tell | None = None
) -> Fidelity:
    """Compares the model in `other` with the one in `reference`. Raises CheckpointError where they do not fit."""
    with ExitStack() as stack:
        opened = [stack.enter_context(Checkpoint.open(folder)) for folder in (reference, other)]
        models = [_Streamed(checkpoint, conversations) for checkpoint in opened]
        _check_pair(models)
        blocks = models[0].checkpoint.config.num_hidden_layers
        for done in _run(models, blocks):
            if tell is not None:
                tell(done)
        columns: list[list[Tensor]] = [[] for _ in range(5)]
        for n, conversation in enumerate(conversations):
            kinds = token_kinds(conversation.ids, tokenizer, models[0].checkpoint)
            for column, values in zip(columns, (*_compare(models, n), kinds[:-1]), strict=True):
                column.append(values)
            if tell is not None:
                tell(0.9 + 0.1 * (n + 1) / len(conversations))
    return _summary([torch.cat(column) for column in columns], len(conversations))


def token_kinds(ids: Sequence[int], tokenizer: Tokenizer, checkpoint: Checkpoint) -> Tensor:
    """The kind of each position, as its index in KINDS [T]. An answer begins after the assistant's header, whose last
    token predicts its first, and ends with the token that ends it."""
    kinds = [KINDS.index("text")] * len(ids)
    visual = checkpoint.config.visual
    header = (tokenizer.im_start_id, *tokenizer.encode("assistant\n"))
    answering = False
    end = 0
    for n, token in enumerate(ids):
        if visual is not None and token == visual.image_start_id:
            end = n + visual.n_queries + 2
        answering = (answering or tuple(ids[n + 1 - len(header) : n + 1]) == header) and token != tokenizer.im_end_id
        kinds[n] = KINDS.index("picture" if n < end else "answer" if answering else "text")
    return torch.tensor(kinds)


class _Streamed:
    """A model of which one block is in memory, and what every conversation has become so far."""

    def __init__(self, checkpoint: Checkpoint, conversations: Sequence[Conversation]) -> None:
        self.checkpoint, self.conversations = checkpoint, conversations
        with torch.device("meta"):
            self.model = BelleVL(checkpoint.config, checkpoint.quantization).eval()
        check_tensors(self.model, checkpoint)
        self.hidden: list[Tensor] = []

    def embed(self) -> None:
        """What enters block 0 of every conversation [T, C]."""
        transformer = self.model.transformer
        # What both models share; in float32 the 14B's would take 11 GB.
        dtype = default_dtype(self.checkpoint.config, torch.device("cpu"))
        load_part(transformer.wte, "transformer.wte", self.checkpoint, dtype)
        visual = self.checkpoint.config.visual
        if visual is not None and any(c.pictures for c in self.conversations):
            load_part(transformer.visual, "transformer.visual", self.checkpoint, dtype)
        for conversation in self.conversations:
            features = None
            if conversation.pictures:
                assert visual is not None, "pictures for a model that does not see"
                pixels = [preprocess(open_picture(p).image, visual.image_size) for p in conversation.pictures]
                features = self.model.encode_images(torch.stack(pixels))
            self.hidden.append(self.model.embed(torch.tensor([conversation.ids]), features)[0].float())
        transformer.wte.to("meta")
        if visual is not None:
            transformer.visual.to("meta")

    def run_block(self, index: int) -> None:
        """Every conversation through one block."""
        block = dense_block(self.checkpoint, index)
        self.hidden = [block(x[None], self._rotary(len(x)))[0] for x in self.hidden]

    def finish(self) -> None:
        """The last norm; the head as it is stored."""
        load_part(self.model.transformer.ln_f, "transformer.ln_f", self.checkpoint, torch.float32)
        self.hidden = [self.model.transformer.ln_f(x) for x in self.hidden]
        config, quantization = self.checkpoint.config, self.checkpoint.quantization
        stored = None if quantization is None else quantization.for_layer(HEAD)
        if stored is None:
            name = EMBEDDING if config.tie_word_embeddings else HEAD
            self._head: Tensor | Int4Linear | Nf4Linear = self.checkpoint.read(f"{name}.weight")
        else:
            self._head = _read_words(self.checkpoint, HEAD, config.hidden_size, config.vocab_size, stored)

    def predictions(self, n: int, positions: slice) -> Tensor:
        """log-probabilities [positions, V]."""
        x = self.hidden[n][positions]
        return torch.cat([F.linear(x, rows) for rows in self._head_rows()], dim=-1).log_softmax(-1)

    def _head_rows(self) -> Iterator[Tensor]:
        """The head's weights in float32, some outputs at a time: all of the 14B's would be 3 GB."""
        if isinstance(self._head, Tensor):
            yield from (rows.float() for rows in self._head.split(ROWS))
        else:
            for start in range(0, self._head.out_features, ROWS):
                yield self._head.dequantize(slice(start, start + ROWS))

    def _rotary(self, tokens: int) -> Rotary:
        config = self.checkpoint.config
        alpha = ntk_alpha(tokens, config.seq_length) if config.use_dynamic_ntk else 1
        return self.model.rotary(torch.arange(tokens), alpha)


def dense_block(checkpoint: Checkpoint, index: int) -> Block:
    """Block `index` in float32, int4 layers expanded to exactly the weights that are stored."""
    with torch.device("meta"):
        block = Block(checkpoint.config, index, _placeholder)
    prefix = f"transformer.h.{index}"
    for name, module in list(block.named_modules()):
        if isinstance(module, nn.Linear):
            owner, _, part = name.rpartition(".")
            setattr(block.get_submodule(owner), part, _dense_linear(checkpoint, f"{prefix}.{name}", module))
        elif not list(module.children()):
            load_part(module, f"{prefix}.{name}", checkpoint, torch.float32)
    return block.eval()


def _placeholder(name: str, in_features: int, out_features: int, bias: bool) -> nn.Module:
    return nn.Linear(in_features, out_features, bias)


def _dense_linear(checkpoint: Checkpoint, name: str, like: nn.Linear) -> nn.Linear:
    stored = None if checkpoint.quantization is None else checkpoint.quantization.for_layer(name)
    if stored is None:
        load_part(like, name, checkpoint, torch.float32)
        return like
    words = _read_words(checkpoint, name, like.in_features, like.out_features, stored)
    like.weight = nn.Parameter(words.dequantize(), requires_grad=False)
    bias = words.bias if f"{name}.bias" in checkpoint else None
    like.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)  # type: ignore[assignment]
    return like


def _read_words(
    checkpoint: Checkpoint, name: str, inputs: int, outputs: int, stored: QuantizationConfig
) -> Int4Linear | Nf4Linear:
    """A quantized layer as it is stored."""
    with torch.device("meta"):
        words: Int4Linear | Nf4Linear
        if stored.method == "nf4":
            words = Nf4Linear(inputs, outputs, f"{name}.bias" in checkpoint, stored.double_quant)
        else:
            words = Int4Linear(inputs, outputs, stored)
    for part in [part for part, _ in words.named_buffers(recurse=False) if f"{name}.{part}" in checkpoint]:
        words._buffers[part] = checkpoint.read(f"{name}.{part}")
    return words


def _check_pair(models: Sequence[_Streamed]) -> None:
    """Both must split text alike and predict the same tokens."""
    one, two = (model.checkpoint for model in models)
    sizes = [(c.config.vocab_size, c.config.num_hidden_layers, c.config.hidden_size) for c in (one, two)]
    ranks = [folder / "qwen.tiktoken" for folder in (one.folder, two.folder)]
    same_text = not all(path.is_file() for path in ranks) or ranks[0].read_bytes() == ranks[1].read_bytes()
    if sizes[0] != sizes[1] or not same_text:
        raise CheckpointError("model.other", one=one.folder, other=two.folder)


def _run(models: Sequence[_Streamed], blocks: int) -> Iterator[float]:
    """Both models up to their heads; yields the share of the work that is done."""
    for model in models:
        model.embed()
        yield 0.05
    for index in range(blocks):
        for model in models:
            model.run_block(index)
        yield 0.05 + 0.85 * (index + 1) / blocks
    for model in models:
        model.finish()


def _compare(models: Sequence[_Streamed], n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of every position of conversation n but the last [T - 1]: KL, agreement, log-probability of what follows."""
    ids = torch.tensor(models[0].conversations[n].ids)
    found = []
    for start in range(0, len(ids) - 1, POSITIONS):
        part = slice(start, min(start + POSITIONS, len(ids) - 1))
        p, q = (model.predictions(n, part) for model in models)
        follows = ids[part.start + 1 : part.stop + 1, None]
        # Rounding can take a divergence of almost nothing below zero.
        kl = (p.exp() * (p - q)).sum(-1).clamp_(min=0)
        found.append((kl, p.argmax(-1) == q.argmax(-1), p.gather(1, follows)[:, 0], q.gather(1, follows)[:, 0]))
    kl, agree, ours, theirs = (torch.cat(column) for column in zip(*found, strict=True))
    return kl, agree, ours, theirs


def _summary(columns: list[Tensor], sequences: int) -> Fidelity:
    kl, agree, ours, theirs, kinds = columns
    seen = kinds != KINDS.index("picture")
    by = {}
    for number, kind in enumerate(KINDS):
        here = kinds == number
        if bool(here.any()):
            by[kind] = _figures(*(column[here] for column in (kl, agree, ours, theirs, seen)))
    counts = torch.histc(kl.clamp(min=1e-12).log10().clamp(EDGES[0], EDGES[-1]), len(EDGES) - 1, EDGES[0], EDGES[-1])
    return Fidelity(sequences, _figures(kl, agree, ours, theirs, seen), by, tuple(int(n) for n in counts))


def _figures(kl: Tensor, agree: Tensor, ours: Tensor, theirs: Tensor, seen: Tensor) -> Figures:
    """`seen`: positions that something of meaning follows."""
    perplexities = [math.exp(-float(column[seen].mean())) if bool(seen.any()) else None for column in (ours, theirs)]
    return Figures(
        tokens=len(kl),
        kl_mean=float(kl.double().mean()),
        kl_p99=float(kl.quantile(0.99)),
        top1_agreement=float(agree.float().mean()),
        perplexity_float=perplexities[0],
        perplexity_int4=perplexities[1],
    )
