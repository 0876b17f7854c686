"""What to quantize to: one frozen record, checked when it is made. Knows no tensor."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bellevl.config import QuantizationConfig
from bellevl.errors import QuantizeError
from bellevl.quantization import HEAD, Rule, nf4_settings, parse_quantization

METHODS = ("gptq", "rtn", "nf4")
BITS = (4, 8)

#: Settings that say nothing about NF4 weights.
NOT_FOR_NF4 = (
    "bits", "group_size", "sym", "float_targets", "rotate", "awq_scaling", "lm_head_bits", "eight_bits", "budget",
)  # fmt: skip
GROUP_SIZES = (32, 64, 128, -1)


@dataclass(frozen=True)
class Recipe:
    """Settings of a quantization; the defaults are those of the family's published int4 models.

    `method` "gptq", or "rtn": every weight to its nearest code, without calibration, to compare with; or "nf4": the
    quick way, bitsandbytes' sixteen levels in blocks of 64, where nothing else can be chosen.
    `bits` 4, or 8: nearly the float model, at twice the size. `group_size` -1: one group for all inputs. `sym`: zero is
    always 8 (128 of 8 bits). `desc_act`: inputs of large activations are quantized first; with `static_groups` the
    groups stay where they are, so that the result looks like any other and costs nothing at run time. On the embedded
    model that takes 7 to 16% off the KL divergence (held-out conversations, two calibration seeds). `true_sequential`:
    a layer is calibrated on what the already quantized layers before it in the block give. `search_scales`: the scale
    of a group is the one of least squared error, weighted by the activations, instead of the one that spans the
    extremes.
    `float_targets`: a layer's outputs are to be those of the float model, whose activations are followed beside the
    quantized model's, so that a layer makes good for the ones before it (see drift.py). On the embedded model that
    takes a fifth to a quarter off the KL divergence (two calibration seeds) and 1.7 times the processor time: another
    pass through the float weights; it keeps two more files of activations.
    `rotate`: the same function with weights turned beforehand, so that outliers of single channels are spread over all
    (see transform.py); nothing is left to do at run time. The embedded model has no outliers and loses by it (0 to
    14%); where a few channels of its residual stream are made large, as is reported of large models, it takes 7 to 18%
    off the KL divergence (benchmarks/results/quantize_transforms.md).
    `awq_scaling`: inputs of a layer are divided, channel by channel, by a power of two that grows with their
    activations, and its weights multiplied by it; the divisor goes into the norm or the layer before it (see
    solver/scaling.py). The same function again and a plain checkpoint.
    `picture_weight`: how much a picture's token counts beside one of text (a picture has hundreds of them).
    `eight_bits`: layers by their full names that get 8 bits; one symmetric scale for all inputs of an output, which
    costs nothing in 8 bits and is what fast products take. `lm_head_bits`: those of the head, 16: it stays float.
    `budget`: bytes that the weight files may have; more layers get 8 bits until that is used up, those that take most
    divergence away per byte (see sensitivity.py, budget.py).
    `nsamples` conversations of at most `seqlen` tokens calibrate.
    `shard_bytes`: a shard of the result is not larger (one tensor may be).
    Raises QuantizeError for values out of range.
    """

    method: str = "gptq"
    bits: int = 4
    group_size: int = 128
    sym: bool = True
    desc_act: bool = True
    static_groups: bool = True
    damp_percent: float = 0.01
    true_sequential: bool = True
    search_scales: bool = True
    float_targets: bool = False
    rotate: bool = False
    awq_scaling: bool = False
    picture_weight: float = 1.0
    lm_head_bits: int = 16
    eight_bits: tuple[str, ...] = ()
    budget: int | None = None
    nsamples: int = 128
    seqlen: int = 2048
    seed: int = 0
    shard_bytes: int = 4_000_000_000

    def __post_init__(self) -> None:
        _demand(self.method in METHODS, "method", self.method, "not gptq, rtn or nf4")
        _demand(self.bits in BITS, "bits", self.bits, "not 4 or 8")
        _demand(self.group_size in GROUP_SIZES, "group_size", self.group_size, "not 32, 64, 128 or -1")
        _demand(0 < self.damp_percent <= 1, "damp_percent", self.damp_percent, "not above 0 and at most 1")
        _demand(0 < self.picture_weight <= 1, "picture_weight", self.picture_weight, "not above 0 and at most 1")
        _demand(self.lm_head_bits in (*BITS, 16), "lm_head_bits", self.lm_head_bits, "not 4, 8 or 16")
        reason = f"and with {self.bits} bits there is nothing to choose"
        _demand(self.budget is None or self.bits == 4, "budget", self.budget, reason)
        reason = "and without calibration nothing says how large activations are"
        _demand(self.method != "rtn" or not self.awq_scaling, "awq_scaling", self.awq_scaling, reason)
        _demand(self.nsamples >= 1, "nsamples", self.nsamples, "less than 1")
        _demand(self.seqlen >= 32, "seqlen", self.seqlen, "less than 32")
        _demand(0 <= self.seed < 2**63, "seed", self.seed, "not a whole number from 0 to 2^63 - 1")
        _demand(self.shard_bytes >= 100_000, "shard_bytes", self.shard_bytes, "less than 100000")
        if self.method == "nf4":
            self._demand_nf4()

    def _demand_nf4(self) -> None:
        """NF4 has one form: settings that would promise another are refused."""
        for name in NOT_FOR_NF4:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise QuantizeError("quantize.nf4", name=name)

    def _named(self) -> tuple[str, ...]:
        """Layers that a rule may be about."""
        return (*self.eight_bits, *((HEAD,) if self.lm_head_bits < 16 else ()))

    def _differs(self, name: str) -> bool:
        alone = self.for_layer(name)
        return (alone.bits, alone.group_size, alone.sym) != (self.bits, self.group_size, self.sym)

    @property
    def top(self) -> int:
        """The largest code."""
        return 2**self.bits - 1

    @property
    def calibrates(self) -> bool:
        """Whether activations are looked at."""
        return self.method == "gptq"

    def for_layer(self, name: str) -> Recipe:
        """The recipe of the layer of this full name alone ("transformer.h.0.attn.c_attn", "lm_head")."""
        alone = dataclasses.replace(self, eight_bits=(), lm_head_bits=16, budget=None)
        if name in self.eight_bits or (name == HEAD and self.lm_head_bits == 8):
            return dataclasses.replace(alone, bits=8, group_size=-1, sym=True)
        return dataclasses.replace(alone, bits=self.lm_head_bits) if name == HEAD else alone

    def record(self) -> dict[str, Any]:
        """What the receipt says: of NF4 only what it has."""
        fields = dataclasses.asdict(self)
        return fields if self.method != "nf4" else {name: fields[name] for name in ("method", "bits", "shard_bytes")}

    def quantization(self) -> QuantizationConfig:
        """How a reader has to understand the result. Act order with static groups leaves no trace in it."""
        if self.method == "nf4":
            return parse_quantization(nf4_settings(), Path())
        rules = [_rule(self, name) for name in self._named() if self._differs(name)]
        return QuantizationConfig(
            bits=self.bits,
            group_size=self.group_size,
            sym=self.sym,
            desc_act=self.desc_act and not self.static_groups,
            static_groups=False,
            damp_percent=self.damp_percent,
            true_sequential=self.true_sequential,
            lm_head=self.lm_head_bits < 16,
            rules=tuple(rules),
        )

    def quantize_config(self) -> dict[str, Any]:
        """The keys of quantize_config.json as AutoGPTQ writes them; where the head or single layers are different,
        two more as gptqmodel has them. Of NF4: `quantization_config` as transformers writes it."""
        if self.method == "nf4":
            return nf4_settings()
        quantization = dataclasses.asdict(self.quantization())
        for name in ("checkpoint_format", "method", "double_quant"):
            del quantization[name]
        rules, head = quantization.pop("rules"), quantization.pop("lm_head")
        if head:
            quantization["lm_head"] = True
        if rules:
            settings = ("bits", "group_size", "sym")
            quantization["dynamic"] = {
                f"+:{rule['pattern']}": {key: rule[key] for key in settings if rule[key] is not None} for rule in rules
            }
        extra = {"model_name_or_path": None, "model_file_base_name": "model", "quant_method": "gptq"}
        return {**quantization, **extra, "checkpoint_format": "gptq"}


def _rule(recipe: Recipe, name: str) -> Rule:
    """What a reader has to know of a layer that is not as the others are."""
    alone = recipe.for_layer(name)
    said = {
        key: value for key in ("bits", "group_size", "sym") if (value := getattr(alone, key)) != getattr(recipe, key)
    }
    return Rule(f"^{re.escape(name)}$", **said)


def _demand(condition: bool, name: str, value: object, reason: str) -> None:
    if not condition:
        raise QuantizeError("quantize.option", name=name, value=value, reason=reason)
