"""Layers with bits of their own, a quantized head, an embedding that stays in its file."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny import write_tiny_checkpoint

import bellevl
from bellevl import int8_product, kernels, load_model, load_tokenizer
from bellevl.checkpoint import Checkpoint
from bellevl.config import read_config
from bellevl.embedding import MappedEmbedding
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.evaluation.fidelity import Conversation, dense_block, fidelity
from bellevl.packing import unpack_rows
from bellevl.qlinear import Int4Linear
from bellevl.quantization import QuantizationConfig, parse_quantization
from bellevl.sizes import mapped_bytes, weight_bytes
from quantize import Recipe, quantize
from quantize.record.receipt import headline, read_receipt
from quantize.storage.gguf_file import write_gguf

NAME = "transformer.h.1.mlp.w1"
RECIPE = Recipe(nsamples=6, seqlen=96, lm_head_bits=8, eight_bits=(NAME,))
IDS = torch.tensor([[260, 7, 99, 300, 41, 5, 290, 280, 17, 3, 301, 302]])


def rules(dynamic: dict[str, Any], **others: Any) -> QuantizationConfig:
    return parse_quantization({"bits": 4, "group_size": 128, "dynamic": dynamic, **others}, Path("config.json"))


@pytest.fixture(scope="module")
def mixed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint with a head and one layer in 8 bits."""
    target = tmp_path_factory.mktemp("mixed") / "int4"
    list(quantize(tiny_folder, target, RECIPE))
    return target


def test_the_first_rule_that_matches_counts() -> None:
    """A rule changes what it names for the layers that it matches; `-:` leaves them float; others are as ever."""
    found = rules({r"-:.*\.h\.0\.attn": {}, r"+:.*c_proj": {"bits": 8}, r".*\.mlp\.": {"group_size": 32, "sym": False}})
    assert found.for_layer("transformer.h.0.attn.c_proj") is None
    assert found.for_layer("transformer.h.1.attn.c_proj") == QuantizationConfig(bits=8)
    assert found.for_layer("transformer.h.1.mlp.c_proj") == QuantizationConfig(bits=8)
    assert found.for_layer("transformer.h.1.mlp.w2") == QuantizationConfig(group_size=32, sym=False)
    assert found.for_layer("transformer.h.1.attn.c_attn") == QuantizationConfig()
    assert found.for_layer("lm_head") is None, "the head is float unless lm_head says otherwise"
    assert rules({}, lm_head=True).for_layer("lm_head") == QuantizationConfig()


@pytest.mark.parametrize(
    ("dynamic", "reason"),
    [
        ({"(a+)+$": {}}, "intricate"),
        ({"(a|a)*b": {}}, "intricate"),
        ({".*.*.*.*.*x": {}}, "intricate"),
        ({"a" * 300: {}}, "intricate"),
        ({r"(\w)\1": {}}, "intricate"),
        ({"[": {}}, "not a regular expression"),
        ({".*": 8}, "not an object of objects"),
        ([".*"], "not an object of objects"),
        ({".*": {"bits": 3}}, "not 4 or 8"),
        ({".*": {"group_size": 0}}, "not -1 or a whole number"),
        ({".*": {"sym": 1}}, "not true or false"),
    ],
)
def test_a_hostile_rule_is_refused_at_once(dynamic: Any, reason: str) -> None:
    """A pattern that could take years, or a value that is none, is one error that says so."""
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=reason):
        rules(dynamic).for_layer("a" * 40)
    assert time.monotonic() - began < 5


def test_files_say_which_layers_differ(mixed: Path) -> None:
    """config.json has gptqmodel's keys for the head and the layer; a plain recipe writes neither of them."""
    written = json.loads((mixed / "quantize_config.json").read_text(encoding="utf-8"))
    eight = {"bits": 8, "group_size": -1}
    names = (r"+:^transformer\.h\.1\.mlp\.w1$", r"+:^lm_head$")
    assert written["lm_head"] is True and written["dynamic"] == dict.fromkeys(names, eight)
    assert {"lm_head", "dynamic"}.isdisjoint(Recipe().quantize_config())
    quantization = read_config(mixed)[1]
    assert quantization is not None
    assert (
        quantization.for_layer("lm_head")
        == quantization.for_layer(NAME)
        == replace(quantization, bits=8, group_size=-1, lm_head=False, rules=())
    )
    tensors = load_file(mixed / "model.safetensors")
    assert tensors[f"{NAME}.qweight"].shape == (128 // 4, 128) and tensors[f"{NAME}.scales"].shape == (1, 128)
    assert tensors["lm_head.qweight"].shape == (128 // 4, 640) and "lm_head.weight" not in tensors


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06)])
def test_the_model_answers_like_its_dequantized_weights(
    tiny_folder: Path, mixed: Path, dtype: torch.dtype, tolerance: float
) -> None:
    """Logits are those of the float model with exactly the weights that are stored, within the dtype's noise."""
    model, reference = load_model(mixed, dtype), load_model(tiny_folder, torch.float16).float()
    with Checkpoint.open(mixed) as checkpoint:
        for index in range(2):
            reference.transformer.h[index] = dense_block(checkpoint, index)
        stored = Int4Linear(128, 640, QuantizationConfig(bits=8, group_size=-1))
        for part in ("qweight", "qzeros", "scales", "g_idx"):
            setattr(stored, part, checkpoint.read(f"lm_head.{part}"))
    with torch.inference_mode():
        hidden = reference.decode_hidden(reference.embed(IDS))
        expected, found = F.linear(hidden, stored.dequantize()), model(IDS).float()
    assert float((found - expected).norm() / expected.norm()) < tolerance
    head = model.lm_head
    assert isinstance(head, Int4Linear) and head.choice is not None
    assert head.choice.product == ("dense" if dtype == torch.float32 else "int8pack")


def test_eight_bits_are_nearer_than_four(tiny_folder: Path, mixed: Path, tmp_path: Path) -> None:
    """The layer with 8 bits loses a tenth of what it loses with 4, the head is reported, the divergence is smaller."""
    list(quantize(tiny_folder, tmp_path / "four", replace(RECIPE, eight_bits=(), lm_head_bits=4)))
    errors = []
    for folder in (mixed, tmp_path / "four"):
        receipt = read_receipt(folder)
        assert receipt is not None
        errors.append({f"h.{r['block']}.{r['layer']}": r["error"] for r in receipt["layers"]})
        assert len(receipt["cost"]["blocks"]) == 3 and headline(receipt)["worst_layer"] in (*errors[-1], "lm_head")
    for name in ("h.1.mlp.w1", "h.2.lm_head"):
        assert 0 < errors[0][name] < 0.1 * errors[1][name]
    conversations = [Conversation(tuple(range(n, n + 40))) for n in (260, 300, 340)]
    figures = [
        fidelity(tiny_folder, folder, conversations, load_tokenizer(tiny_folder))
        for folder in (mixed, tmp_path / "four")
    ]
    assert 0 < figures[0].all.kl_mean < figures[1].all.kl_mean


def test_fidelity_reads_the_head_as_it_is_stored(tiny_folder: Path, mixed: Path, tmp_path: Path) -> None:
    """With nothing but the head in 8 bits changed back to floats, the divergence changes by what the head loses."""
    tensors = load_file(mixed / "model.safetensors")
    words = {name: tensors.pop(name) for name in list(tensors) if name.startswith("lm_head.")}
    tensors["lm_head.weight"] = load_file(tiny_folder / "model.safetensors")["lm_head.weight"].half()
    copy = tmp_path / "float head"
    copy.mkdir()
    for name in ("config.json", "quantize_config.json"):
        raw = json.loads((mixed / name).read_text(encoding="utf-8"))
        raw.get("quantization_config", raw)["lm_head"] = False
        (copy / name).write_text(json.dumps(raw), encoding="utf-8")
    (copy / "qwen.tiktoken").write_bytes((mixed / "qwen.tiktoken").read_bytes())
    save_file(tensors, copy / "model.safetensors")
    conversations = [Conversation(tuple(range(n, n + 40))) for n in (260, 300, 340)]
    found = fidelity(copy, mixed, conversations, load_tokenizer(tiny_folder))
    models = [load_model(folder, torch.float32) for folder in (copy, mixed)]
    with torch.inference_mode():
        logs = [torch.cat([m(torch.tensor([c.ids]))[0, :-1].log_softmax(-1) for c in conversations]) for m in models]
    assert found.all.kl_mean == pytest.approx(float((logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean()), rel=1e-3)
    assert 0 < found.all.kl_mean < 1e-3 and words


def test_sizes_are_those_of_the_file(mixed: Path) -> None:
    """What is computed from the configuration is what the tensors take."""
    config, quantization = read_config(mixed)
    stored = sum(tensor.nbytes for tensor in load_file(mixed / "model.safetensors").values())
    assert weight_bytes(config, quantization) == stored


def test_a_tied_head_is_refused(tmp_path: Path, mixed: Path) -> None:
    """Where the head is the embedding it cannot be quantized: one line, for the writer and for the reader."""
    folder = write_tiny_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n != "lm_head.weight"}, folder / "model.safetensors")
    with pytest.raises(QuantizeError, match="tie_word_embeddings"):
        quantize(folder, tmp_path / "x", RECIPE)
    raw = json.loads((mixed / "config.json").read_text(encoding="utf-8")) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        read_config(tmp_path)


def test_gguf_has_the_same_weights(mixed: Path) -> None:
    """Layers of 8 bits become Q8_0 blocks, which the gguf package decodes to exactly the same weights."""
    path = mixed.parent / "mixed.gguf"
    write_gguf(mixed, path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with Checkpoint.open(mixed) as checkpoint:
        weight = dense_block(checkpoint, 1).mlp.w1.weight.detach().numpy()
        codes = unpack_rows(checkpoint.read("lm_head.qweight"), 8).float() - 128
        head = (codes * checkpoint.read("lm_head.scales").float()).T.numpy()
    for name, expected in (("blk.1.ffn_up.weight", weight), ("output.weight", head)):
        stored = tensors[name]
        assert stored.tensor_type == gguf.GGMLQuantizationType.Q8_0
        assert np.array_equal(gguf.dequantize(stored.data, stored.tensor_type), expected)
    assert tensors["blk.0.ffn_up.weight"].tensor_type == gguf.GGMLQuantizationType.Q4_0


@pytest.mark.parametrize("rows", [1, 3, int8_product.PREFILL_ROWS, 100])
def test_the_int8_product_is_the_float_one(rows: int) -> None:
    """For a token and for a prompt, the product of 8 bit weights is that of the weights it says it has."""
    generator = torch.Generator().manual_seed(rows)
    product = int8_product.Int8Pack(
        torch.randint(-128, 128, (600, 96), dtype=torch.int8, generator=generator), torch.rand(600, generator=generator)
    )
    x = torch.randn((rows, 96), generator=generator)
    expected, found = x.bfloat16().float() @ product.weight().T, product(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert float((found.float() - expected).norm() / expected.norm()) < 6e-3


def test_the_int8_product_is_taken_only_where_it_is_right() -> None:
    """One symmetric scale an output, bfloat16, inputs in blocks of 32 (torch reads beyond the end of others)."""
    cpu, bfloat16 = torch.device("cpu"), torch.bfloat16
    assert kernels.choose(cpu, bfloat16, 128, 64, 128, 8).product == "int8pack"
    assert "symmetric scale" in kernels.choose(cpu, bfloat16, 256, 64, 128, 8).reason
    assert "symmetric scale" in kernels.choose(cpu, bfloat16, 128, 64, 128, 8, sym=False).reason
    assert "blocks of 32" in kernels.choose(cpu, bfloat16, 72, 64, 72, 8).reason
    assert "float32" in kernels.choose(cpu, torch.float32, 128, 64, 128, 8).reason


def test_a_large_embedding_stays_in_its_file(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is the file's own bytes, rows come out in the model's dtype, and the logits are the same."""
    expected = load_model(mixed, torch.float32)
    monkeypatch.setattr("bellevl.sizes.MAPPED", 1)
    model = load_model(mixed, torch.float32)
    table = model.transformer.wte
    assert isinstance(table, MappedEmbedding) and not isinstance(expected.transformer.wte, MappedEmbedding)
    assert table.weight.dtype == torch.float16 and table(IDS).dtype == torch.float32 and model.dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(model(IDS), expected(IDS))
    config, quantization = read_config(mixed)
    assert mapped_bytes(config, quantization) == table.weight.nbytes and mapped_bytes(config, None) == 0
    chat = bellevl.Chat(model, load_tokenizer(mixed))
    assert list(chat.ask("你好", greedy=True, max_tokens=4))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_loaded_model_leaves_its_file_alone(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed and cast weights are read, not mapped: of the file's pages none stay but those of a mapped embedding."""

    def mapped() -> bool:
        return str(mixed / "model.safetensors") in Path("/proc/self/maps").read_text(encoding="utf-8")

    model = load_model(mixed, torch.bfloat16)
    assert not mapped() and model.dtype == torch.bfloat16
    monkeypatch.setattr("bellevl.sizes.MAPPED", 1)
    model = load_model(mixed, torch.bfloat16)
    assert mapped()
    del model


def test_layers_that_keep_their_words_do_not_share_them(tiny_folder: Path, tmp_path: Path) -> None:
    """Where a product multiplies with the words themselves, every layer has its own: the logits are those of floats."""
    list(quantize(tiny_folder, tmp_path / "int8", Recipe(method="rtn", bits=8, group_size=32)))
    model, exact = (load_model(tmp_path / "int8", dtype) for dtype in (torch.bfloat16, torch.float32))
    layers = [m for m in model.modules() if isinstance(m, Int4Linear)]
    assert {layer.choice.product for layer in layers if layer.choice} == {"dequantize"}
    with torch.inference_mode():
        expected, found = exact(IDS), model(IDS).float()
    assert float((found - expected).norm() / expected.norm()) < 0.06
