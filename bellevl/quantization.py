"""How a checkpoint's linears are stored, read from quantize_config.json or config.json. Knows no tensor."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .fields import LARGEST, Fields
from .nf4_state import BLOCKSIZE, DTYPE

#: The head's name, as rules and reports have it; every other linear belongs to a block.
HEAD = "lm_head"

#: A rule's pattern comes with somebody's checkpoint: one of so many characters and repetitions is tried in no time.
PATTERN_LENGTH = 200
PATTERN_REPEATS = 4

#: So many names at most may be left out of quantization.
SKIPPED = 200


@dataclass(frozen=True)
class Rule:
    """What single layers have of their own: those whose name begins with what `pattern` (a regular expression)
    matches. None: as everywhere. `skip`: such a layer is float."""

    pattern: str
    skip: bool = False
    bits: int | None = None
    group_size: int | None = None
    sym: bool | None = None


@dataclass(frozen=True)
class QuantizationConfig:
    """How the linears of the language model are stored. `zero_offset` is 1 where stored zeros are zero - 1 (v1).

    `lm_head`: the head is quantized too. `rules`: the first that matches a layer's name changes what it says for that
    layer (key `dynamic` in the file, as gptqmodel has it). `method` "gptq", or "nf4": as bitsandbytes stores it, where
    of the rest only `double_quant` (absolute maxima are quantized, too), `lm_head` and `rules` mean anything.
    """

    bits: int = 4
    group_size: int = 128
    sym: bool = True
    desc_act: bool = False
    static_groups: bool = False
    damp_percent: float = 0.01
    true_sequential: bool = True
    checkpoint_format: str = "gptq"
    lm_head: bool = False
    method: str = "gptq"
    double_quant: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def zero_offset(self) -> int:
        return 0 if self.checkpoint_format == "gptq_v2" else 1

    def for_layer(self, name: str) -> QuantizationConfig | None:
        """How the layer called `name` ("transformer.h.0.attn.c_attn", "lm_head") is stored; None: as floats."""
        return _for_layer(self, name)


@functools.lru_cache(maxsize=4096)
def _for_layer(config: QuantizationConfig, name: str) -> QuantizationConfig | None:
    if name == HEAD and not config.lm_head:
        return None
    plain = replace(config, rules=(), lm_head=False)
    rule = next((rule for rule in config.rules if re.match(rule.pattern, name)), None)
    if rule is None:
        return plain
    if rule.skip:
        return None
    return replace(
        plain,
        bits=plain.bits if rule.bits is None else rule.bits,
        group_size=plain.group_size if rule.group_size is None else rule.group_size,
        sym=plain.sym if rule.sym is None else rule.sym,
    )


def parse_quantization(raw: dict[str, Any], path: Path) -> QuantizationConfig:
    """A quantize_config.json checked and typed. Raises CheckpointError for what cannot be read."""
    fields = _Settings(raw, path)
    if raw.get("quant_method") == "bitsandbytes":
        return _parse_nf4(fields)
    if raw.get("quant_method", "gptq") != "gptq":
        raise fields.refuse("quant_method", "not gptq or bitsandbytes")
    version = raw.get("checkpoint_format", raw.get("format", "gptq"))
    if version not in ("gptq", "gptq_v2"):
        raise fields.refuse("checkpoint_format", "not gptq or gptq_v2")
    return QuantizationConfig(
        bits=fields.bits(),
        group_size=fields.group_size(),
        sym=fields.flag("sym", True),
        desc_act=fields.flag("desc_act", False),
        static_groups=fields.flag("static_groups", False),
        damp_percent=fields.number("damp_percent", 0.01, least=0.0, most=1.0),
        true_sequential=fields.flag("true_sequential", True),
        checkpoint_format=version,
        lm_head=fields.flag("lm_head", False),
        rules=_parse_rules(fields),
    )


class _Settings(Fields):
    """Fields that more than one place has."""

    def refuse(self, name: str, reason: str) -> CheckpointError:
        value = repr(self.raw.get(name))[:60]
        return CheckpointError("model.quantization", path=self.path, field=name, value=value, reason=reason)

    def bits(self) -> int:
        bits = self.raw.get("bits", 4)
        if bits not in (4, 8) or isinstance(bits, bool | float):
            raise self.refuse("bits", "not 4 or 8")
        return int(bits)

    def group_size(self) -> int:
        size = self.raw.get("group_size", 128)
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not whole or not (size == -1 or 8 <= size <= LARGEST["intermediate_size"]):
            raise self.refuse("group_size", "not -1 or a whole number of at least 8")
        return int(size)


def _parse_nf4(fields: _Settings) -> QuantizationConfig:
    """What transformers writes for bitsandbytes (BitsAndBytesConfig). The size of blocks stands in each layer."""
    raw = fields.raw
    if raw.get("load_in_4bit", raw.get("_load_in_4bit")) is not True:
        raise fields.refuse("load_in_4bit", "not true: of bitsandbytes only NF4 can be read")
    if raw.get("bnb_4bit_quant_type", "fp4") != "nf4":
        raise fields.refuse("bnb_4bit_quant_type", "not nf4")
    if raw.get("bnb_4bit_quant_storage") not in (None, "uint8"):
        raise fields.refuse("bnb_4bit_quant_storage", "not uint8")
    skipped = raw.get("llm_int8_skip_modules")
    names = [] if skipped is None else skipped
    if not isinstance(names, list) or len(names) > SKIPPED or not all(isinstance(n, str) for n in names):
        raise fields.refuse("llm_int8_skip_modules", "not a list of names")
    rules = tuple(Rule(_skip_pattern(name), skip=True) for name in names)
    return QuantizationConfig(
        group_size=BLOCKSIZE,
        # without a list transformers leaves the head as it is; with one, what the list leaves out is quantized
        lm_head=skipped is not None and not any(re.match(rule.pattern, HEAD) for rule in rules),
        method="nf4",
        double_quant=fields.flag("bnb_4bit_use_double_quant", False),
        rules=rules,
    )


def nf4_settings() -> dict[str, Any]:
    """`quantization_config` as transformers writes it for NF4 without double quantization, of the blocks' linears."""
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": DTYPE,
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_use_double_quant": False,
        "llm_int8_skip_modules": [HEAD, "transformer.visual"],
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_threshold": 6.0,
    }


def _skip_pattern(name: str) -> str:
    """Names that begin with `name`, up to a point, or end with it, as transformers takes it."""
    plain = re.escape(name[:PATTERN_LENGTH])
    return rf"{plain}(?:\.|$)|.*{plain}$"


def _parse_rules(fields: _Settings) -> tuple[Rule, ...]:
    raw = fields.raw.get("dynamic")
    if not raw:
        return ()
    if not isinstance(raw, dict) or not all(isinstance(value, dict) for value in raw.values()):
        raise fields.refuse("dynamic", "not an object of objects")
    return tuple(_parse_rule(key, value, fields) for key, value in raw.items())


def _parse_rule(key: str, value: dict[str, Any], fields: _Settings) -> Rule:
    """`key` "-:pattern": such layers are float; "+:pattern" or "pattern": `value` says what they have of their own."""
    pattern = key[2:] if key[:2] in ("+:", "-:") else key
    reason = _why_not(pattern)
    if reason is not None:
        raise fields.refuse("dynamic", f"{reason}: {key[:60]}")
    inner = _Settings(value, fields.path)
    return Rule(
        pattern,
        skip=key.startswith("-:"),
        bits=inner.bits() if "bits" in value else None,
        group_size=inner.group_size() if "group_size" in value else None,
        sym=inner.flag("sym", True) if "sym" in value else None,
    )


def _why_not(pattern: str) -> str | None:
    """What speaks against trying a pattern; None: nothing. Repetitions of repetitions could take years."""
    repeats = len(re.findall(r"[*+{]", pattern))
    if len(pattern) > PATTERN_LENGTH or repeats > PATTERN_REPEATS or re.search(r"\)[*+{]|\(\?P?=|\\[1-9]", pattern):
        return "a pattern too intricate to be tried"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return "not a regular expression"
    return None
