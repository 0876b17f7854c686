"""`--method nf4` and folders of that form: what is written, what is read, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bellevl import load_model
from bellevl.config import parse_quantization, read_config
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.evaluation.fidelity import dense_block
from bellevl.nf4 import levels
from bellevl.nf4_linear import Nf4Linear
from bellevl.nf4_state import ABSMAX, NESTED_ABSMAX, NESTED_TABLE, STATE, TABLE
from bellevl.quantization import HEAD, nf4_settings
from bellevl.sizes import weight_bytes
from quantize import Recipe, quantize
from quantize.record.receipt import headline, read_receipt

LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")
LAYER = "transformer.h.0.mlp.c_proj"

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def nf4_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint as NF4."""
    folder = tmp_path_factory.mktemp("nf4") / "model"
    list(quantize(tiny_folder, folder, Recipe(method="nf4")))
    return folder


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def changed(folder: Path, target: Path, tensors: dict[str, Tensor], settings: dict[str, Any] | None = None) -> Path:
    """A copy of a folder with some tensors and settings replaced."""
    shutil.copytree(folder, target)
    save_file(tensors_of(folder) | tensors, target / "model.safetensors")
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    raw["quantization_config"] |= settings or {}
    (target / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return target


def test_every_weight_is_a_level_of_its_block(tiny_folder: Path, nf4_folder: Path) -> None:
    """The model read back has, for every weight, the nearest of sixteen levels of its block of 64."""
    source, made = tensors_of(tiny_folder), load_model(nf4_folder, torch.float32)
    for index, block in enumerate(made.transformer.h):
        for layer in LAYERS:
            weight = source[f"transformer.h.{index}.{layer}.weight"].float()
            found = block.get_submodule(layer).dequantize()
            blocks = weight.reshape(-1, 64)
            scaled = levels() * blocks.abs().amax(1, keepdim=True)
            nearest = scaled.gather(1, (blocks[:, :, None] - scaled[:, None]).abs().argmin(2))
            assert torch.allclose(found.reshape(-1, 64), nearest, rtol=1e-6, atol=1e-9)


def test_what_stays_float_is_float16(tiny_folder: Path, nf4_folder: Path) -> None:
    """Everything but the blocks' linears is the source's tensor in float16, and only c_attn has a bias."""
    source, made = tensors_of(tiny_folder), tensors_of(nf4_folder)
    linears = {f"transformer.h.{i}.{layer}.weight" for i in range(2) for layer in LAYERS}
    kept = set(source) - linears
    assert all(torch.equal(made[name], source[name].half()) for name in kept)
    parts = {
        f"{name}{part}" for name in linears for part in ("", ".absmax", ".quant_map", STATE.removeprefix("weight"))
    }
    assert set(made) == kept | parts


def test_a_folder_says_how_to_read_it(tiny_folder: Path, nf4_folder: Path) -> None:
    """config.json has transformers' keys, there is no file of AutoGPTQ's, and the size is counted to the byte."""
    raw = json.loads((nf4_folder / "config.json").read_text(encoding="utf-8"))
    assert raw["quantization_config"] == nf4_settings() and raw["torch_dtype"] == "float16"
    assert not (nf4_folder / "quantize_config.json").exists()
    config, quantization = read_config(nf4_folder)
    assert quantization is not None and quantization.method == "nf4" and quantization.for_layer(HEAD) is None
    assert weight_bytes(config, quantization) == sum(t.nbytes for t in tensors_of(nf4_folder).values())


def test_the_receipt_has_every_layer(nf4_folder: Path) -> None:
    """It names the method and each layer's error, no calibration, no fallback and no setting that NF4 does not have."""
    receipt = read_receipt(nf4_folder)
    assert receipt is not None and receipt["recipe"] == {"method": "nf4", "bits": 4, "shard_bytes": 4_000_000_000}
    assert [layer["layer"] for layer in receipt["layers"]] == [*LAYERS, *LAYERS]
    assert all(0.05 < layer["error"] < 0.2 and layer["method"] == "nf4" for layer in receipt["layers"])
    assert receipt["fallbacks"] == [] and receipt["calibration"]["samples"] == 0
    assert headline(receipt)["method"] == "nf4" and "nf4" in (nf4_folder / "report.html").read_text(encoding="utf-8")


def test_twice_is_the_same_bytes(tiny_folder: Path, nf4_folder: Path, tmp_path: Path) -> None:
    """The same source gives the same weights and settings, in one file or in several."""
    list(quantize(tiny_folder, tmp_path / "again", Recipe(method="nf4", shard_bytes=200_000)))
    shards = sorted((tmp_path / "again").glob("model-*.safetensors"))
    assert len(shards) > 1
    parts = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    whole = tensors_of(nf4_folder)
    assert parts.keys() == whole.keys() and all(torch.equal(parts[name], whole[name]) for name in whole)
    assert (tmp_path / "again" / "config.json").read_bytes() == (nf4_folder / "config.json").read_bytes()


def test_fidelity_multiplies_with_the_same_weights(nf4_folder: Path) -> None:
    """A block as it is compared with the float model's has the weights and biases that a loaded model has."""
    from bellevl.checkpoint import Checkpoint

    made = load_model(nf4_folder, torch.float32)
    with Checkpoint.open(nf4_folder) as checkpoint:
        dense = dense_block(checkpoint, 1)
    for layer in LAYERS:
        one, other = dense.get_submodule(layer), made.transformer.h[1].get_submodule(layer)
        assert torch.equal(one.weight, other.dequantize())
        assert (one.bias is None) == (other.bias is None)
        assert one.bias is None or torch.equal(one.bias, other.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_loaded_model_computes_with_its_weights(nf4_folder: Path, dtype: torch.dtype) -> None:
    """Logits are those of the same model with its linears expanded, whatever it computes in."""
    model, plain = load_model(nf4_folder, dtype), load_model(nf4_folder, dtype)
    for block in plain.transformer.h:
        for layer in LAYERS:
            packed = block.get_submodule(layer)
            dense = torch.nn.Linear(packed.in_features, packed.out_features, packed.bias is not None, dtype=dtype)
            dense.weight.data = packed.dequantize().to(dtype)
            if packed.bias is not None:
                dense.bias.data = packed.bias
            owner, _, name = layer.rpartition(".")
            setattr(block.get_submodule(owner), name, dense)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        found, expected = model(ids).float(), plain(ids).float()
    assert (found - expected).abs().max() <= (1e-4 if dtype == torch.float32 else 0.1) * expected.abs().max()


def test_double_quantization_is_read(nf4_folder: Path, tmp_path: Path) -> None:
    """Absolute maxima stored as codes of a table, in blocks of 256 around an offset, give nearly the same model."""
    made = tensors_of(nf4_folder)
    parts: dict[str, Tensor] = {}
    for name in [name.removesuffix(f".{ABSMAX}") for name in made if name.endswith(ABSMAX)]:
        absmax = made[f"{name}.{ABSMAX}"]
        offset = float(absmax.mean())
        padded = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % 256)).view(-1, 256)
        scales, table = padded.abs().amax(1), torch.linspace(-1, 1, 256)
        codes = ((padded / scales[:, None] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        state = json.loads(bytes(made[f"{name}.{STATE}"].tolist()))
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
        parts |= {
            f"{name}.{ABSMAX}": codes.view(-1)[: len(absmax)].clone(),
            f"{name}.{NESTED_ABSMAX}": scales,
            f"{name}.{NESTED_TABLE}": table,
            f"{name}.{STATE}": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
        }
    folder = changed(nf4_folder, tmp_path / "double", parts, {"bnb_4bit_use_double_quant": True})
    one, other = load_model(nf4_folder, torch.float32), load_model(folder, torch.float32)
    layer = one.transformer.h[0].mlp.w1.dequantize()
    off = (other.transformer.h[0].mlp.w1.dequantize() - layer).abs().max()
    assert 0 < off < 0.01 * layer.abs().max()


def test_a_quantized_head_is_read(nf4_folder: Path, tmp_path: Path) -> None:
    """Where the list of float modules leaves the head out, as transformers then writes it, the head is NF4 too."""
    made = tensors_of(nf4_folder)
    head = Nf4Linear.from_weight(made[f"{HEAD}.weight"].float())
    parts = {f"{HEAD}.{name}": tensor for name, tensor in head.state_dict().items()}
    folder = changed(nf4_folder, tmp_path / "head", parts, {"llm_int8_skip_modules": ["transformer.visual"]})
    model = load_model(folder, torch.float32)
    assert isinstance(model.lm_head, Nf4Linear) and torch.equal(model.lm_head.dequantize(), head.dequantize())
    from bellevl.checkpoint import Checkpoint
    from bellevl.evaluation.fidelity import _Streamed

    with Checkpoint.open(folder) as checkpoint:
        streamed = _Streamed(checkpoint, [])
        streamed.finish()
        assert torch.equal(torch.cat(list(streamed._head_rows())), head.dequantize())


def test_a_float_module_is_read(tiny_folder: Path, nf4_folder: Path, tmp_path: Path) -> None:
    """A linear that the list names, by its whole name or the end of it, is read as floats."""
    source, made = tensors_of(tiny_folder), tensors_of(nf4_folder)
    for number, name in enumerate((LAYER, "mlp.c_proj")):
        layers = [LAYER] if number == 0 else [f"transformer.h.{i}.mlp.c_proj" for i in range(2)]
        target = tmp_path / str(number)
        listed = [*nf4_settings()["llm_int8_skip_modules"], name]
        changed(nf4_folder, target, {}, {"llm_int8_skip_modules": listed})
        kept = {n: t for n, t in made.items() if not n.startswith(tuple(layers))}
        save_file(kept | {f"{n}.weight": source[f"{n}.weight"] for n in layers}, target / "model.safetensors")
        model = load_model(target, torch.float32)
        assert torch.equal(model.get_submodule(LAYER).weight, source[f"{LAYER}.weight"])


def _as_text(state: dict[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


HOSTILE: dict[str, tuple[str, Callable[[Tensor], Tensor], str]] = {
    "NaN": (ABSMAX, lambda t: torch.full_like(t, float("nan")), "NaN"),
    "too many blocks": (ABSMAX, lambda t: t.repeat(3), "has shape"),
    "blocks in two rows": (ABSMAX, lambda t: t.view(2, -1), "has shape"),
    "half of the codes": ("weight", lambda t: t[: len(t) // 2].clone(), "has shape"),
    "float codes": ("weight", lambda t: t.float(), "not uint8"),
    "another table": (TABLE, lambda t: torch.linspace(-1, 1, 16), "levels"),
    "a state of nothing": (STATE, lambda t: t[:0].clone(), "JSON"),
    "a state of another shape": (
        STATE,
        lambda t: _as_text({"quant_type": "nf4", "blocksize": 64, "shape": [1 << 40, 1 << 40]}),
        "has shape",
    ),
    "a state of another block": (
        STATE,
        lambda t: _as_text({"quant_type": "nf4", "blocksize": 4096, "shape": [128, 128]}),
        "has shape",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_damaged_folders_are_one_error(nf4_folder: Path, tmp_path: Path, what: str) -> None:
    """Whatever is wrong with a layer, loading ends with one error that names its tensor."""
    part, harm, message = HOSTILE[what]
    name = f"{LAYER}.{part}"
    folder = changed(nf4_folder, tmp_path / "bad", {name: harm(tensors_of(nf4_folder)[name])})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert LAYER in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bnb_4bit_quant_type": "fp4"}, "bnb_4bit_quant_type"),
        ({"load_in_4bit": False, "load_in_8bit": True}, "load_in_4bit"),
        ({"load_in_4bit": "yes"}, "load_in_4bit"),
        ({"bnb_4bit_quant_storage": "bfloat16"}, "bnb_4bit_quant_storage"),
        ({"bnb_4bit_use_double_quant": 1}, "bnb_4bit_use_double_quant"),
        ({"llm_int8_skip_modules": "lm_head"}, "llm_int8_skip_modules"),
        ({"llm_int8_skip_modules": ["x"] * 100_000}, "llm_int8_skip_modules"),
        ({"quant_method": "awq"}, "quant_method"),
    ],
)
def test_other_forms_of_bitsandbytes_are_refused(changes: dict[str, Any], field: str) -> None:
    """FP4, 8 bits, other storage and settings of the wrong kind are refused by the name of the field."""
    with pytest.raises(CheckpointError, match=field):
        parse_quantization(nf4_settings() | changes, Path("config.json"))


def test_what_transformers_leaves_out_is_its_default() -> None:
    """Without a list of float modules the head stays float, and nothing is quantized twice."""
    raw = {"quant_method": "bitsandbytes", "_load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    quantization = parse_quantization(raw, Path("config.json"))
    assert quantization.for_layer(HEAD) is None and not quantization.double_quant
    assert quantization.for_layer(LAYER) is not None


def test_endless_lists_of_modules_take_no_time() -> None:
    """Names made to be slow to match are matched at once: they are names, not patterns."""
    listed = ["(a*)*" * 30 + "b"] * 200
    quantization = parse_quantization(nf4_settings() | {"llm_int8_skip_modules": listed}, Path("config.json"))
    assert quantization.for_layer(LAYER) is not None


@pytest.mark.parametrize("given", [{"bits": 8}, {"group_size": 64}, {"sym": False}, {"float_targets": True}])
def test_a_recipe_has_one_form_of_nf4(given: dict[str, Any]) -> None:
    """Settings that would promise another form than the one there is are refused."""
    with pytest.raises(QuantizeError, match="does not go with --method nf4"):
        Recipe(method="nf4", **given)
