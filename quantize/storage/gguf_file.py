"""The language model of an int4 folder as one GGUF file, for llama.cpp and what is built on it.

A symmetric GPTQ layer is exactly a row of Q4_0 blocks: 32 weights that share a scale, w = d (q - 8). A group of 128
becomes four blocks with the same scale. One of 8 bits is a row of Q8_0 blocks in the same way. Everything else stays
float16, norms and biases float32. The vision encoder has no place there: the file answers text. llama.cpp knows neither
dynamic NTK nor log-n attention of this family, so beyond `seq_length` tokens its answers are others.

Written from the layout's description (GGUF version 3), tensor by tensor; knows no command.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bellevl import packing
from bellevl.checkpoint import EMBEDDING, Checkpoint, check_tensors
from bellevl.config import ModelConfig, read_generation_config
from bellevl.errors import QuantizeError
from bellevl.model import BelleVL
from bellevl.quantization import HEAD
from bellevl.sizes import block_linears, linears
from bellevl.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer

from .disk import writing
from .layout import block_prefix

ALIGNMENT = 32

#: Number formats as GGUF counts them.
F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8

#: Weights of a block, and its bytes: a float16 scale, and 4 or 8 bits for each.
BLOCK = 32
BLOCK_BYTES = {Q4_0: 18, Q8_0: 34}

#: Bits of a quantized layer -> how it is written.
KINDS = {4: Q4_0, 8: Q8_0}

#: Outputs of a layer, rows of a table, that are made at a time.
PIECE = 1024

#: ChatML, as the family's models were trained.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

#: Kinds of tokens as GGUF counts them.
NORMAL, CONTROL, UNUSED = 1, 3, 5


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file: its shape as torch has it, and where its bytes come from, piece by piece."""

    name: str
    kind: int
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray[Any, Any]]]

    @property
    def nbytes(self) -> int:
        count = int(np.prod(self.shape))
        if self.kind in BLOCK_BYTES:
            return count // BLOCK * BLOCK_BYTES[self.kind]
        return count * {F32: 4, F16: 2}[self.kind]


def write_gguf(folder: Path, path: Path, tell: Callable[[float], None] = lambda done: None) -> int:
    """Writes the model of `folder` to `path`; returns the file's bytes. `tell` hears the share that is done.

    Raises CheckpointError for a bad folder, QuantizeError where the model cannot be written exactly.
    """
    with Checkpoint.open(folder) as checkpoint:
        _check(checkpoint)
        tokenizer = load_tokenizer(folder)
        tensors = list(_tensors(checkpoint))
        values = _values(checkpoint, tokenizer)
        total, done = sum(tensor.nbytes for tensor in tensors), 0
        part = path.with_name(path.name + ".part")
        try:
            with writing(path, total), part.open("wb") as file:
                _write_head(file, values, tensors)
                for tensor in tensors:
                    for piece in tensor.pieces():
                        file.write(piece.tobytes())
                        done += piece.nbytes
                        tell(done / total)
                    file.write(b"\0" * (-file.tell() % ALIGNMENT))
            with writing(path, 0):
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path.stat().st_size


def q4_0_blocks(codes: Tensor, scales: Tensor) -> Tensor:
    """Codes uint8 [I, O] and scales float16 [G, O] -> blocks uint8 [O, I / 32, 18].

    In a block the scale comes first, then 16 bytes: byte j has weight j in its low four bits and weight j + 16 above.
    """
    inputs, outputs = codes.shape
    low, high = codes.T.reshape(outputs, inputs // BLOCK, 2, BLOCK // 2).unbind(2)
    repeated = scales.T.repeat_interleave(inputs // BLOCK // scales.shape[0], dim=1).contiguous()
    return torch.cat([repeated.view(torch.uint8).view(outputs, -1, 2), low | (high << 4)], dim=2)


def q8_0_blocks(codes: Tensor, scales: Tensor) -> Tensor:
    """Codes uint8 [I, O] around 128 and scales float16 [G, O] -> blocks uint8 [O, I / 32, 34]: a scale, 32 bytes."""
    inputs, outputs = codes.shape
    weights = (codes.short() - 128).to(torch.int8).T.reshape(outputs, inputs // BLOCK, BLOCK).contiguous()
    repeated = scales.T.repeat_interleave(inputs // BLOCK // scales.shape[0], dim=1).contiguous()
    return torch.cat([repeated.view(torch.uint8).view(outputs, -1, 2), weights.view(torch.uint8)], dim=2)


def _check(checkpoint: Checkpoint) -> None:
    quantization = checkpoint.quantization
    if quantization is None:
        raise QuantizeError("quantize.gguf", folder=checkpoint.folder, reason="its weights are not int4")
    if quantization.method != "gptq":
        raise QuantizeError("quantize.gguf", folder=checkpoint.folder, reason="its weights are NF4")
    if not quantization.sym:
        raise QuantizeError("quantize.gguf", folder=checkpoint.folder, reason="its zeros are not all 8 (asymmetric)")
    if quantization.desc_act and not quantization.static_groups:
        raise QuantizeError("quantize.gguf", folder=checkpoint.folder, reason="its groups are not consecutive")
    with torch.device("meta"):
        check_tensors(BelleVL(checkpoint.config, quantization), checkpoint)
    for name, inputs, _, _ in linears(checkpoint.config):
        stored = quantization.for_layer(name)
        if stored is None and name != HEAD:
            raise QuantizeError("quantize.gguf", folder=checkpoint.folder, reason="a layer of a block is float")
        size = inputs if stored is None or stored.group_size == -1 else stored.group_size
        if inputs % BLOCK or size % BLOCK or inputs % size:
            raise QuantizeError("quantize.gguf", folder=checkpoint.folder, reason="its groups are not blocks of 32")


def _tensors(checkpoint: Checkpoint) -> Iterator[_Tensor]:
    """In llama.cpp's names. w2 is the gate, w1 the up projection."""
    yield _table(checkpoint, "token_embd.weight", "transformer.wte.weight")
    yield _vector(checkpoint, "output_norm.weight", "transformer.ln_f.weight")
    yield _head(checkpoint)
    names = {
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "mlp.w1": "ffn_up",
        "mlp.w2": "ffn_gate",
        "mlp.c_proj": "ffn_down",
    }
    for index in range(checkpoint.config.num_hidden_layers):
        source, target = block_prefix(index), f"blk.{index}."
        yield _vector(checkpoint, f"{target}attn_norm.weight", f"{source}ln_1.weight")
        yield _vector(checkpoint, f"{target}ffn_norm.weight", f"{source}ln_2.weight")
        yield _vector(checkpoint, f"{target}attn_qkv.bias", f"{source}attn.c_attn.bias")
        for layer, name in names.items():
            inputs, outputs = block_linears(checkpoint.config)[layer]
            yield _layer(checkpoint, f"{target}{name}.weight", source + layer, inputs, outputs)


def _head(checkpoint: Checkpoint) -> _Tensor:
    config, name = checkpoint.config, "output.weight"
    if f"{HEAD}.qweight" in checkpoint:
        return _layer(checkpoint, name, HEAD, config.hidden_size, config.vocab_size)
    return _table(checkpoint, name, f"{EMBEDDING if config.tie_word_embeddings else HEAD}.weight")


def _vector(checkpoint: Checkpoint, name: str, source: str) -> _Tensor:
    return _Tensor(name, F32, checkpoint.shape(source), lambda: iter([checkpoint.read(source).float().numpy()]))


def _table(checkpoint: Checkpoint, name: str, source: str) -> _Tensor:
    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        for rows in checkpoint.read(source).split(PIECE):
            yield rows.half().numpy()

    return _Tensor(name, F16, checkpoint.shape(source), pieces)


def _layer(checkpoint: Checkpoint, name: str, source: str, inputs: int, outputs: int) -> _Tensor:
    stored = checkpoint.quantization.for_layer(source) if checkpoint.quantization else None
    assert stored is not None, f"{source} is float"
    blocks = {4: q4_0_blocks, 8: q8_0_blocks}[stored.bits]

    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        words, scales = checkpoint.read(f"{source}.qweight"), checkpoint.read(f"{source}.scales").half()
        for start in range(0, outputs, PIECE):
            part = slice(start, start + PIECE)
            yield blocks(packing.unpack_rows(words[:, part], stored.bits), scales[:, part]).numpy()

    return _Tensor(name, KINDS[stored.bits], (outputs, inputs), pieces)


def _values(checkpoint: Checkpoint, tokenizer: Tokenizer) -> dict[str, Any]:
    """What llama.cpp wants to know of a model of this architecture."""
    config = checkpoint.config
    pieces, kinds = _tokens(tokenizer, config)
    return {
        "general.architecture": "qwen",
        "general.name": checkpoint.folder.resolve().name,
        "general.alignment": ALIGNMENT,
        "general.file_type": 2,  # mostly Q4_0
        "general.quantization_version": 2,
        "qwen.context_length": config.max_position_embeddings,
        "qwen.block_count": config.num_hidden_layers,
        "qwen.embedding_length": config.hidden_size,
        "qwen.feed_forward_length": config.intermediate_size,
        "qwen.attention.head_count": config.num_attention_heads,
        "qwen.attention.layer_norm_rms_epsilon": float(config.layer_norm_epsilon),
        "qwen.rope.freq_base": float(config.rotary_emb_base),
        "qwen.rope.dimension_count": config.kv_channels,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": list(merges(tokenizer.ranks)),
        "tokenizer.ggml.bos_token_id": tokenizer.eod_id,
        "tokenizer.ggml.eos_token_id": tokenizer.im_end_id,
        "tokenizer.ggml.padding_token_id": _padding(checkpoint, tokenizer),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _padding(checkpoint: Checkpoint, tokenizer: Tokenizer) -> int:
    pad = read_generation_config(checkpoint.folder).pad_token_id
    return tokenizer.eod_id if pad is None else pad


def _tokens(tokenizer: Tokenizer, config: ModelConfig) -> tuple[list[str], list[int]]:
    """Every row of the embedding has a token; those beyond the vocabulary are never said."""
    ranks = [readable(piece) for piece in tokenizer.ranks]
    unused = [f"[PAD{n}]" for n in range(tokenizer.n_vocab, config.vocab_size)]
    kinds = [NORMAL] * len(ranks) + [CONTROL] * len(SPECIAL_TOKENS) + [UNUSED] * len(unused)
    return [*ranks, *SPECIAL_TOKENS, *unused], kinds


def readable(piece: bytes) -> str:
    """Bytes as GPT-2 writes them: a visible character for each."""
    return "".join(_BYTES[value] for value in piece)


def _byte_characters() -> list[str]:
    """Printable Latin-1 characters stand for themselves, the others for characters from U+0100 on, in order."""
    shown = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(value) if value in shown else chr(next(others)) for value in range(256)]


_BYTES = _byte_characters()


def merges(ranks: list[bytes]) -> Iterator[str]:
    """The pairs that byte-pair encoding joined, in order: of each piece, what it was before its own rank joined it.

    A piece that no joining makes (a vocabulary that was cut down has some) gets no line.
    """
    rank_of = {piece: rank for rank, piece in enumerate(ranks)}
    for rank, piece in enumerate(ranks):
        parts = _joined(piece, rank_of, rank)
        if len(parts) == 2:
            yield f"{readable(parts[0])} {readable(parts[1])}"


def _joined(piece: bytes, rank_of: dict[bytes, int], below: int) -> list[bytes]:
    """`piece` in the parts that joining pairs of ranks under `below`, the lowest first, makes of its bytes."""
    parts = [bytes([value]) for value in piece]
    while len(parts) > 1:
        found = [(rank_of.get(parts[n] + parts[n + 1], below), n) for n in range(len(parts) - 1)]
        rank, n = min(found)
        if rank >= below:
            break
        parts[n : n + 2] = [parts[n] + parts[n + 1]]
    return parts


def _write_head(file: BufferedWriter, values: dict[str, Any], tensors: list[_Tensor]) -> None:
    file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)))
    for name, value in values.items():
        file.write(_string(name) + _value(value))
    offset = 0
    for tensor in tensors:
        sizes = tensor.shape[::-1]  # the fastest one first
        file.write(_string(tensor.name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        file.write(struct.pack("<IQ", tensor.kind, offset))
        offset += tensor.nbytes + -tensor.nbytes % ALIGNMENT
    file.write(b"\0" * (-file.tell() % ALIGNMENT))


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A value behind the number of its type."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    assert isinstance(value, list), type(value)
    items: Iterable[bytes]
    if value and isinstance(value[0], str):
        kind, items = 8, map(_string, value)
    else:
        kind, items = 5, (struct.pack("<i", item) for item in value)
    return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(items)
