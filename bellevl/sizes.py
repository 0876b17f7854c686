"""How large a model is, from its configuration alone: parameters, bytes of weights, bytes of KV cache.

The counts are exact for published checkpoints. Knows no tensor and no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import nf4_state
from .config import ModelConfig, QuantizationConfig, VisionConfig
from .quantization import HEAD

#: Positions of the vision encoder's and the resampler's tables as they are stored: a 16 x 16 grid.
STORED_POSITIONS = 256

#: Smaller tables of embeddings are read into memory.
MAPPED = 1 << 27


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
    quantizable = sum(i * o for i, o in block_linears(config).values())
    block = quantizable + 3 * hidden + 2 * hidden  # c_attn's bias, two norms
    language = tables * config.vocab_size * hidden + config.num_hidden_layers * block + hidden
    return Parameters(language, 0 if config.visual is None else _count_vision(config.visual))


def block_linears(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Linear of a block -> (inputs I, outputs O), in the order in which they compute."""
    hidden, mlp = config.hidden_size, config.mlp_width
    return {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.w1": (hidden, mlp),
        "mlp.w2": (hidden, mlp),
        "mlp.c_proj": (mlp, hidden),
    }


def linears(config: ModelConfig) -> Iterator[tuple[str, int, int, bool]]:
    """Everything that can be quantized, as (name, inputs, outputs, bias): the linears of all blocks, and the head."""
    for index in range(config.num_hidden_layers):
        for layer, (inputs, outputs) in block_linears(config).items():
            yield f"transformer.h.{index}.{layer}", inputs, outputs, layer == "attn.c_attn"
    if not config.tie_word_embeddings:
        yield HEAD, config.hidden_size, config.vocab_size, False


def average_bits(config: ModelConfig, quantization: QuantizationConfig) -> float:
    """Bits of a weight that is quantized, over all layers, without scales and zeros."""
    counted = [(inputs * outputs, quantization.for_layer(name)) for name, inputs, outputs, _ in linears(config)]
    held = [(count, stored.bits) for count, stored in counted if stored is not None]
    return sum(count * bits for count, bits in held) / max(sum(count for count, _ in held), 1)


def weight_bytes(config: ModelConfig, quantization: QuantizationConfig | None, itemsize: int = 2) -> int:
    """Bytes of all weights with floats of `itemsize` bytes. Packed, this is the size of the published tensors."""
    floats = count_parameters(config).total
    if quantization is None:
        return floats * itemsize
    packed = 0
    for name, inputs, outputs, bias in linears(config):
        stored = quantization.for_layer(name)
        if stored is not None:
            floats -= inputs * outputs + bias * outputs
            if stored.method == "nf4":
                packed += nf4_bytes(inputs, outputs, bias, stored.double_quant)
            else:
                packed += packed_bytes(inputs, outputs, stored.group_size, stored.bits)
    return floats * itemsize + packed


def mapped_bytes(config: ModelConfig, quantization: QuantizationConfig | None) -> int:
    """Bytes of the embedding that stay in the file while the model runs: a quantized one's, where they are worth it."""
    table = config.vocab_size * config.hidden_size * 2
    return table if quantization is not None and not config.tie_word_embeddings and table >= MAPPED else 0


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


def packed_bytes(inputs: int, outputs: int, group_size: int, bits: int) -> int:
    """qweight, qzeros, scales (fp16), g_idx and bias (fp16) of one layer in AutoGPTQ's layout."""
    groups = 1 if group_size == -1 else -(-inputs // group_size)
    words = (inputs + groups) * outputs * bits // 8
    return words + groups * outputs * 2 + inputs * 4 + outputs * 2


def nf4_bytes(inputs: int, outputs: int, bias: bool, nested: bool) -> int:
    """Codes, absolute maxima, table, state and bias (fp16) of one layer of bitsandbytes, in blocks of 64."""
    count = inputs * outputs
    blocks = nf4_state.block_count(count)
    state = nf4_state.State((outputs, inputs))
    coarse = blocks + 4 * nf4_state.block_count(blocks, nf4_state.NESTED_BLOCKSIZE) + 4 * 256
    maxima = coarse if nested else 4 * blocks
    return nf4_state.packed_bytes(count) + maxima + 4 * 16 + len(nf4_state.write_state(state)) + 2 * outputs * bias


def count_vision_block(visual: VisionConfig) -> int:
    """One block of the vision encoder."""
    width = visual.width
    attention = 3 * width * width + 3 * width + width * width + width
    mlp = 2 * width * visual.mlp_width + visual.mlp_width + width
    return attention + mlp + 4 * width


def _count_vision(visual: VisionConfig) -> int:
    """Vision encoder, resampler, ln_post and proj."""
    width, out = visual.width, visual.output_dim
    encoder = 3 * visual.patch_size**2 * width + STORED_POSITIONS * width + 2 * width
    encoder += visual.layers * count_vision_block(visual)
    kv_proj = 0 if width == out else width * out
    resampler = 2 * visual.n_queries * out + kv_proj + 4 * out * out + 4 * out + 4 * out
    return encoder + resampler + 2 * out + out * out
