"""From a row of logits to a token: repetition penalty, temperature, top-k, top-p. Knows no model and no text.

The rules and their order are those of Hugging Face's logits processors, which the family's own code used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sampling import Sampling


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits [B, V] of ids in `seen` [B, S] divided by `penalty` where positive, else multiplied."""
    score = logits.gather(1, seen)
    return logits.scatter(1, seen, torch.where(score < 0, score * penalty, score / penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """-inf for everything below the k-th largest logit."""
    least = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """-inf outside the smallest set of likeliest tokens whose probabilities reach `p`; at least one stays."""
    ordered, index = logits.sort()
    dropped = ordered.softmax(-1).cumsum(-1) <= 1 - p
    dropped[..., -1] = False
    return logits.masked_fill(dropped.scatter(-1, index, dropped), -torch.inf)


def keep_allowed(logits: Tensor, allowed: Tensor) -> Tensor:
    """-inf for every id of logits [B, V] that `allowed` [V or fewer] of bool does not have."""
    mask = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    mask[: len(allowed)] = allowed.to(logits.device)
    return logits.masked_fill(~mask, -torch.inf)


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities [B, V] after temperature, top-k and top-p."""
    logits = logits.float() / sampling.temperature
    if sampling.top_k:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    return logits.softmax(-1)


def choose(logits: Tensor, seen: Tensor, sampling: Sampling, generator: torch.Generator | None = None) -> Tensor:
    """Logits [B, V] of the next token and the ids so far [B, S] -> one id a row [B]."""
    logits = logits.float()
    if sampling.repetition_penalty != 1:
        logits = penalize(logits, seen, sampling.repetition_penalty)
    if sampling.deterministic:
        return logits.argmax(-1)
    return torch.multinomial(distribution(logits, sampling), 1, generator=generator)[:, 0]
