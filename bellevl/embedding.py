"""The table of token embeddings, in memory or left in its file.

A prompt needs a few hundred of its rows, a token one: a quantized model leaves a large table where it is (1.6 GB of
the 14B), the system reads the pages that are asked for, and the rows travel to where the language model computes.
Knows no checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def embedding(count: int, width: int) -> nn.Embedding:
    """A table of `count` rows. On the meta device nothing is drawn: torch loads its compiler for that, 1.3 s."""
    table = nn.Embedding(count, width, _weight=torch.empty((count, width)))
    if not table.weight.is_meta:
        table.reset_parameters()
    return table


class MappedEmbedding(nn.Module):
    """`weight` [V, C] on the CPU as it is stored, a file's memory map; rows come out on `device` in `dtype`."""

    def __init__(self, weight: Tensor, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.device, self.dtype = device, dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> [..., C]"""
        return F.embedding(ids.cpu(), self.weight).to(self.device, self.dtype)
