"""Counting a model from its configuration, and what is said about memory before loading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from bellevl.config import ModelConfig, QuantizationConfig, VisionConfig, read_config
from bellevl.errors import OutOfMemoryError
from bellevl.sizes import cache_bytes, count_parameters, vision_bytes, weight_bytes
from bellevl_cli.running.preflight import (
    MARGIN,
    Memory,
    check,
    estimate,
    estimate_vision,
    free_memory,
    readable_bytes,
    total_memory,
    vision_apart,
)


def family(hidden: int, blocks: int, mlp: int, vocabulary: int) -> ModelConfig:
    """A published model of the family."""
    return ModelConfig(
        hidden_size=hidden,
        num_hidden_layers=blocks,
        num_attention_heads=hidden // 128,
        intermediate_size=mlp,
        vocab_size=vocabulary,
        seq_length=2048,
        visual=VisionConfig(1664, 48, 16, 4.9231, 448, 14, hidden, 151_857),
    )


BELLE = family(5120, 40, 27_392, 152_064)
QWEN = family(4096, 32, 22_016, 151_936)


def test_parameters_of_the_published_models() -> None:
    """BELLE-VL-14B has 16,152,325,888 parameters, Qwen-VL-Chat 9,656,935,168."""
    assert count_parameters(BELLE).total == 16_152_325_888
    assert count_parameters(BELLE).language == 14_167_290_880
    assert count_parameters(QWEN).total == 9_656_935_168
    assert weight_bytes(BELLE, None) == 32_304_651_776


def test_bytes_of_the_published_int4_models() -> None:
    """The int4 tensors of Qwen-VL-Chat-Int4 take 9,731,786,240 bytes, those of the 14B 13,645,712,896."""
    assert weight_bytes(QWEN, QuantizationConfig()) == 9_731_786_240
    assert weight_bytes(BELLE, QuantizationConfig()) == 13_645_712_896
    assert cache_bytes(BELLE, 1) == 819_200


def test_bytes_of_nf4_models() -> None:
    """A linear of NF4 takes half a byte a weight, four a block of 64, a table and some words; the rest is fp16."""
    nf4 = QuantizationConfig(group_size=64, method="nf4")
    linears = 40 * (5120 * 15_360 + 5120 * 5120 + 3 * 5120 * 13_696)
    floats = 2 * (count_parameters(BELLE).total - linears)
    words = weight_bytes(BELLE, nf4) - floats - linears // 2 - linears // 16
    assert 200 * (64 + 70) < words < 200 * (64 + 100)
    assert weight_bytes(BELLE, replace(nf4, double_quant=True)) < weight_bytes(BELLE, nf4)


def test_bytes_of_an_int8_cache() -> None:
    """The 14B's token takes 416,000 bytes as int8, scales included, and one block's 20,480 while it is expanded."""
    assert cache_bytes(BELLE, 1, kv="int8") == 416_000 + 20_480
    assert cache_bytes(BELLE, 2048, kv="int8") == 2048 * 436_480


def test_the_vision_encoder_leaves_the_device() -> None:
    """With --vision cpu a GPU needs 3,970,070,016 bytes less, and the CPU that many; on the CPU nothing changes."""
    assert vision_bytes(BELLE) == 3_970_070_016
    whole, less = (estimate(BELLE, None, 1000, "mps", vision=vision).need for vision in ("auto", "cpu"))
    moved = estimate_vision(BELLE).need
    assert abs(whole - less - moved) <= 1 and moved == int(3_970_070_016 * (1 + MARGIN))
    assert estimate(BELLE, None, 1000, "cpu", vision="cpu").need == estimate(BELLE, None, 1000, "cpu").need
    assert not vision_apart(replace(BELLE, visual=None), "cuda", "cpu")


def test_parameters_of_a_real_file(golden: Path) -> None:
    """The count of the golden checkpoint is that of its tensors."""
    folder = golden / "model" / "model"
    config, _ = read_config(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    counted = 0
    for shard in set(index["weight_map"].values()):
        with safe_open(folder / shard, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no dictionary
                shape = file.get_slice(name).get_shape()
                counted += int(__import__("math").prod(shape))
    assert count_parameters(config).total == counted


def test_an_estimate_counts_weights_and_cache() -> None:
    """The 14B in int4 with a full window needs about 19 GB; what is short is refused with both numbers."""
    memory = estimate(BELLE, QuantizationConfig(), 6656, "cpu")
    assert 18e9 < memory.need < 20e9
    with pytest.raises(OutOfMemoryError) as caught:
        check(Memory(10_900_000_000, 8_200_000_000), "BELLE-VL-14B")
    assert (caught.value.facts["need"], caught.value.facts["free"]) == ("10.9 GB", "8.2 GB")
    check(Memory(10, 10), "x")
    check(Memory(10, None), "x")


def test_free_memory_is_part_of_the_whole() -> None:
    """What is free is more than nothing and not more than the machine has."""
    free, total = free_memory(), total_memory()
    assert total is None or free is None or 0 < free <= total


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (999_600, "1 MB"), (13_645_712_896, "13.6 GB")]
)
def test_bytes_are_readable(count: int, text: str) -> None:
    """Powers of ten, as disks and GPUs are sold."""
    assert readable_bytes(count) == text
