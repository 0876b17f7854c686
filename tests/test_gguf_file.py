"""GGUF files, read by the package that defines them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bellevl import load_tokenizer
from bellevl.checkpoint import Checkpoint
from bellevl.errors import QuantizeError
from bellevl.evaluation.fidelity import dense_block
from quantize import Recipe, quantize
from quantize.storage.gguf_file import merges, write_gguf

gguf = pytest.importorskip("gguf")

NAMES = {
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_up": "mlp.w1",
    "ffn_gate": "mlp.w2",
    "ffn_down": "mlp.c_proj",
}


@pytest.fixture(scope="module")
def int4(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint quantized."""
    target = tmp_path_factory.mktemp("gguf") / "int4"
    list(quantize(tiny_folder, target, Recipe(nsamples=3, seqlen=64)))
    return target


@pytest.fixture(scope="module")
def written(int4: Path) -> Path:
    """The same as a GGUF file."""
    path = int4.parent / "模型 1.gguf"
    assert write_gguf(int4, path) == path.stat().st_size
    return path


def test_every_weight_is_the_same(int4: Path, written: Path) -> None:
    """Decoded by the gguf package, each layer has exactly the weights of the checkpoint, and nothing is missing."""
    reader = gguf.GGUFReader(written)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    with Checkpoint.open(int4) as checkpoint:
        for index in range(checkpoint.config.num_hidden_layers):
            block = dense_block(checkpoint, index)
            for name, layer in NAMES.items():
                stored = tensors.pop(f"blk.{index}.{name}.weight")
                assert stored.tensor_type == gguf.GGMLQuantizationType.Q4_0
                found = gguf.dequantize(stored.data, stored.tensor_type)
                weight = block.get_submodule(layer).weight.detach().numpy()
                assert np.array_equal(found, weight), name
            bias = tensors.pop(f"blk.{index}.attn_qkv.bias").data
            assert np.array_equal(bias, block.attn.c_attn.bias.detach().numpy())
            for name, norm in (("attn_norm", block.ln_1), ("ffn_norm", block.ln_2)):
                assert np.array_equal(tensors.pop(f"blk.{index}.{name}.weight").data, norm.weight.detach().numpy())
        for name, source in (("token_embd", "transformer.wte"), ("output", "lm_head")):
            assert np.array_equal(tensors.pop(f"{name}.weight").data, checkpoint.read(f"{source}.weight").numpy())
        norm = checkpoint.read("transformer.ln_f.weight").float().numpy()
        assert np.array_equal(tensors.pop("output_norm.weight").data, norm)
    assert not tensors


def test_what_the_file_says_of_the_model(int4: Path, written: Path) -> None:
    """Architecture, sizes and vocabulary are the model's; every row of the embedding has a token."""
    fields = gguf.GGUFReader(written).fields

    def value(name: str) -> object:
        return fields[name].contents()

    assert value("general.architecture") == "qwen"
    sizes = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
    assert [value(f"qwen.{name}") for name in sizes] == [2, 128, 256, 1]
    tokenizer = load_tokenizer(int4)
    tokens = value("tokenizer.ggml.tokens")
    assert isinstance(tokens, list) and len(tokens) == 640 == len(set(tokens))
    assert tokens[tokenizer.im_end_id] == "<|im_end|>" and value("tokenizer.ggml.eos_token_id") == tokenizer.im_end_id


def test_merges_are_those_of_the_ranks() -> None:
    """Every piece that joining makes has the pair it was made of, in the order of the ranks; others have none."""
    ranks = [bytes([n]) for n in range(256)] + [b"ab", b"abc", b"xyz", b" a"]
    assert list(merges(ranks)) == ["a b", "ab c", "Ġ a"]


def test_what_cannot_be_exact_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """Float weights and asymmetric ones are refused with the reason, and nothing is written."""
    list(quantize(tiny_folder, tmp_path / "asym", Recipe(nsamples=3, seqlen=64, sym=False)))
    wrongs = ((tiny_folder, "not int4"), (tmp_path / "asym", "asymmetric"))
    for folder, reason in wrongs:
        with pytest.raises(QuantizeError, match=reason):
            write_gguf(folder, tmp_path / "x.gguf")
    assert not list(tmp_path.glob("x.*"))


def test_pieces_make_no_difference(int4: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few outputs are made at a time, the file is the same."""
    monkeypatch.setattr("quantize.storage.gguf_file.PIECE", 48)
    write_gguf(int4, int4.parent / "pieces.gguf")
    assert (int4.parent / "pieces.gguf").read_bytes() == written.read_bytes()
