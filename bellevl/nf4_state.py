"""What is written of an NF4 layer beside its codes: names, sizes, and the JSON that says what they mean.

A layer of bitsandbytes has, beside a float layer's `bias`:

    weight                                uint8 [ceil(O * I / 2), 1]   two codes a byte, the first in the upper half
    weight.absmax                         float32 [blocks]             (with double quantization: uint8 codes of them)
    weight.quant_map                      float32 [16]                 the levels
    weight.quant_state.bitsandbytes__nf4  uint8 [length]               type, blocks and shape, as JSON
    weight.nested_absmax                  float32 [nested blocks]      with double quantization only: absmax is itself
    weight.nested_quant_map               float32 [256]                quantized, in blocks and with a table of its own

Knows no tensor.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

#: The names of a layer's tensors.
CODES, ABSMAX, TABLE = "weight", "weight.absmax", "weight.quant_map"
STATE = "weight.quant_state.bitsandbytes__nf4"
NESTED_ABSMAX, NESTED_TABLE = "weight.nested_absmax", "weight.nested_quant_map"

#: Numbers that share an absolute maximum where nothing else is said, and absolute maxima that share one of their own.
BLOCKSIZE = 64
NESTED_BLOCKSIZE = 256

#: What the floats beside the codes are stored in, and what bitsandbytes multiplies in, where we write them.
DTYPE = "float16"

#: Blocks that bitsandbytes has a program for.
BLOCKSIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)

#: Bytes of JSON above which a state is not one: bitsandbytes writes fewer than 200.
LARGEST_STATE = 4096


@dataclass(frozen=True)
class State:
    """What a layer's JSON says. `dtype` names the float type it was made from; `nested_*` only where its absolute
    maxima are quantized themselves."""

    shape: tuple[int, int]
    blocksize: int = BLOCKSIZE
    dtype: str = DTYPE
    nested_blocksize: int | None = None
    nested_offset: float = 0.0


def packed_bytes(count: int) -> int:
    """Bytes of `count` codes."""
    return -(-count // 2)


def block_count(count: int, blocksize: int = BLOCKSIZE) -> int:
    """Blocks of `count` numbers, the last one of whatever is left."""
    return -(-count // blocksize)


def write_state(state: State) -> bytes:
    """A state without double quantization as bitsandbytes writes it, byte for byte."""
    assert state.nested_blocksize is None
    fields = {"quant_type": "nf4", "blocksize": state.blocksize, "dtype": state.dtype, "shape": list(state.shape)}
    return json.dumps(fields).encode()


def read_state(text: bytes) -> State:
    """What a layer's JSON says. Raises ValueError, with a reason, for what is not an NF4 state."""
    if len(text) > LARGEST_STATE:
        raise ValueError(f"{len(text)} bytes of description")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("no readable JSON") from error
    if not isinstance(raw, dict):
        raise ValueError("no JSON object")
    if raw.get("quant_type") != "nf4":
        raise ValueError(f"quant_type is {_short(raw.get('quant_type'))}, not nf4")
    nested = raw.get("nested_blocksize")
    return State(
        shape=_shape(raw.get("shape")),
        blocksize=_blocksize(raw, "blocksize"),
        dtype=str(raw.get("dtype", DTYPE))[:20],
        nested_blocksize=None if nested is None else _blocksize(raw, "nested_blocksize"),
        nested_offset=0.0 if nested is None else _finite(raw.get("nested_offset"), "nested_offset"),
    )


def _shape(value: Any) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int and n > 0 for n in value):
        return value[0], value[1]
    raise ValueError(f"shape is {_short(value)}")


def _blocksize(raw: dict[str, Any], name: str) -> int:
    value = raw.get(name)
    if type(value) is int and value in BLOCKSIZES:
        return value
    raise ValueError(f"{name} is {_short(value)}, not one of {', '.join(map(str, BLOCKSIZES))}")


def _finite(value: Any, name: str) -> float:
    if type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e30:
        return float(value)
    raise ValueError(f"{name} is {_short(value)}")


def _short(value: object) -> str:
    return repr(value)[:40]
