"""Quantizing a checkpoint on disk: what comes out, how good it is, and what is refused."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_calibration import samples_of
from tiny import write_tiny_checkpoint
from torch import Tensor

from bellevl import load_model
from bellevl.checkpoint import Checkpoint
from bellevl.config import QuantizationConfig, read_config
from bellevl.errors import BellevlError, CheckpointError, QuantizeError
from bellevl.qlinear import Int4Linear
from bellevl.sizes import block_linears
from quantize import Progress, Recipe, quantize
from quantize.blocks.passes import RotaryTables, Streams
from quantize.blocks.reader import read_block
from quantize.blocks.stages import quantize_block
from quantize.meter import Stopwatch
from quantize.record.receipt import read_receipt
from quantize.storage.activations import Activations
from quantize.storage.layout import is_packed

RECIPE = Recipe(nsamples=6, seqlen=96)
IDS = torch.tensor([[260, 7, 99, 300, 41, 5, 290, 280, 17, 3, 301, 302]])


@pytest.fixture(scope="module")
def result(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    """The small checkpoint quantized in one go, and what the job told."""
    target = tmp_path_factory.mktemp("quantized") / "int4"
    return target, list(quantize(tiny_folder, target, RECIPE))


def test_result_has_autogptqs_layout(tiny_folder: Path, result: tuple[Path, list[Progress]]) -> None:
    """Five tensors stand for each layer of a block, bias always among them; everything else is the source in fp16."""
    source, found = load_file(tiny_folder / "model.safetensors"), load_file(result[0] / "model.safetensors")
    with safe_open(result[0] / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    with Checkpoint.open(tiny_folder) as checkpoint:
        shapes = block_linears(checkpoint.config)
    for block in range(2):
        for layer, (inputs, outputs) in shapes.items():
            name = f"transformer.h.{block}.{layer}"
            parts = {part: found[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales", "g_idx", "bias")}
            assert parts["qweight"].shape == (inputs // 8, outputs)
            assert parts["qzeros"].shape == (inputs // 128, outputs // 8)
            assert parts["scales"].shape == (inputs // 128, outputs)
            assert parts["g_idx"].tolist() == [i // 128 for i in range(inputs)]
            assert parts["qzeros"].unique().tolist() == [0x77777777]  # zero 8, stored minus one
            floats = {part: parts[part].dtype for part in ("scales", "bias")}
            assert floats == {"scales": torch.float16, "bias": torch.float16}
            bias = source.get(f"{name}.bias", torch.zeros(outputs))
            assert torch.equal(parts["bias"], bias.half())
    kept = {name for name in found if not is_packed(name)}
    assert kept == {name for name in source if not is_packed(name)}
    assert all(torch.equal(found[name], source[name].half()) for name in kept)


def test_configurations_say_how_it_is_stored(tiny_folder: Path, result: tuple[Path, list[Progress]]) -> None:
    """config.json and quantize_config.json carry AutoGPTQ's keys; vocabulary and sampling defaults are copied."""
    config = json.loads((result[0] / "config.json").read_text(encoding="utf-8"))
    quantization = json.loads((result[0] / "quantize_config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"] == quantization
    assert (config["fp16"], config["bf16"], config["torch_dtype"]) == (True, False, "float16")
    expected = {"bits": 4, "group_size": 128, "sym": True, "desc_act": False, "static_groups": False}
    expected |= {"damp_percent": 0.01, "true_sequential": True, "quant_method": "gptq", "checkpoint_format": "gptq"}
    assert expected.items() <= quantization.items()
    for name in ("qwen.tiktoken", "generation_config.json"):
        assert (result[0] / name).read_bytes() == (tiny_folder / name).read_bytes()
    assert not list(result[0].glob(".*")), "the job cleaned up after itself"


def test_progress_tells_every_layer(result: tuple[Path, list[Progress]]) -> None:
    """Each layer is reported once with its error, the fraction only grows, and the end is 1."""
    told = [(p.report.block, p.report.layer) for p in result[1] if p.report]
    layers = ["attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj"]
    assert told == [(block, layer) for block in range(2) for layer in layers]
    assert all(0 < p.report.error < 0.5 and p.report.method == "gptq" for p in result[1] if p.report)
    fractions = [p.fraction for p in result[1]]
    assert fractions == sorted(fractions)
    assert (result[1][-1].stage, fractions[-1]) == ("finish", pytest.approx(1.0))


def dequantized_folder(int4: Path, folder: Path) -> Path:
    """A float checkpoint of the weights that an int4 folder stands for."""
    folder.mkdir()
    for name in ("qwen.tiktoken", "generation_config.json"):
        shutil.copy(int4 / name, folder)
    config = json.loads((int4 / "config.json").read_text(encoding="utf-8"))
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = load_file(int4 / "model.safetensors")
    floats = {name: t.float() for name, t in tensors.items() if not is_packed(name) or name.endswith("c_attn.bias")}
    with Checkpoint.open(int4) as checkpoint:
        assert checkpoint.quantization is not None
        for block in range(checkpoint.config.num_hidden_layers):
            for layer, (inputs, outputs) in block_linears(checkpoint.config).items():
                name = f"transformer.h.{block}.{layer}"
                linear = Int4Linear(inputs, outputs, checkpoint.quantization)
                for part in ("qweight", "qzeros", "scales", "g_idx"):
                    setattr(linear, part, tensors[f"{name}.{part}"])
                floats[f"{name}.weight"] = linear.dequantize()
    save_file(floats, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06)])
def test_int4_model_answers_like_its_dequantized_weights(
    result: tuple[Path, list[Progress]], tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    """The loaded int4 model's logits are those of a float model with the same weights, within the dtype's noise."""
    reference = load_model(dequantized_folder(result[0], tmp_path / "float"), torch.float32)
    model = load_model(result[0], dtype)
    with torch.inference_mode():
        expected, found = reference(IDS), model(IDS).float()
    assert float((found - expected).norm() / expected.norm()) < tolerance


def test_gptq_keeps_the_blocks_output(golden: Path, tmp_path: Path) -> None:
    """Through a whole block, on the inputs it was calibrated on, the result is nearer to the float block than rounding.

    Rounding to nearest is the same pipeline with a Hessian that ties no inputs together.
    """
    generator = torch.Generator().manual_seed(0)
    folder = golden / "model" / "model"
    config, _ = read_config(folder)
    samples = [torch.randn(40, config.hidden_size, generator=generator) for _ in range(12)]
    rotary = RotaryTables(config)

    def run(spoil: bool) -> float:
        block, reference = (read_block(folder, config, 0) for _ in range(2))
        with (
            Activations(tmp_path / "stream", [40] * 12, config.hidden_size) as stream,
            Activations(tmp_path / "scratch", [40] * 12, config.hidden_size) as scratch,
        ):
            for n, x in enumerate(samples):
                stream.write(range(n, n + 1), x)
            with pytest.MonkeyPatch.context() as patch:
                if spoil:
                    patch.setattr("quantize.solver.hessian.HessianSum.finish", lambda self: torch.eye(len(self._sum)))
                list(quantize_block(block, 0, Streams(stream, scratch, None), rotary, Recipe(), Stopwatch()))
            off = [scratch.read(range(n, n + 1)) - reference(x[None], rotary(40))[0] for n, x in enumerate(samples)]
        return float(torch.stack(off).norm())

    with torch.inference_mode():
        assert run(spoil=False) < 0.9 * run(spoil=True)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(group_size=32, sym=False, nsamples=3, seqlen=64),
        Recipe(group_size=-1, desc_act=False, nsamples=3, seqlen=64),
        Recipe(desc_act=True, static_groups=False, nsamples=3, seqlen=64),
        Recipe(group_size=64, true_sequential=False, nsamples=3, seqlen=64),
        Recipe(bits=8, nsamples=3, seqlen=64),
        Recipe(bits=8, method="rtn", group_size=-1, sym=False),
        Recipe(float_targets=True, true_sequential=False, picture_weight=0.5, nsamples=3, seqlen=64),
    ],
)
def test_every_option_gives_a_model_that_loads(tiny_folder: Path, tmp_path: Path, recipe: Recipe) -> None:
    """Asymmetric, other groups, act order, parallel layers and float targets load again and say what they are."""
    list(quantize(tiny_folder, tmp_path / "int4", recipe))
    model = load_model(tmp_path / "int4")
    assert model.quantization == recipe.quantization()
    with torch.inference_mode():
        assert bool(model(IDS).isfinite().all())


def test_eight_bits_are_nearly_the_float_model(
    tiny_folder: Path, result: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    """With 8 bits layer errors are under a tenth of those with 4, logits a sixth as far off (the rest is float16)."""
    list(quantize(tiny_folder, tmp_path / "int8", Recipe(bits=8, nsamples=6, seqlen=96)))
    four, eight = read_receipt(result[0]), read_receipt(tmp_path / "int8")
    assert four is not None and eight is not None
    for coarse, fine in zip(four["layers"], eight["layers"], strict=True):
        assert fine["error"] < coarse["error"] / 10
    with torch.inference_mode():
        exact, *logits = (load_model(folder)(IDS) for folder in (tiny_folder, result[0], tmp_path / "int8"))
    off = [float((found - exact).norm()) for found in logits]
    assert off[1] < off[0] / 6
    packed = [
        sum(t.nbytes for n, t in load_file(f / "model.safetensors").items() if ".qweight" in n)
        for f in (result[0], tmp_path / "int8")
    ]
    assert packed[1] == 2 * packed[0]


def test_sharded_result_is_the_same_model(
    tiny_folder: Path, result: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    """With a small limit the tensors go into several files with an index, no file above the limit, none changed."""
    target = tmp_path / "int4"
    list(quantize(tiny_folder, target, Recipe(nsamples=6, seqlen=96, shard_bytes=200_000)))
    index = json.loads((target / "model.safetensors.index.json").read_text(encoding="utf-8"))
    shards = sorted(target.glob("*.safetensors"))
    assert sorted(set(index["weight_map"].values())) == [path.name for path in shards]
    assert len(shards) > 1
    assert all(path.stat().st_size < 210_000 for path in shards)
    whole = load_file(result[0] / "model.safetensors")
    parts = {name: tensor for path in shards for name, tensor in load_file(path).items()}
    assert set(parts) == set(whole) == set(index["weight_map"])
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in whole.values())


def test_text_only_checkpoint(tmp_path: Path) -> None:
    """A model without a vision encoder is calibrated on dialogues alone and loads again."""
    source = write_tiny_checkpoint(tmp_path / "float", visual=None)
    list(quantize(source, tmp_path / "int4", RECIPE))
    assert load_model(tmp_path / "int4").config.visual is None


def refusal(source: Path, target: Path, recipe: Recipe = RECIPE, calibration: Any = None) -> BellevlError:
    """The error of a job that must not start; nothing has been written by then."""
    with pytest.raises(BellevlError) as caught:
        quantize(source, target, recipe, calibration)
    return caught.value


def test_refuses_bad_folders(tiny_folder: Path, result: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    """The source itself, a finished model, a folder with other files and an int4 source are refused by the call."""
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "notes.txt").write_text("mine", encoding="utf-8")
    assert refusal(tiny_folder, tiny_folder).message == "quantize.same_folder"
    assert refusal(tiny_folder, result[0]).message == "quantize.exists"
    assert refusal(tiny_folder, occupied).message == "quantize.not_empty"
    assert refusal(tiny_folder, occupied / "notes.txt").message == "quantize.not_empty"
    assert refusal(result[0], tmp_path / "new").message == "quantize.already_int4"
    assert refusal(tmp_path / "nowhere", tmp_path / "new").message == "model.missing"
    assert not (tmp_path / "new").exists()
    assert (occupied / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_refuses_a_job_with_other_settings(tiny_folder: Path, tmp_path: Path) -> None:
    """An unfinished job is not gone on with under another recipe, calibration set or source."""
    target = tmp_path / "int4"
    job = quantize(tiny_folder, target, RECIPE)
    next(job)
    job.close()  # type: ignore[attr-defined]
    error = refusal(tiny_folder, target, Recipe(nsamples=6, seqlen=96, sym=False))
    assert (error.message, error.facts["field"]) == ("quantize.other_job", "sym")
    other = write_tiny_checkpoint(tmp_path / "other", seq_length=128)
    assert refusal(other, target).facts["field"] == "source"


def test_refuses_groups_that_do_not_fit(tmp_path: Path) -> None:
    """A width that is no multiple of the group size is refused before anything is read."""
    source = write_tiny_checkpoint(tmp_path / "float", intermediate_size=2 * 192)
    error = refusal(source, tmp_path / "int4")
    assert (error.message, error.facts["name"]) == ("quantize.option", "group_size")


@pytest.mark.parametrize("part", ["mlp.w2.weight", "ln_1.weight"])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, part: str) -> None:
    """NaN in a weight stops the job with the tensor's name."""
    source = write_tiny_checkpoint(tmp_path / "float")
    tensors = load_file(source / "model.safetensors")
    tensors[f"transformer.h.1.{part}"].view(-1)[3] = float("nan")
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        list(quantize(source, tmp_path / "int4", RECIPE))
    assert caught.value.message == "model.not_finite"
    assert f"transformer.h.1.{part}" in str(caught.value)


def test_activations_that_are_not_finite_are_named(tmp_path: Path) -> None:
    """Weights so large that activations overflow stop the job with the block's number."""
    source = write_tiny_checkpoint(tmp_path / "float")
    tensors = load_file(source / "model.safetensors")
    tensors["transformer.h.0.mlp.w1.weight"] *= 1e38
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(QuantizeError) as caught:
        list(quantize(source, tmp_path / "int4", RECIPE))
    assert caught.value.message == "quantize.not_finite"
    assert caught.value.facts["block"] == 0


def test_damaged_shard_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    """A source that is cut short is refused by the call."""
    source = shutil.copytree(tiny_folder, tmp_path / "float")
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert refusal(source, tmp_path / "int4").message == "model.damaged_shard"


def rounded(folder: Path, quantization: QuantizationConfig) -> Any:
    """The float model in `folder` with every linear of its blocks rounded to nearest."""
    model = load_model(folder, torch.float32)
    for block in model.transformer.h:
        for owner, name in ((block.attn, "c_attn"), (block.attn, "c_proj"), (block.mlp, "w1"), (block.mlp, "w2")):
            linear = getattr(owner, name)
            setattr(owner, name, Int4Linear.from_weight(linear.weight, quantization, linear.bias))
        block.mlp.c_proj = Int4Linear.from_weight(block.mlp.c_proj.weight, quantization)
    return model


def test_golden_model_keeps_its_predictions(golden: Path, tmp_path: Path) -> None:
    """On prompts it was not calibrated on, the int4 golden model's KL divergence is under half of rounding's."""
    source = shutil.copytree(golden / "model" / "model", tmp_path / "float")
    words = [bytes([n]) for n in range(256)] + [bytes([97, 97 + n % 26, 98 + n // 26]) for n in range(30)]
    lines = (f"{base64.b64encode(word).decode()} {rank}\n" for rank, word in enumerate(words))
    (source / "qwen.tiktoken").write_text("".join(lines), encoding="ascii")
    recipe = Recipe(nsamples=16, seqlen=64)
    list(quantize(source, tmp_path / "int4", recipe))
    reference, int4 = load_model(source, torch.float32), load_model(tmp_path / "int4", torch.float32)
    held_out = samples_of(source, None, Recipe(nsamples=6, seqlen=64, seed=1))

    def predictions(model: Any, n: int) -> Tensor:
        sample = held_out.samples[n]
        features = model.encode_images(held_out.pixels(n, 112)) if sample.pictures else None
        return model(torch.tensor([sample.ids]), features).log_softmax(-1)

    def divergence(model: Any) -> float:
        """Mean KL(float || model) over all positions."""
        both = [(predictions(reference, n), predictions(model, n)) for n in range(len(held_out.samples))]
        return float(torch.cat([(p.exp() * (p - q)).sum(-1)[0] for p, q in both]).mean())

    with torch.inference_mode():
        assert divergence(int4) < 0.5 * divergence(rounded(source, recipe.quantization()))
