"""How large a model is, from its configuration alone: parameters, bytes of weights, bytes of KV cache.

The counts are exact for published checkpoints. Knows no tensor and no file.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import ModelConfig, QuantizationConfig, VisionConfig

#: Positions of the vision encoder's and the resampler's tables as they are stored: a 16 x 16 grid.
STORED_POSITIONS = 256


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters. `language` counts embedding, blocks, last norm and head."""

    language: int
    vision: int

    @property
    def total(self) -> int:
        return self.language + self.vision


def count_parameters(config: ModelConfig) -> Parameters:
    """Parameters of the float model. A tied head is counted once."""
    hidden, tables = config.hidden_size, 1 if config.tie_word_embeddings else 2
    quantizable = sum(i * o for i, o in block_linears(config))
    block = quantizable + 3 * hidden + 2 * hidden  # c_attn's bias, two norms
    language = tables * config.vocab_size * hidden + config.num_hidden_layers * block + hidden
    return Parameters(language, 0 if config.visual is None else _count_vision(config.visual))


def block_linears(config: ModelConfig) -> list[tuple[int, int]]:
    """(inputs, outputs) of a block's linears: c_attn, attn.c_proj, w1, w2, mlp.c_proj."""
    hidden, mlp = config.hidden_size, config.mlp_width
    return [(hidden, 3 * hidden), (hidden, hidden), (hidden, mlp), (hidden, mlp), (mlp, hidden)]


def weight_bytes(config: ModelConfig, quantization: QuantizationConfig | None, itemsize: int = 2) -> int:
    """Bytes of all weights with floats of `itemsize` bytes. Packed, this is the size of the published tensors."""
    floats = count_parameters(config).total
    if quantization is None:
        return floats * itemsize
    linears = block_linears(config)
    floats -= config.num_hidden_layers * (sum(i * o for i, o in linears) + 3 * config.hidden_size)
    packed = sum(_packed_bytes(i, o, quantization.group_size, quantization.bits) for i, o in linears)
    return floats * itemsize + config.num_hidden_layers * packed


def vision_bytes(config: ModelConfig, itemsize: int = 2) -> int:
    """Bytes of the vision encoder's weights, which are floats in an int4 model, too."""
    return count_parameters(config).vision * itemsize


def cache_bytes(config: ModelConfig, tokens: int, itemsize: int = 2, kv: str = "float") -> int:
    """Bytes of keys and values of `tokens` tokens, computed with in `itemsize` bytes each.

    As int8: a byte a number, a scale for each key and value of a head, and one block at a time expanded.
    """
    numbers = 2 * config.hidden_size * tokens  # of a block
    if kv == "float":
        return config.num_hidden_layers * numbers * itemsize
    scales = 2 * config.num_attention_heads * tokens * itemsize
    return config.num_hidden_layers * (numbers + scales) + numbers * itemsize


def _packed_bytes(inputs: int, outputs: int, group_size: int, bits: int) -> int:
    """qweight, qzeros, scales (fp16), g_idx and bias (fp16) of one layer in AutoGPTQ's layout."""
    groups = 1 if group_size == -1 else -(-inputs // group_size)
    words = (inputs + groups) * outputs * bits // 8
    return words + groups * outputs * 2 + inputs * 4 + outputs * 2


def _count_vision(visual: VisionConfig) -> int:
    """Vision encoder, resampler, ln_post and proj."""
    width, out = visual.width, visual.output_dim
    attention = 3 * width * width + 3 * width + width * width + width
    mlp = 2 * width * visual.mlp_width + visual.mlp_width + width
    encoder = 3 * visual.patch_size**2 * width + STORED_POSITIONS * width + 2 * width
    encoder += visual.layers * (attention + mlp + 4 * width)
    kv_proj = 0 if width == out else width * out
    resampler = 2 * visual.n_queries * out + kv_proj + 4 * out * out + 4 * out + 4 * out
    return encoder + resampler + 2 * out + out * out
