"""Prefill and decode: token ids in, token ids out, one at a time. Knows no text and no terminal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .cache import KVCache, new_cache
from .choosing import choose, keep_allowed
from .layers import Interrupted as Interrupted
from .layers import ntk_alpha
from .model import BelleVL
from .sampling import Sampling


@dataclass(frozen=True)
class Token:
    """One new token and, on the last one, why it is the last: "stop" or "length"."""

    id: int
    finish_reason: str | None = None


class Constraint(Protocol):
    """What an answer must keep to, token by token (constraint.py)."""

    def allowed(self) -> Tensor:
        """Which ids may come next: [V or fewer] of bool, never none."""

    def push(self, token: int) -> None:
        """`token`, one of the allowed, was taken."""


def prefill(
    model: BelleVL,
    input_ids: Tensor,
    cache: KVCache,
    image_features: Tensor | None = None,
    *,
    attention_mask: Tensor | None = None,
    chunk: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> Tensor:
    """The prompt [B, T] through the model into `cache`; logits of the last position [B, V].

    In chunks it equals one pass: NTK's alpha is taken from the whole prompt. Raises Interrupted when `stop()` is true
    between two blocks.
    """
    total = cache.length + input_ids.shape[1]
    alpha = ntk_alpha(total, model.config.seq_length)
    x = model.embed(input_ids, image_features)
    hidden = x
    for part in x.split(chunk or x.shape[1], dim=1):
        mask = None if attention_mask is None else attention_mask[:, : cache.length + part.shape[1]]
        hidden = model.decode_hidden(part, attention_mask=mask, cache=cache, alpha=alpha, stop=stop)
    return model.lm_head(hidden[:, -1])


def decode_one_token(
    model: BelleVL,
    token: Tensor,
    cache: KVCache,
    attention_mask: Tensor | None = None,
    stop: Callable[[], bool] | None = None,
) -> Tensor:
    """One token a row [B] behind the cache; logits of the next [B, V]. Raises Interrupted as `prefill` does."""
    x = model.transformer.wte(token[:, None])
    return model.lm_head(model.decode_hidden(x, attention_mask=attention_mask, cache=cache, stop=stop)[:, -1])


@torch.inference_mode()
def generate(
    model: BelleVL,
    input_ids: list[int],
    image_features: Tensor | None = None,
    *,
    sampling: Sampling,
    stop_ids: Collection[int] = (),
    stop: Callable[[], bool] | None = None,
    chunk: int | None = None,
    constraint: Constraint | None = None,
    kv: str = "float",
) -> Iterator[Token]:
    """New tokens of one conversation. The last one carries the reason; a stop token is yielded too.

    `stop` is asked between tokens and between blocks; once true the iterator ends, or raises Interrupted where that was
    inside of the model. `chunk`: tokens of the prompt that go through the model at a time (None: all). `constraint`
    says which tokens may come. `kv` is the form of the cache, one of KV_FORMS.
    """
    ids = torch.tensor([input_ids], device=model.device)
    capacity = len(input_ids) + sampling.max_tokens
    cache = new_cache(kv, model.config, capacity, dtype=model.dtype, device=model.device)
    generator = _generator(model, sampling)
    logits = prefill(model, ids, cache, image_features, chunk=chunk, stop=stop)
    for left in range(sampling.max_tokens - 1, -1, -1):
        if constraint is not None:
            logits = keep_allowed(logits, constraint.allowed())
        token = choose(logits, ids, sampling, generator)
        ids = torch.cat((ids, token[:, None]), dim=1)
        if constraint is not None:
            constraint.push(int(token))
        reason = "stop" if int(token) in stop_ids else "length" if left == 0 else None
        yield Token(int(token), reason)
        if reason or (stop is not None and stop()):
            return
        logits = decode_one_token(model, token, cache, stop=stop)


@torch.inference_mode()
def generate_batch(
    model: BelleVL,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None = None,
    *,
    sampling: Sampling,
    stop_ids: Collection[int] = (),
    pad_id: int = 0,
) -> list[list[int]]:
    """New ids of several left-padded prompts [B, T] at once, each up to and with its stop token."""
    cache = KVCache(
        model.config, input_ids.shape[1] + sampling.max_tokens, batch=len(input_ids), dtype=model.dtype,
        device=model.device,
    )  # fmt: skip
    generator = _generator(model, sampling)
    ids, mask = input_ids, attention_mask
    logits = prefill(model, ids, cache, image_features, attention_mask=mask)
    answers: list[list[int]] = [[] for _ in range(len(ids))]
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for step in range(sampling.max_tokens):
        token = choose(logits, ids, sampling, generator).masked_fill(done, pad_id)
        ids = torch.cat((ids, token[:, None]), dim=1)
        mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
        for row, value in enumerate(token.tolist()):
            if not done[row]:
                answers[row].append(value)
                done[row] = value in stop_ids
        if bool(done.all()) or step == sampling.max_tokens - 1:
            break
        logits = decode_one_token(model, token, cache, mask)
    return answers


def _generator(model: BelleVL, sampling: Sampling) -> torch.Generator | None:
    if sampling.seed is None or sampling.deterministic:
        return None
    return torch.Generator(device=model.device).manual_seed(sampling.seed)
