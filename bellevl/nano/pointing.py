"""Names point: from the end of every name in a row to the places of the picture that show the thing.

Left to answers alone, the small language model goes on looking at any thing in the picture: which of them is asked
about is one bit in thousands. Here two heads of one block are told where to look, and what they fetch must hold the
thing's box; how that becomes an answer the model finds out by itself. Nothing of this is needed to run it.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Rotary, apply_rotary
from ..model import BelleVL
from ..text import Block
from ..tokenizer import Tokenizer
from .world import names

#: The block whose first heads point. Before it, one block can join a colour to its noun.
BLOCK, HEADS = 1, 2

#: The block whose first head looks back at the name said last, the second at the one before.
RECALL_BLOCK = 3

#: Added to the log of an attention that does not count.
NOWHERE = -1e9


class PointingHead(nn.Module):
    """Reads the box of what is named from the name's token behind BLOCK."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.box = nn.Linear(width, 4)

    def forward(
        self, model: BelleVL, x: Tensor, batch: dict[str, Tensor], mask: Tensor, slot: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Embeddings x [B, T, C] -> hidden states as `BelleVL.decode_hidden`, and two losses.

        batch["points"] [B, T, Q] is 0 where the picture's token shows what the row's token names, elsewhere NOWHERE.
        "points": minus the log of the attention that those places get. "named": the distance of the box, summed
        over its edges, in shares of the picture. Both are means over the names. "recalled": minus the log of the
        attention that the two names said last get where an answer decides (`Pointer.recalls`).
        """
        points = batch["points"]
        rotary = model.rotary(batch["positions"], 1, None)
        for number, block in enumerate(model.transformer.h):
            assert isinstance(block, Block)
            if number == BLOCK:
                seen = attention(block, x, rotary, mask)[..., slot + 1 : slot + 1 + points.shape[-1]]
            if number == RECALL_BLOCK:
                recalled = _recalled(attention(block, x, rotary, mask), batch)
            x = model.run_block(block, x, rotary, mask, None)
            if number == BLOCK:
                read = self.box(self.norm(x)).float()
        named = (points.amax(-1) == 0).float()
        count = named.sum().clamp(min=1)
        missed = -(seen + points[:, None]).logsumexp(-1).mean(1)
        shown = points.exp()
        boxes = (shown @ batch["boxes"].float()) / shown.sum(-1, keepdim=True).clamp(min=1)
        distance = F.l1_loss(read, boxes, reduction="none").sum(-1)
        losses = {"points": (missed.clamp(max=20) * named).sum() / count, "named": (distance * named).sum() / count}
        return model.transformer.ln_f(x), losses | {"recalled": recalled}


def _recalled(attention: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Logs of the attention [B, HEADS, T, T] -> how little the names get at the slots that decide."""
    slots, recalls = batch["slots"], batch["recalls"]  # [B, A], [B, A, HEADS]
    rows = attention.gather(2, slots[:, None, :, None].expand(-1, HEADS, -1, attention.shape[-1]))
    seen = rows.gather(3, recalls.clamp(min=0).transpose(1, 2)[..., None])[..., 0]  # [B, HEADS, A]
    wanted = ((recalls >= 0) & batch["decides"][..., None]).float().transpose(1, 2)
    return (-seen.clamp(min=-20) * wanted).sum() / wanted.sum().clamp(min=1)


def attention(block: Block, x: Tensor, rotary: Rotary, mask: Tensor) -> Tensor:
    """Logs of the attention of a block's first HEADS heads [B, HEADS, T, T]."""
    projected = block.attn.c_attn(block.ln_1(x)).chunk(3, dim=-1)[:2]
    q, k = (t.unflatten(-1, (block.attn.heads, -1)).transpose(1, 2)[:, :HEADS] for t in projected)
    q, k = (apply_rotary(t, rotary.cos, rotary.sin).float() for t in (q, k))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, NOWHERE).log_softmax(-1)


class Pointer:
    """Marks the picture tokens of every named thing. Names of several tokens (a few English ones) are left out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._nouns: dict[int, int] = {}
        self._colours: dict[int, int] = {}
        nouns = [(noun.zh, noun.en) for noun in (*names.SHAPES, *names.EMOJI)]
        colours = [(colour.zh, colour.en) for colour in names.COLOURS]
        for table, entries in ((self._nouns, nouns), (self._colours, colours)):
            for number, (chinese, english) in enumerate(entries, 1):
                for written in (chinese, english, f" {english}"):
                    ids = tokenizer.encode(written)
                    if len(ids) == 1:
                        table[ids[0]] = number
        self._of = tokenizer.encode("的")

    def __call__(self, ids: np.ndarray, classes: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """ids [T], classes and colours [P] as in world.targets -> bool [T, P]; all false where nothing is named.

        A colour before the noun narrows the name down.
        """
        points = np.zeros((len(ids), len(classes)), dtype=bool)
        for at, token in enumerate(ids.tolist()):
            noun = self._nouns.get(token)
            if noun is not None:
                colour = self._colour_before(ids, at)
                points[at] = (classes == noun) & ((colours == colour) if colour else True)
        return points

    def recalls(self, ids: np.ndarray, groups: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """Where, from each slot on, the name said last in the same conversation ended, and the one before.

        ids and groups [T], slots [A] -> int64 [A, HEADS], -1 where there is none.
        """
        nouns = [at for at, token in enumerate(ids.tolist()) if token in self._nouns]
        found = np.full((len(slots), HEADS), -1, dtype=np.int64)
        for row, slot in enumerate(slots.tolist()):
            said = [at for at in nouns if at <= slot and groups[at] == groups[slot]][::-1][:HEADS]
            found[row, : len(said)] = said
        return found

    def _colour_before(self, ids: np.ndarray, at: int) -> int | None:
        """The colour of 红色的圆形 or of red circle, if one stands before the noun at `at`."""
        before = at - 1
        if len(self._of) == 1 and before >= 0 and ids[before] == self._of[0]:
            before -= 1
        return self._colours.get(int(ids[before])) if before >= 0 else None
