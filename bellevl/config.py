"""What a model is, read from the checkpoint's own config.json and generation_config.json.

Class defaults are those of the family's configuration class; sizes a file may not leave out raise. Knows no tensor.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .fields import Fields
from .fields import is_file as is_file
from .fields import read_json as read_json
from .quantization import QuantizationConfig as QuantizationConfig
from .quantization import parse_quantization as parse_quantization

#: How a cache may keep keys and values: as they are computed, or a byte each (cache.py).
KV_FORMS = ("float", "int8")

#: What the type of the weights is called, by the family and by later writers.
DTYPE_KEYS = ("torch_dtype", "dtype")


@dataclass(frozen=True)
class VisionConfig:
    """The vision encoder and its resampler; key `visual` of config.json."""

    width: int
    layers: int
    heads: int
    mlp_ratio: float
    image_size: int
    patch_size: int
    output_dim: int
    image_start_id: int
    n_queries: int = 256

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def patches(self) -> int:
        """Of a picture."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def resampler_heads(self) -> int:
        return self.output_dim // 128

    @property
    def image_end_id(self) -> int:
        return self.image_start_id + 1

    @property
    def image_pad_id(self) -> int:
        return self.image_start_id + 2


@dataclass(frozen=True)
class ModelConfig:
    """The language model, and `visual` where the checkpoint has a vision encoder."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    seq_length: int
    kv_channels: int = 128
    layer_norm_epsilon: float = 1e-6
    rotary_emb_base: float = 10_000.0
    rotary_pct: float = 1.0
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    no_bias: bool = True
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 8192
    torch_dtype: str | None = None
    visual: VisionConfig | None = None

    @property
    def mlp_width(self) -> int:
        """Width of gate and up projection: `intermediate_size` counts both."""
        return self.intermediate_size // 2


@dataclass(frozen=True)
class GenerationConfig:
    """Defaults for sampling; generation_config.json."""

    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 512
    max_window_size: int = 6144
    eos_token_id: int | None = None
    pad_token_id: int | None = None


def read_config(folder: str | Path) -> tuple[ModelConfig, QuantizationConfig | None]:
    """The model's configuration and how it is quantized (None: float).

    Raises CheckpointError when the folder, the file or a size in it is wrong.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # Path.is_dir raises where the system does not let us look
        raise CheckpointError("model.missing", folder=folder)
    path = folder / "config.json"
    if not is_file(path):
        raise CheckpointError("model.no_config", folder=folder)
    raw = read_json(path)
    _check_architecture(raw, folder)
    config, quantization = parse_config(raw, path), _read_quantization(raw, folder)
    if quantization is not None and quantization.lm_head and config.tie_word_embeddings:
        reason = "and the head is the embedding (tie_word_embeddings)"
        raise CheckpointError("model.quantization", path=path, field="lm_head", value=True, reason=reason)
    return config, quantization


def read_generation_config(folder: str | Path) -> GenerationConfig:
    """generation_config.json, or the family's defaults without one. Unknown keys are ignored."""
    path = Path(folder) / "generation_config.json"
    if not is_file(path):
        return GenerationConfig()
    fields = Fields(read_json(path), path)
    base = GenerationConfig()
    return GenerationConfig(
        do_sample=fields.flag("do_sample", base.do_sample),
        temperature=fields.number("temperature", base.temperature, least=0.0),
        top_k=fields.integer("top_k", base.top_k, least=0),
        top_p=fields.number("top_p", base.top_p, least=0.0, most=1.0),
        repetition_penalty=fields.number("repetition_penalty", base.repetition_penalty, least=1e-3),
        max_new_tokens=fields.integer("max_new_tokens", base.max_new_tokens),
        max_window_size=fields.integer("max_window_size", base.max_window_size),
        eos_token_id=fields.token("eos_token_id"),
        pad_token_id=fields.token("pad_token_id"),
    )


def parse_config(raw: dict[str, Any], path: Path) -> ModelConfig:
    """`raw` (a config.json) checked and typed; `path` is for messages."""
    fields = Fields(raw, path)
    config = ModelConfig(
        hidden_size=fields.integer("hidden_size", 4096),
        num_hidden_layers=fields.integer("num_hidden_layers", 32),
        num_attention_heads=fields.integer("num_attention_heads", 32),
        intermediate_size=fields.integer("intermediate_size", 22_016, least=2),
        vocab_size=fields.integer("vocab_size", 151_936),
        seq_length=fields.integer("seq_length"),
        kv_channels=fields.integer("kv_channels", 128, least=2),
        layer_norm_epsilon=fields.number("layer_norm_epsilon", 1e-6, least=0.0),
        rotary_emb_base=fields.number("rotary_emb_base", 10_000.0, least=1.0),
        rotary_pct=fields.number("rotary_pct", 1.0, least=0.0, most=1.0),
        use_dynamic_ntk=fields.flag("use_dynamic_ntk", True),
        use_logn_attn=fields.flag("use_logn_attn", True),
        no_bias=fields.flag("no_bias", True),
        tie_word_embeddings=fields.flag("tie_word_embeddings", False),
        max_position_embeddings=fields.integer("max_position_embeddings", 8192),
        torch_dtype=next((v for v in map(raw.get, DTYPE_KEYS) if isinstance(v, str)), None),
        visual=_parse_vision(raw, path),
    )
    _check_sizes(config, fields)
    return config


def _parse_vision(raw: dict[str, Any], path: Path) -> VisionConfig | None:
    visual = raw.get("visual")
    if visual is None:
        return None
    if not isinstance(visual, dict):
        raise Fields(raw, path).wrong("visual", "not an object")
    fields = Fields(visual, path)
    return VisionConfig(
        width=fields.integer("width"),
        layers=fields.integer("layers"),
        heads=fields.integer("heads"),
        mlp_ratio=fields.number("mlp_ratio", 4.0, least=0.01, most=64.0),
        image_size=fields.integer("image_size"),
        patch_size=fields.integer("patch_size"),
        output_dim=fields.integer("output_dim"),
        image_start_id=fields.integer("image_start_id"),
        n_queries=fields.integer("n_queries", 256),
    )


def _check_sizes(config: ModelConfig, fields: Fields) -> None:
    """The relations between sizes that the architecture needs."""
    if config.num_attention_heads * config.kv_channels != config.hidden_size:
        raise fields.wrong("kv_channels", "times num_attention_heads is not hidden_size")
    if config.intermediate_size % 2:
        raise fields.wrong("intermediate_size", "not even")
    if config.kv_channels % 2:
        raise fields.wrong("kv_channels", "not even")
    if config.rotary_pct != 1.0:
        raise fields.wrong("rotary_pct", "which no model of this family uses")
    if not config.no_bias:
        raise fields.wrong("no_bias", "which no model of this family uses")
    if config.visual is not None:
        _check_vision_sizes(config, config.visual, Fields(fields.raw["visual"], fields.path))


def _check_vision_sizes(config: ModelConfig, visual: VisionConfig, fields: Fields) -> None:
    if visual.output_dim != config.hidden_size:
        raise fields.wrong("output_dim", f"not hidden_size ({config.hidden_size})")
    if visual.output_dim % 128:
        raise fields.wrong("output_dim", "not a multiple of 128")
    if visual.width % visual.heads:
        raise fields.wrong("width", "not a multiple of heads")
    if visual.image_size < visual.patch_size:
        raise fields.wrong("image_size", "smaller than patch_size")
    if round(visual.n_queries**0.5) ** 2 != visual.n_queries:
        raise fields.wrong("n_queries", "not a square number")
    if visual.image_pad_id >= config.vocab_size:
        raise fields.wrong("image_start_id", f"beyond the vocabulary ({config.vocab_size})")


def _check_architecture(raw: dict[str, Any], folder: Path) -> None:
    """Every model of the family says model_type "qwen" or architectures ["QWenLMHeadModel"]."""
    names = raw.get("architectures")
    found = [str(n) for n in names] if isinstance(names, list) else []
    if raw.get("model_type") != "qwen" and "QWenLMHeadModel" not in found:
        what = ", ".join(found) or str(raw.get("model_type", "unnamed"))
        raise CheckpointError("model.architecture", folder=folder, found=what[:80])


def _read_quantization(raw: dict[str, Any], folder: Path) -> QuantizationConfig | None:
    """From config.json's `quantization_config`, completed by quantize_config.json (AutoGPTQ wrote both or one)."""
    path = folder / "quantize_config.json"
    inner = raw.get("quantization_config")
    merged = read_json(path) if is_file(path) else {}
    if isinstance(inner, dict):
        merged, path = {**merged, **inner}, folder / "config.json"
    return parse_quantization(merged, path) if merged else None
