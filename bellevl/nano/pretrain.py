"""Pre-training of the nano model's two towers, which BELLE-VL took from others: no weights can be had at this size.

The vision encoder learns dense targets (what is on each patch, in which colour, where it begins and ends), the
language model the world's sentences. Later the resampler's tokens learn the same targets, each those of its own place
in the grid: values carry no positions in this architecture, so nothing else makes a token say where it looks. The
heads are thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model import BelleVL
from ..tokenizer import Tokenizer
from ..vision import VisionTransformer
from .world import Mix, Scene, draw_scene, names
from .world.targets import n_classes, n_colours, n_scenes, patch_targets

MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))


def normalise(pictures: Tensor) -> Tensor:
    """uint8 [B, S, S, 3] -> the preprocessing's float32 [B, 3, S, S]."""
    return ((pictures.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2).contiguous()


class DenseHead(nn.Module):
    """One linear read-out a token: class, colour, scene, box, centre, own place."""

    sizes = (n_classes, n_colours, n_scenes, 4, 1, 2)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, sum(self.sizes))

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """[B, P, C] -> one tensor a target, each [B, P, size]."""
        return self.head(self.norm(tokens)).float().split(self.sizes, dim=-1)


class DenseVision(nn.Module):
    """The vision encoder under a head on its patches and, where the resampler learns too, one on its tokens."""

    def __init__(self, tower: VisionTransformer, tokens: bool = False) -> None:
        super().__init__()
        self.tower = tower
        self.patches = DenseHead(tower.config.width)
        self.tokens = DenseHead(tower.config.output_dim) if tokens else None
        for module in (tower.attn_pool, tower.ln_post):
            module.requires_grad_(tokens)
        tower.proj.requires_grad = tokens
        tower.attn_pool.pos_embed.requires_grad = False

    def forward(self, pixels: Tensor) -> list[tuple[Tensor, ...]]:
        """[B, 3, S, S] -> the read-outs of the patches and, when they learn, of the tokens."""
        patches = self.tower.encode_patches(pixels)
        if self.tokens is None:
            return [self.patches(patches)]
        return [self.patches(patches), self.tokens(picture_tokens(self.tower, patches))]


def picture_tokens(tower: VisionTransformer, patches: Tensor) -> Tensor:
    """Encoded patches [B, P, W] -> what the language model sees [B, Q, C]."""
    return tower.ln_post(tower.attn_pool(patches)) @ tower.proj


class WordHead(nn.Module):
    """Which words a picture token is nearest to, by the cosine to the language model's own embeddings.

    Where a token lies near the words for what it shows, one rule (look for what is like this word) finds every
    named thing. Without it each name has to learn its own way, and questions about one of several things stay at the
    guess: the answer was that of another thing in nine of ten errors.
    """

    classes: Tensor
    colours: Tensor

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.5))
        nouns = [*names.SHAPES, *names.EMOJI]
        words = [(n.zh, n.en) for n in nouns] + [(c, "") for c in names.CHARACTERS]
        self.register_buffer("classes", _word_shares(words, tokenizer, vocab_size), persistent=False)
        colours = [(c.zh, c.en) for c in names.COLOURS]
        self.register_buffer("colours", _word_shares(colours, tokenizer, vocab_size), persistent=False)

    def forward(self, tokens: Tensor, embeddings: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """tokens [B, P, C], embeddings [V, C] -> the cross entropy over the tokens that show something."""
        likeness = F.normalize(tokens.float(), dim=-1) @ F.normalize(embeddings.float(), dim=-1).T
        wanted = self.classes[batch["classes"]] + self.colours[batch["colours"]]
        each = -(wanted * (likeness * self.scale.exp()).log_softmax(-1)).sum(-1)
        return _mean(each, batch["occupied"].float())


def _word_shares(words: list[tuple[str, str]], tokenizer: Tokenizer, vocab_size: int) -> Tensor:
    """[1 + N, V]: nothing, then for each (Chinese, English) its tokens' shares of one, English at half the weight."""
    table = torch.zeros(1 + len(words), vocab_size)
    for row, (chinese, english) in zip(table[1:], words, strict=True):
        for token in tokenizer.encode(chinese):
            row[token] += 1.0
        for token in tokenizer.encode(f" {english}") if english else []:
            row[token] += 0.5
    return table / table.sum(-1, keepdim=True).clamp(min=1)


def dense_batches(first: int, size: int, mix: Mix, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Batch after batch of drawn scenes and their targets, from number `first` on."""
    number = first
    while True:
        rng = np.random.default_rng((seed, number))
        scenes = [draw_scene(rng, "train", mix=mix) for _ in range(size)]
        yield dense_targets(scenes) | {"pictures": np.stack([np.asarray(scene.picture) for scene in scenes])}
        number += 1


def dense_targets(scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
    """What a head should read from each patch of each scene."""
    targets = [patch_targets(scene) for scene in scenes]
    names = ("classes", "colours", "scene", "boxes", "centre", "occupied")
    return {name: np.stack([np.asarray(getattr(t, name)) for t in targets]) for name in names}


def dense_loss(model: DenseVision, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Sum of the heads' losses; the figures are the last head's."""
    losses, figures = zip(*(head_loss(r, batch) for r in model(normalise(batch["pictures"]))), strict=True)
    return torch.stack(losses).sum(), {name: float(value) for name, value in figures[-1].items()}


def head_loss(readout: tuple[Tensor, ...], batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of one head's losses; background patches count a fifth of the patches that show something."""
    classes, colours, scenes, boxes, centre, place = readout
    occupied = batch["occupied"].float()
    weight = 0.2 + 0.8 * occupied
    kind = _mean(_entropy(classes, batch["classes"]), weight)
    colour = _mean(_entropy(colours, batch["colours"]), weight)
    scene = _entropy(scenes, batch["scene"][:, None].expand(scenes.shape[:2])).mean()
    box = _mean(F.l1_loss(boxes, batch["boxes"].float(), reduction="none").sum(-1), occupied)
    flag = _mean(
        F.binary_cross_entropy_with_logits(centre[..., 0], batch["centre"].float(), reduction="none"),
        occupied,
    )
    own = F.l1_loss(place, _grid(place).expand_as(place))
    loss = kind + 0.5 * colour + 0.2 * scene + 2.0 * box + 0.3 * flag + 0.5 * own
    with torch.no_grad():
        hit = (classes.argmax(-1) == batch["classes"]).float()
        figures = {"kind": kind.detach(), "accuracy": _mean(hit, occupied), "box": box.detach(), "place": own.detach()}
        figures["scene"] = (scenes.argmax(-1) == batch["scene"][:, None]).float().mean()
    return loss, figures


def _grid(place: Tensor) -> Tensor:
    """Centre (x, y) of each patch in 0..1 [1, P, 2]."""
    side = round(place.shape[1] ** 0.5)
    line = (torch.arange(side, device=place.device) + 0.5) / side
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y), dim=-1).view(1, -1, 2)


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), target.long().flatten(), reduction="none").view(target.shape)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def vision_of(model: BelleVL, tokens: bool = False) -> DenseVision:
    """The model's own encoder under fresh heads: training one trains the other."""
    return DenseVision(model.transformer.visual, tokens)
