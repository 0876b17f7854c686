"""A model loaded and ready to be asked, and how it came to be. Knows neither commands nor streams."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bellevl.config import (
    GenerationConfig,
    ModelConfig,
    QuantizationConfig,
    read_config,
    read_generation_config,
)
from bellevl.errors import OutOfMemoryError
from bellevl.quantization import HEAD

from ..options import ModelOptions, require_opencc
from ..settings import ModelChoice, best_device, choose_device, choose_model, config_value
from ..words import say
from . import choices, preflight, speeds

if TYPE_CHECKING:
    from bellevl.chat import Piece

    from .answer_language import LanguageChat

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
    max_memory: int | None = None
    language: str | None = None
    script: str | None = None
    kv: str = "float"
    vision: str = "auto"

    @property
    def quantization_name(self) -> str | None:
        """As in "gptq-int4 g128"; None for a float model."""
        return None if self.quantization is None else quantization_name(self.quantization)

    @property
    def speed_row(self) -> str:
        """Where this model's speed on this machine is kept."""
        device = self.device if self.vision == "auto" else f"{self.device or 'auto'}+{self.vision}"
        return speeds.row_name(self.choice.name, self.quantization_name, device)

    def memory(self, tokens: int, device: str) -> preflight.Memory:
        """What an answer with `tokens` tokens in the cache takes on `device`, as it was asked for."""
        return self.estimate(device=device, limit=self.max_memory, tokens=tokens, kv=self.kv, vision=self.vision)

    def estimate(self, **facts: Any) -> preflight.Memory:
        """The same for other wishes; `facts` as for preflight's."""
        return preflight.estimate(self.config, self.quantization, **facts)


@dataclass
class Session:
    """A loaded model in a chat."""

    plan: Plan
    chat: LanguageChat
    device: str
    load_seconds: float


def plan(options: ModelOptions) -> Plan:
    """Raises CheckpointError and DeviceError for what can be told without loading."""
    device = choose_device(options.device)
    choice = choose_model(options.model)
    config, quantization = read_config(choice.folder)
    generation = configured(read_generation_config(choice.folder))
    if (context := config_value("ctx", option=options.context)) is not None:
        generation = replace(generation, max_window_size=min(context, config.max_position_embeddings))
    system = config_value("system", option=options.system)
    language = config_value("answer_lang", option=options.language)
    script = config_value("script", option=options.script)
    return Plan(
        choice, config, quantization, generation, device, system, options.max_memory, language, script,
        kv=config_value("kv", option=options.kv), vision=config_value("vision", option=options.vision),
    )  # fmt: skip


def configured(generation: GenerationConfig) -> GenerationConfig:
    """The model's own defaults for answers, with what config.toml or the environment says instead."""
    names = {"max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p"}
    said = {field: config_value(name) for name, field in names.items()}
    return replace(generation, **{field: value for field, value in said.items() if value is not None})


def window(plan: Plan, max_tokens: int | None) -> int:
    """The most tokens that one answer of a long dialogue keeps in its cache."""
    return plan.generation.max_window_size + (max_tokens or plan.generation.max_new_tokens)


def answer_tokens(plan: Plan, max_tokens: int | None) -> int:
    """The tokens of one question about one picture and its answer."""
    picture = 0 if plan.config.visual is None else plan.config.visual.n_queries
    return picture + QUESTION_TOKENS + (max_tokens or plan.generation.max_new_tokens)


def load(
    plan: Plan,
    tokens: int,
    said: Callable[[preflight.Memory], None],
    progress: Callable[[float], object] | None = None,
    accepted: Callable[[float], bool] | None = None,
) -> Session:
    """The model of `plan`, with room for `tokens` tokens. `said` hears of the memory before anything is loaded,
    `progress` then how much has been. Where only the CPU is left for a large model and nobody chose it, `accepted` is
    told its tokens a second; without its yes it is refused.

    Raises CheckpointError, DeviceError, and OutOfMemoryError before a weight is read.
    """
    started = time.perf_counter()
    if plan.script is not None:
        require_opencc()
    device = plan.device or available_device()
    _require_device(device)
    memory = plan.memory(tokens, device)
    said(memory)
    enough = "" if preflight.fits(memory) else choices.enough(plan, tokens, device, _shorter(plan, tokens))
    preflight.check(memory, plan.choice.name, device, enough)
    if preflight.vision_apart(plan.config, device, plan.vision):
        preflight.check(preflight.estimate_vision(plan.config), say("memory.vision", name=plan.choice.name))
    if plan.device is None and device == "cpu" and not preflight.is_small(plan.config):
        _accept_cpu(plan, accepted)
        started = time.perf_counter()  # a person's thinking is not loading
    chat = _load_chat(plan, device, progress)
    seconds = time.perf_counter() - started
    chat.row, chat.load_seconds = plan.speed_row, seconds
    return Session(plan, chat, device, seconds)


def available_device() -> str:
    """As `best_device`; where Linux has no driver of a GPU at all, without importing torch for it."""
    linux = sys.platform.startswith("linux")
    if linux and not any(os.path.exists(driver) for driver in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
        return "cpu"
    return best_device()


def _shorter(plan: Plan, tokens: int) -> list[tuple[str, int]]:
    """(option, tokens in the cache), the longest first."""
    answer = plan.generation.max_new_tokens
    if tokens < plan.generation.max_window_size:  # one question: its window is not what takes the room
        return [(f"--max-tokens {size}", answer_tokens(plan, size)) for size in (256, 64) if size < answer]
    return [(f"--ctx {size}", size + answer) for size in (4096, 2048, 1024) if size + answer < tokens]


def _accept_cpu(plan: Plan, accepted: Callable[[float], bool] | None) -> None:
    """Raises OutOfMemoryError unless the CPU is accepted, and its speed."""
    known = speeds.estimate(speeds.row_name(plan.choice.name, plan.quantization_name, "cpu"))
    if known is not None:
        speed = known.speed
    else:
        from .cpu_speed import tokens_a_second

        speed = tokens_a_second(plan.config, plan.quantization)
    if accepted is None or not accepted(speed):
        raise OutOfMemoryError("memory.cpu", model=plan.choice.name, speed=f"{speed:.2g}")


def last_piece(pieces: Iterator[Piece], show: Callable[[str], object]) -> Piece:
    """Shows every piece of an answer; the last one, which has the reason and the figures."""
    piece = None
    for piece in pieces:
        show(piece.text)
    assert piece is not None, "an answer without a piece"
    return piece


def quantization_name(quantization: QuantizationConfig) -> str:
    """As in "gptq-int4 g128 asym act-order head-int8", or "bnb-nf4"."""
    if quantization.method == "nf4":
        return "bnb-nf4 double-quant" if quantization.double_quant else "bnb-nf4"
    words = [f"gptq-int{quantization.bits}", f"g{quantization.group_size}"]
    words += [] if quantization.sym else ["asym"]
    words += ["act-order"] if quantization.desc_act else []
    words += ["mixed"] if any(not re.match(rule.pattern, HEAD) for rule in quantization.rules) else []
    head = quantization.for_layer(HEAD)
    words += [] if head is None else [f"head-int{head.bits}"]
    return " ".join(words)


def _require_device(device: str) -> None:
    """Raises DeviceError before memory is asked of a device that is not there."""
    if device != "cpu":
        from bellevl.checkpoint import check_device

        check_device(device)


def _load_chat(plan: Plan, device: str, progress: Callable[[float], object] | None) -> LanguageChat:
    from bellevl.checkpoint import load_model
    from bellevl.tokenizer import load_tokenizer

    from .answer_language import LanguageChat, open_converter

    tokenizer = load_tokenizer(plan.choice.folder)
    vision = "cpu" if plan.vision == "cpu" else None
    model = load_model(plan.choice.folder, device=device, progress=progress, vision_device=vision)
    keywords: dict[str, Any] = {} if plan.system is None else {"system": plan.system}
    chat = LanguageChat(model, tokenizer, plan.generation, **keywords)
    chat.language, chat.kv = plan.language, plan.kv
    chat.converter = None if plan.script is None else open_converter(plan.script)
    return chat
