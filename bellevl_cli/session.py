"""A model loaded and ready to be asked, and how it came to be. Knows neither commands nor streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bellevl.config import (
    GenerationConfig,
    ModelConfig,
    QuantizationConfig,
    read_config,
    read_generation_config,
)

from . import preflight
from .options import ModelOptions
from .settings import ModelChoice, best_device, choose_device, choose_model

if TYPE_CHECKING:
    from bellevl.chat import Chat, Piece

#: Tokens of a question and a system prompt, generously, for the estimate before loading.
QUESTION_TOKENS = 512


@dataclass(frozen=True)
class Plan:
    """What is to be loaded: known from config.json alone, before torch is imported."""

    choice: ModelChoice
    config: ModelConfig
    quantization: QuantizationConfig | None
    generation: GenerationConfig
    device: str | None
    system: str | None

    @property
    def quantization_name(self) -> str | None:
        """As in "gptq-int4 g128"; None for a float model."""
        return None if self.quantization is None else quantization_name(self.quantization)


@dataclass
class Session:
    """A loaded model in a chat."""

    plan: Plan
    chat: Chat
    device: str
    load_seconds: float


def plan(options: ModelOptions) -> Plan:
    """Raises CheckpointError and DeviceError for what can be told without loading."""
    device = choose_device(options.device)
    choice = choose_model(options.model)
    config, quantization = read_config(choice.folder)
    generation = read_generation_config(choice.folder)
    return Plan(choice, config, quantization, generation, device, options.system)


def window(plan: Plan, max_tokens: int | None) -> int:
    """The most tokens that one answer of a long dialogue keeps in its cache."""
    return plan.generation.max_window_size + (max_tokens or plan.generation.max_new_tokens)


def answer_tokens(plan: Plan, max_tokens: int | None) -> int:
    """The tokens of one question about one picture and its answer."""
    picture = 0 if plan.config.visual is None else plan.config.visual.n_queries
    return picture + QUESTION_TOKENS + (max_tokens or plan.generation.max_new_tokens)


def load(plan: Plan, tokens: int, said: Callable[[preflight.Memory], None]) -> Session:
    """The model of `plan`, with room for `tokens` tokens. `said` hears of the memory before anything is loaded.

    Raises CheckpointError, DeviceError, and OutOfMemoryError before a weight is read.
    """
    started = time.perf_counter()
    device = plan.device or best_device()
    _require_device(device)
    memory = preflight.estimate(plan.config, plan.quantization, tokens, device)
    said(memory)
    preflight.check(memory, plan.choice.name)
    chat = _load_chat(plan, device)
    return Session(plan, chat, device, time.perf_counter() - started)


def last_piece(pieces: Iterator[Piece], show: Callable[[str], object]) -> Piece:
    """Shows every piece of an answer; the last one, which has the reason and the figures."""
    piece = None
    for piece in pieces:
        show(piece.text)
    assert piece is not None, "an answer without a piece"
    return piece


def quantization_name(quantization: QuantizationConfig) -> str:
    """As in "gptq-int4 g128 asym act-order"."""
    words = [f"gptq-int{quantization.bits}", f"g{quantization.group_size}"]
    words += [] if quantization.sym else ["asym"]
    words += ["act-order"] if quantization.desc_act else []
    return " ".join(words)


def _require_device(device: str) -> None:
    """Raises DeviceError before memory is asked of a device that is not there."""
    if device != "cpu":
        from bellevl.checkpoint import check_device

        check_device(device)


def _load_chat(plan: Plan, device: str) -> Chat:
    from bellevl.chat import Chat
    from bellevl.checkpoint import load_model
    from bellevl.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(plan.choice.folder)
    model = load_model(plan.choice.folder, device=device)
    keywords: dict[str, Any] = {} if plan.system is None else {"system": plan.system}
    return Chat(model, tokenizer, plan.generation, **keywords)
