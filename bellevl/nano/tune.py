"""Losses of the nano model's language stages over packed rows: text alone, stage 1, stage 2.

The numbers equal those of one conversation a row (tests compare); the packing only saves time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import BelleVL
from ..tokenizer import Tokenizer
from .pointing import NOWHERE, Pointer, PointingHead
from .pretrain import DenseHead, WordHead, dense_targets, head_loss, normalise, picture_tokens
from .questions import Turn, ask
from .rows import Row, RowBuilder, stack
from .world import Mix, Scene, draw_scene

ROOM = 256
ANSWER_ROOM = 112
READER_SHARE = 0.2
WORD_SHARE = 0.2
POINTING_SHARE = 0.2


def row_batches(
    first: int,
    size: int,
    mix: Mix,
    seed: int,
    tokenizer: Tokenizer,
    n_queries: int,
    dense: bool = False,
    points: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Batch after batch of packed rows and their pictures, from number `first` on; `dense`: with dense targets,
    `points`: with what each name stands for."""
    builder = RowBuilder(tokenizer, n_queries)
    pointer = Pointer(tokenizer)
    number = first
    while True:
        rng = np.random.default_rng((seed, number))
        rows, scenes = zip(*(one_row(rng, mix, builder) for _ in range(size)), strict=True)
        batch = stack(list(rows), ANSWER_ROOM) | {"pictures": np.stack([np.asarray(s.picture) for s in scenes])}
        if dense:
            batch |= dense_targets(scenes)
        if points:
            found = [pointer(*row) for row in zip(batch["ids"], batch["classes"], batch["colours"], strict=True)]
            batch["points"] = np.where(np.stack(found), 0, NOWHERE).astype(np.float32)
            said = [pointer.recalls(*row) for row in zip(batch["ids"], batch["groups"], batch["slots"], strict=True)]
            batch["recalls"] = np.stack(said)
        yield batch
        number += 1


def one_row(rng: np.random.Generator, mix: Mix, builder: RowBuilder) -> tuple[Row, Scene]:
    """A drawn scene and as many conversations about it as fit."""
    scene = draw_scene(rng, "train", mix=mix)
    turns = ask(scene, rng, mix, n=9)
    talks = conversations(turns, rng)
    return builder.build(talks, ROOM, rng), scene


def conversations(turns: tuple[Turn, ...], rng: np.random.Generator, joined: float = 0.2) -> list[list[Turn]]:
    """Turns grouped into conversations: a follow-up behind what it follows, some others behind each other too."""
    talks: dict[int, list[Turn]] = {}
    for i, turn in enumerate(turns):
        if turn.follows is None:
            talks[i] = [turn]
        else:
            root = next(k for k, talk in talks.items() if any(t is turns[turn.follows] for t in talk))
            talks[root].append(turn)
    result: list[list[Turn]] = []
    for talk in talks.values():
        alone = not result or talk[0].kind == "talk" or result[-1][0].kind == "talk" or len(result[-1]) > 3
        if alone or rng.random() >= joined:
            result.append(talk)
        else:
            result[-1] = result[-1] + talk
    order = rng.permutation(len(result))
    return [result[i] for i in order]


def row_mask(groups: Tensor, sees: Tensor) -> Tensor:
    """True where a token may look [B, 1, T, T]; see the module docstring of rows."""
    key, query = groups[:, None, :], groups[:, :, None]
    allowed = (key == query) | (key == 0) | ((key == -1) & sees[:, :, None])
    order = torch.ones(groups.shape[1], groups.shape[1], dtype=torch.bool, device=groups.device).tril()
    return (allowed & order)[:, None]


def hidden_states(
    model: BelleVL, ids: Tensor, positions: Tensor, mask: Tensor, features: Tensor | None, slot: int
) -> Tensor:
    """Packed rows [B, T] through the language model, features [B, Q, C] in the columns behind `slot`."""
    return model.decode_hidden(embeddings(model, ids, features, slot), positions=positions, mask=mask)


def embeddings(model: BelleVL, ids: Tensor, features: Tensor | None, slot: int) -> Tensor:
    """What enters the first block [B, T, C]."""
    x = model.transformer.wte(ids)
    if features is None:
        return x
    return torch.cat((x[:, : slot + 1], features.to(x.dtype), x[:, slot + 1 + features.shape[1] :]), dim=1)


def answer_logits(model: BelleVL, hidden: Tensor, slots: Tensor) -> Tensor:
    """Logits [B, A, V] at the positions before learned tokens only: the head is the widest layer."""
    index = slots[..., None].expand(-1, -1, hidden.shape[-1])
    return model.lm_head(hidden.gather(1, index)).float()


def weighted_loss(
    logits: Tensor, ids: Tensor, slots: Tensor, weights: Tensor, decides: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted mean cross entropy, and the share of deciding tokens that are right."""
    target = ids.gather(1, slots + 1)
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
    right = ((logits.argmax(-1) == target) & decides).sum() / decides.sum().clamp(min=1)
    return (each * weights).sum() / weights.sum(), right


class RowLoss:
    """The loss of one stage: frozen encoder blocks without gradient, the rest as requires_grad says.

    With a `reader` the picture's tokens go on learning their dense targets, READER_SHARE of the whole: otherwise
    they forget where they look while the answers are not yet right often enough to hold them. With `words` they also
    stay near the words for what they show; with `pointing` names look at what they stand for.
    """

    def __init__(
        self,
        model: BelleVL,
        slot: int,
        *,
        pictures: bool = True,
        compiled: bool = True,
        reader: DenseHead | None = None,
        words: WordHead | None = None,
        pointing: PointingHead | None = None,
    ) -> None:
        self.model, self.slot, self.pictures = model, slot, pictures
        self.reader, self.words, self.pointing = reader, words, pointing
        self._encode = torch.compile(self._patches) if compiled else self._patches
        self._rest = torch.compile(self._loss) if compiled else self._loss

    def __call__(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast("cpu", torch.bfloat16):
            patches = None
            if self.pictures:
                with torch.no_grad():
                    patches = self._encode(batch["pictures"])
            sees = batch["sees"] if self.pictures else torch.zeros_like(batch["sees"])
            loss, figures = self._rest(patches, {n: t for n, t in batch.items() if n != "pictures"} | {"sees": sees})
        return loss, {name: float(value) for name, value in figures.items()}

    def _patches(self, pictures: Tensor) -> Tensor:
        return self.model.transformer.visual.encode_patches(normalise(pictures))

    def _loss(self, patches: Tensor | None, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        features = None if patches is None else picture_tokens(self.model.transformer.visual, patches)
        mask = row_mask(batch["groups"], batch["sees"])
        x = embeddings(self.model, batch["ids"], features, self.slot)
        if self.pointing is None:
            hidden, away = self.model.decode_hidden(x, positions=batch["positions"], mask=mask), {}
        else:
            hidden, away = self.pointing(self.model, x, batch, mask, self.slot)
        logits = answer_logits(self.model, hidden, batch["slots"])
        loss, right = weighted_loss(logits, batch["ids"], batch["slots"], batch["weights"], batch["decides"])
        figures = {"answers": loss.detach(), "decided": right}
        if self.reader is not None and features is not None:
            read, seen = head_loss(self.reader(features), batch)
            loss, figures = loss + READER_SHARE * read, figures | {"read": seen["accuracy"], "place": seen["place"]}
        if self.words is not None and features is not None:
            named = self.words(features, self.model.transformer.wte.weight, batch)
            loss, figures = loss + WORD_SHARE * named, figures | {"words": named.detach()}
        for name, value in away.items():
            loss, figures = loss + POINTING_SHARE * value, figures | {name: value.detach()}
        return loss, figures
