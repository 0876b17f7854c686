"""The offline rotation: orthogonal, and a turned model is the same function."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folders import contents, stop
from safetensors.torch import load_file, save_file
from tiny import write_tiny_checkpoint

from bellevl import Chat, load_model, load_tokenizer
from bellevl.config import read_config
from bellevl.errors import QuantizeError
from bellevl.packing import unpack_rows
from quantize import Recipe, quantize
from quantize.blocks.reader import read_block
from quantize.record.estimate import estimate
from quantize.record.receipt import read_receipt
from quantize.record.report import report_page
from quantize.storage.layout import block_prefix, is_packed
from quantize.task import Work, prepare
from quantize.transform import Orthogonal, Rotation

ROOT = Path(__file__).parents[1]
RECIPE = Recipe(nsamples=6, seqlen=96, rotate=True)
IDS = torch.tensor([[260, 7, 99, 300, 41, 5, 290, 280, 17, 3, 301, 302]])


def turned(source: Path, folder: Path, seed: int = 0) -> Path:
    """A float checkpoint of the turned model."""
    shutil.copytree(source, folder)
    config, _ = read_config(source)
    rotation, tensors = Rotation(config, seed), load_file(source / "model.safetensors")
    last_norm = tensors["transformer.ln_f.weight"]
    changed = {name: rotation.rows(name, tensor, last_norm) for name, tensor in tensors.items()}
    for index in range(config.num_hidden_layers):
        block = read_block(source, config, index)
        rotation.block(block, index)
        changed |= {block_prefix(index) + name: tensor for name, tensor in block.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("width", [1, 2, 7, 24, 64, 256, 4096, 5120])
def test_rotation_is_orthogonal_and_mixes_evenly(width: int) -> None:
    """Any width has an orthogonal matrix; none of its entries is larger than sqrt(2 / odd part) / sqrt(power of 2)."""
    rotation = Orthogonal.draw((width,), torch.Generator().manual_seed(3))
    chosen = torch.randperm(width, generator=torch.Generator().manual_seed(4))[:48]
    rows = rotation.turn(torch.eye(width)[chosen])
    assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5)
    odd = width // (width & -width)
    assert float(rows.abs().max()) <= (2 if odd > 1 else 1) ** 0.5 / width**0.5 + 1e-6


def test_rotation_of_heads_keeps_them_apart() -> None:
    """Of vectors of several heads each is turned in itself, each with signs of its own."""
    rotation = Orthogonal.draw((3, 8), torch.Generator().manual_seed(3))
    matrix = rotation.turn(torch.eye(24))
    heads = matrix.unflatten(0, (3, 8)).unflatten(2, (3, 8))
    for one in range(3):
        for other in range(3):
            assert bool(heads[one, :, other].any()) == (one == other)
    assert not torch.equal(heads[0, :, 0], heads[1, :, 1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_attention_heads": 4, "kv_channels": 32},
        {"hidden_size": 80, "num_attention_heads": 2, "kv_channels": 40, "visual": None},
    ],
    ids=["pictures", "heads", "width of 5 x 16"],
)
def test_turned_model_is_the_same_function(changes: dict[str, object], tmp_path: Path) -> None:
    """Logits of the turned float model are the original's up to rounding, with a picture and without; norms are ones
    and no matrix is as it was."""
    source = write_tiny_checkpoint(tmp_path / "source", **changes)
    weights = load_file(source / "model.safetensors")
    generator = torch.Generator().manual_seed(2)
    noisy = {
        name: 1 + torch.rand(tensor.shape, generator=generator) if ".ln_" in name else tensor
        for name, tensor in weights.items()
    }
    save_file(noisy, source / "model.safetensors")
    folder = turned(source, tmp_path / "turned", seed=5)
    models = [load_model(path) for path in (source, folder)]
    with torch.inference_mode():
        expected, found = (model(IDS) for model in models)
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        visual = models[0].config.visual
        if visual is not None:
            ids = torch.cat([IDS, torch.tensor([[visual.image_start_id, 1, 1, 1, 1, visual.image_start_id + 1, 7]])], 1)
            pixels = torch.randn((1, 3, 56, 56), generator=torch.Generator().manual_seed(1))
            expected, found = (model(ids, model.encode_images(pixels)) for model in models)
            assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    tensors = load_file(folder / "model.safetensors")
    kept = {name for name in noisy if torch.equal(tensors[name], noisy[name])}
    assert kept == {name for name in noisy if ".visual." in name and name != "transformer.visual.proj"}
    norms = [name for name in tensors if ".visual." not in name and ".ln_" in name]
    assert len(norms) == 5
    assert all(bool((tensors[name] == 1).all()) for name in norms)


def test_rotation_does_not_depend_on_threads() -> None:
    """At the 14B's width the turned rows are the same bits whatever the number of threads."""
    rotation = Orthogonal.draw((5120,), torch.Generator().manual_seed(3))
    x = torch.randn((300, 5120), generator=torch.Generator().manual_seed(1))
    found, threads = [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(rotation.turn(x))
    torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_rotation_follows_its_seed(tiny_folder: Path, tmp_path: Path) -> None:
    """The same seed gives the same bytes, another one others."""
    one, same, other = (turned(tiny_folder, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    data = [(folder / "model.safetensors").read_bytes() for folder in (one, same, other)]
    assert data[0] == data[1]
    assert data[0] != data[2]


def test_rotation_refuses_tied_embeddings(tmp_path: Path) -> None:
    """A model whose head is its embedding cannot be turned: that is said before anything is written."""
    source = write_tiny_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    with pytest.raises(QuantizeError, match="tie_word_embeddings"):
        quantize(source, tmp_path / "int4", RECIPE)
    assert not (tmp_path / "int4").exists()


@pytest.fixture(scope="module")
def rotated(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint turned and quantized in one go."""
    target = tmp_path_factory.mktemp("rotated") / "int4"
    list(quantize(tiny_folder, target, RECIPE))
    return target


def test_result_is_that_of_the_turned_model(tiny_folder: Path, rotated: Path, tmp_path: Path) -> None:
    """Quantizing with the option gives what quantizing a turned checkpoint gives: the same float16 tensors, in the
    first layer the same codes but for few that lie between two, and neighbouring codes in the rest of the block, which
    makes good for them."""
    source = turned(tiny_folder, tmp_path / "turned")
    list(quantize(source, tmp_path / "int4", replace(RECIPE, rotate=False)))
    expected, found = (load_file(folder / "model.safetensors") for folder in (tmp_path / "int4", rotated))
    assert set(expected) == set(found)
    for name in (name for name in found if not is_packed(name)):
        assert torch.equal(found[name], expected[name]), name
    for name in (name for name in found if name.startswith("transformer.h.0.") and name.endswith("qweight")):
        codes, others = unpack_rows(found[name]), unpack_rows(expected[name])
        assert float((codes.float() - others.float()).abs().mean()) < 0.5, name
        assert "c_attn" not in name or float((codes == others).float().mean()) > 0.9, name


def test_eight_bits_of_the_turned_model_predict_like_the_float(tiny_folder: Path, tmp_path: Path) -> None:
    """Turned and rounded to 8 bits, with its head or without, the model is about as near to the float model as it is
    without turning."""
    plain = replace(RECIPE, bits=8, rotate=False)
    recipes = (plain, replace(plain, rotate=True), replace(plain, rotate=True, lm_head_bits=8))
    lost = []
    with torch.inference_mode():
        expected = load_model(tiny_folder)(IDS)
        for number, recipe in enumerate(recipes):
            target = tmp_path / f"int8-{number}"
            list(quantize(tiny_folder, target, recipe))
            lost.append(float((load_model(target)(IDS) - expected).norm() / expected.norm()))
    assert max(lost) < 1.5 * lost[0]
    assert lost[0] < 0.15


@pytest.mark.parametrize(
    "changes",
    [{"float_targets": True}, {"method": "rtn"}, {"group_size": -1, "sym": False, "true_sequential": False}],
    ids=["float targets", "nearest", "one group, asymmetric, in parallel"],
)
def test_other_options_go_with_it(tiny_folder: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    """Turned before, 8 bits lose little whatever else is chosen, and the folder says what it is."""
    recipe = replace(RECIPE, bits=8, **changes)  # type: ignore[arg-type]
    list(quantize(tiny_folder, tmp_path / "int8", recipe))
    model = load_model(tmp_path / "int8")
    assert model.quantization == recipe.quantization()
    with torch.inference_mode():
        expected = load_model(tiny_folder)(IDS)
        assert (model(IDS) - expected).norm() < 0.3 * expected.norm()


def test_interrupted_anywhere_it_ends_with_the_same_bytes(tiny_folder: Path, rotated: Path, tmp_path: Path) -> None:
    """A turned job goes on after an interruption as if there had been none; without the option it is another job."""
    steps = len(list(quantize(tiny_folder, tmp_path / "whole", RECIPE)))
    assert contents(tmp_path / "whole") == contents(rotated)
    for at in (4, steps - 12, steps - 3):
        target = tmp_path / f"stopped-{at}"
        stop(tiny_folder, target, RECIPE, at)
        with pytest.raises(QuantizeError, match="rotate"):
            quantize(tiny_folder, target, replace(RECIPE, rotate=False))
        list(quantize(tiny_folder, target, RECIPE))
        assert contents(target) == contents(rotated)


def test_receipt_report_and_estimate_know_of_it(tiny_folder: Path, rotated: Path, tmp_path: Path) -> None:
    """The receipt and its page name the option; the estimate counts the turning, which needs no disk."""
    receipt = read_receipt(rotated)
    assert receipt is not None
    assert receipt["recipe"]["rotate"] is True
    assert "<td>rotate</td><td>True</td>" in report_page(receipt, "tiny")
    plain = replace(RECIPE, rotate=False)
    works = [Work.of(prepare(tiny_folder, tmp_path / "int4", recipe, None)) for recipe in (plain, RECIPE)]
    assert works[1].block > works[0].block
    assert works[1].copy > works[0].copy
    one, other = (estimate(tiny_folder, tmp_path / "int4", recipe) for recipe in (plain, RECIPE))
    assert one.disk_bytes == other.disk_bytes


def test_embedded_model_still_answers(tmp_path: Path) -> None:
    """Turned and rounded, without calibration, the embedded model sees and says what it did."""
    list(quantize(ROOT / "models" / "nano", tmp_path / "int8", Recipe(method="rtn", bits=8, rotate=True)))
    folders = (ROOT / "models" / "nano", tmp_path / "int8")
    picture = ROOT / "examples" / "cat.png"
    chats = [Chat(load_model(folder), load_tokenizer(folder)) for folder in folders]
    expected, found = ("".join(chat.ask("这是什么？", picture, greedy=True)) for chat in chats)
    assert "猫" in expected
    assert found == expected
