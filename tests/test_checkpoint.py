"""Model folders: what loads, and the one clear line for everything that must not."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import bellevl
from bellevl.checkpoint import Checkpoint, default_dtype
from bellevl.config import QuantizationConfig, read_config
from bellevl.errors import CheckpointError, DeviceError
from bellevl.qlinear import Int4Linear

GOLDEN = Path(__file__).parent / "golden" / "model" / "model"
LANGUAGE, VISION = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "model"))


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a JSON file in place."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")


def refused(folder: Path, message: str) -> CheckpointError:
    """Loading raises CheckpointError `message`, in one line with cause and cure."""
    with pytest.raises(CheckpointError) as caught:
        bellevl.load_model(folder)
    assert caught.value.message == message
    assert "\n" not in str(caught.value) and caught.value.hint
    return caught.value


def test_loads_as_stored_or_as_asked(folder: Path) -> None:
    """dtype is honoured; a small model on the CPU is float32 by default; names are the checkpoint's."""
    assert bellevl.load_model(folder).dtype == torch.float32
    model = bellevl.load_model(folder, dtype=torch.bfloat16)
    stored = load_file(folder / LANGUAGE) | load_file(folder / VISION)
    assert {n: tuple(t.shape) for n, t in model.state_dict().items()} == {n: tuple(t.shape) for n, t in stored.items()}
    assert all(torch.equal(t, stored[n]) for n, t in model.state_dict().items())


def test_single_file_and_bin_load_the_same(folder: Path, tmp_path: Path) -> None:
    """One safetensors file without an index and a pickled .bin of plain tensors give the same weights."""
    tensors = load_file(folder / LANGUAGE) | load_file(folder / VISION)
    expected = bellevl.load_model(folder).state_dict()
    for name in (LANGUAGE, VISION, INDEX):
        (folder / name).unlink()
    save_file(tensors, folder / "model.safetensors")
    assert all(torch.equal(t, expected[n]) for n, t in bellevl.load_model(folder).state_dict().items())
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert all(torch.equal(t, expected[n]) for n, t in bellevl.load_model(folder).state_dict().items())


def test_a_bin_of_the_old_form_loads(folder: Path) -> None:
    """A .bin from before zip archives, which cannot be memory-mapped, is read all the same."""
    tensors = load_file(folder / LANGUAGE) | load_file(folder / VISION)
    for name in (LANGUAGE, VISION, INDEX):
        (folder / name).unlink()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(bellevl.load_model(folder).lm_head.weight, tensors["lm_head.weight"].float())


def test_safetensors_go_before_bin(folder: Path) -> None:
    """An index of .bin files that a conversion left behind does not hide the safetensors file."""
    save_file(load_file(folder / LANGUAGE) | load_file(folder / VISION), folder / "model.safetensors")
    (folder / LANGUAGE).unlink()
    (folder / VISION).unlink()
    (folder / INDEX).rename(folder / "pytorch_model.bin.index.json")
    bellevl.load_model(folder)


def test_text_only_model_loads(folder: Path) -> None:
    """Without `visual` in config.json and without its tensors, the folder is a text-only Qwen."""
    edit(folder / "config.json", lambda raw: raw.pop("visual"))
    (folder / VISION).unlink()
    edit(
        folder / INDEX,
        lambda raw: raw.update(weight_map={n: f for n, f in raw["weight_map"].items() if f == LANGUAGE}),
    )
    model = bellevl.load_model(folder)
    assert model(torch.tensor([[1, 2, 500, 3]])).shape == (1, 4, 512)


def test_old_tables_are_ignored(folder: Path) -> None:
    """Rotary and mask tables of old checkpoints do not disturb."""
    tensors = load_file(folder / LANGUAGE)
    tensors["transformer.h.0.attn.rotary_emb.inv_freq"] = torch.ones(32)
    tensors["transformer.h.1.attn.masked_bias"] = torch.ones(1)
    save_file(tensors, folder / LANGUAGE)
    edit(folder / INDEX, lambda raw: raw["weight_map"].update(dict.fromkeys(tensors, LANGUAGE)))
    bellevl.load_model(folder)


class Evil:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/tmp/bellevl-was-here", "w"))


def test_a_pickle_with_code_is_not_run(folder: Path) -> None:
    """A .bin that holds more than tensors is refused and nothing in it is executed."""
    for name in (LANGUAGE, VISION, INDEX):
        (folder / name).unlink()
    torch.save({"transformer.wte.weight": Evil()}, folder / "pytorch_model.bin")
    refused(folder, "model.pickle")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        bellevl.load_model(folder)
    assert not Path("/tmp/bellevl-was-here").exists()


@pytest.mark.parametrize("data", [b"", b"0", b"\xff" * 64, b"\x80\x02R.", b"PK\x03\x04" + bytes(99)])
def test_a_bin_of_other_bytes(folder: Path, data: bytes) -> None:
    """Whatever stands in a .bin file, refusing it is one line."""
    for name in (LANGUAGE, VISION, INDEX):
        (folder / name).unlink()
    (folder / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        bellevl.load_model(folder)
    torch.save({1: torch.ones(2)}, folder / "pytorch_model.bin")
    refused(folder, "model.pickle")


def test_remote_code_is_never_touched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python files in the folder, which config.json's auto_map names, are not imported."""
    (folder / "modeling_qwen.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    (folder / "configuration_qwen.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    bellevl.load_model(folder)


def test_missing_folder_and_files(folder: Path, tmp_path: Path) -> None:
    """No folder, no config, no weights, and an index naming a file that is not there: each has its own line."""
    refused(tmp_path / "nowhere", "model.missing")
    error = None
    (folder / VISION).rename(folder / "elsewhere")
    error = refused(folder, "model.missing_shard")
    assert VISION in str(error)
    (folder / INDEX).unlink()
    (folder / LANGUAGE).unlink()
    refused(folder, "model.no_weights")
    (folder / "config.json").unlink()
    refused(folder, "model.no_config")
    refused(tmp_path / ("long" * 2000), "model.missing")


def test_files_that_may_not_be_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without permission is refused with the system's reason, not with "no config.json"."""
    look = Path.stat

    def deny(path: Path, **options: Any) -> Any:
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", deny)
    monkeypatch.setattr(Path, "read_text", deny)
    assert "Permission denied" in str(refused(folder, "model.bad_json"))


def test_index_may_not_leave_the_folder(folder: Path) -> None:
    """A shard named ../x is refused before anything is opened."""
    edit(
        folder / INDEX,
        lambda raw: raw["weight_map"].update({"lm_head.weight": "../model-00001-of-00002.safetensors"}),
    )
    refused(folder, "model.outside")


@pytest.mark.parametrize("shard", ["", "..", "long" * 2000, "half\ud83d", "nul\0", "图片.safetensors"])
def test_index_with_odd_names(folder: Path, shard: str) -> None:
    """An index that names what no file can be called is refused like one that names a missing file."""
    edit(folder / INDEX, lambda raw: raw["weight_map"].update({"lm_head.weight": shard}))
    refused(folder, "model.missing_shard")


@pytest.mark.parametrize("keep", [0, 4, 200, 100_000])
def test_truncated_shard(folder: Path, keep: int) -> None:
    """A shard cut short anywhere is named, whatever the index promises."""
    shard = folder / VISION
    shard.write_bytes(shard.read_bytes()[:keep])
    assert VISION in str(refused(folder, "model.damaged_shard"))


def test_garbage_shard(folder: Path) -> None:
    """A header that claims an absurd length is refused."""
    (folder / VISION).write_bytes(b"\xff" * 64)
    refused(folder, "model.damaged_shard")


def test_wrong_and_missing_and_extra_tensors(folder: Path) -> None:
    """A tensor of another shape, a missing one and one too many are named before weights are read."""
    whole = load_file(folder / VISION)
    save_file(whole | {"transformer.visual.proj": torch.zeros(256, 128)}, folder / VISION)
    assert "transformer.visual.proj" in str(refused(folder, "model.shape"))
    save_file({n: t for n, t in whole.items() if n != "transformer.visual.proj"}, folder / VISION)
    refused(folder, "model.missing_tensor")
    edit(folder / INDEX, lambda raw: raw["weight_map"].pop("transformer.visual.proj"))
    refused(folder, "model.missing_tensor")
    save_file(whole | {"transformer.visual.extra": torch.zeros(1)}, folder / VISION)
    edit(
        folder / INDEX,
        lambda raw: raw["weight_map"].update(dict.fromkeys([*whole, "transformer.visual.extra"], VISION)),
    )
    assert "transformer.visual.extra" in str(refused(folder, "model.extra_tensor"))


def test_weights_that_are_no_floats(folder: Path) -> None:
    """A weight stored as whole numbers is refused by name."""
    tensors = load_file(folder / LANGUAGE)
    tensors["transformer.wte.weight"] = tensors["transformer.wte.weight"].to(torch.int8)
    save_file(tensors, folder / LANGUAGE)
    assert "transformer.wte.weight" in str(refused(folder, "model.dtype"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "model.architecture"),
        ({"hidden_size": 512}, "model.config"),
        ({"hidden_size": 10**9}, "model.config"),
        ({"num_hidden_layers": 10**6}, "model.config"),
        ({"num_hidden_layers": 3}, "model.missing_tensor"),
        ({"num_hidden_layers": 1}, "model.extra_tensor"),
        ({"vocab_size": 1024}, "model.shape"),
        ({"vocab_size": -1}, "model.config"),
        ({"vocab_size": "many"}, "model.config"),
        ({"vocab_size": True}, "model.config"),
        ({"intermediate_size": 511}, "model.config"),
        ({"intermediate_size": 1024}, "model.shape"),
        ({"seq_length": None}, "model.config"),
        ({"layer_norm_epsilon": "small"}, "model.config"),
        ({"rotary_pct": 0.5}, "model.config"),
        ({"visual": []}, "model.config"),
    ],
)
def test_config_that_lies(folder: Path, change: dict[str, Any], message: str) -> None:
    """Sizes that are absurd, contradict each other or the weights are refused in one line."""
    edit(folder / "config.json", lambda raw: raw.update(change))
    refused(folder, message)


@pytest.mark.parametrize(
    "change",
    [
        {"output_dim": 128},
        {"width": 65},
        {"n_queries": 15},
        {"image_start_id": 511},
        {"layers": 10**9},
        {"patch_size": 200},
    ],
)
def test_vision_config_that_lies(folder: Path, change: dict[str, Any]) -> None:
    """The same for the sizes of the vision encoder."""
    edit(folder / "config.json", lambda raw: raw["visual"].update(change))
    refused(folder, "model.config")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null", '{"a": \ud800}'])
def test_config_that_is_no_json(folder: Path, text: str) -> None:
    """Broken JSON, however broken, is one line."""
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert refused(folder, "model.bad_json")


def int4_folder(folder: Path) -> Path:
    """The golden model rounded to int4 in the AutoGPTQ layout."""
    quantization = QuantizationConfig()
    tensors = load_file(folder / LANGUAGE)
    linears = [n for n in tensors if ".h." in n and n.endswith("weight") and tensors[n].ndim == 2]
    for name in linears:
        stem = name.removesuffix(".weight")
        layer = Int4Linear.from_weight(tensors.pop(name).float(), quantization, tensors.get(f"{stem}.bias"))
        tensors |= {f"{stem}.{part}": tensor for part, tensor in layer.state_dict().items()}
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / LANGUAGE)
    edit(
        folder / INDEX,
        lambda raw: raw.update(
            weight_map=dict.fromkeys(tensors, LANGUAGE) | dict.fromkeys(load_file(folder / VISION), VISION)
        ),
    )
    edit(
        folder / "config.json",
        lambda raw: raw.update(quantization_config={"bits": 4, "group_size": 128, "quant_method": "gptq", "sym": True}),
    )
    return folder


def test_int4_loads_and_answers_as_its_dequantized_self(folder: Path) -> None:
    """An int4 folder's logits equal those of a float model with the decoded weights; g_idx and bias may be absent."""
    model = bellevl.load_model(int4_folder(folder), dtype=torch.float32)
    ids = torch.randint(0, 400, (1, 50), generator=torch.Generator().manual_seed(0))
    plain = bellevl.BelleVL(model.config).eval()
    weights = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, Int4Linear):
            weights[f"{name}.weight"] = module.dequantize()
            if f"{name}.bias" not in plain.state_dict():
                weights.pop(f"{name}.bias", None)
    missing = plain.load_state_dict(
        {n: t for n, t in weights.items() if n in plain.state_dict()}, strict=False
    ).missing_keys
    assert missing == []
    with torch.no_grad():
        torch.testing.assert_close(model(ids), plain(ids), atol=2e-4, rtol=0)


def test_v2_words_under_the_name_of_v1(folder: Path) -> None:
    """Zeros stored as they are in a file that calls itself v1, as transformers saves it, give the same model."""
    expected = bellevl.load_model(int4_folder(folder), dtype=torch.float32)
    tensors = load_file(folder / LANGUAGE)
    for name in [n for n in tensors if n.endswith(".qzeros")]:
        assert (tensors[name] == 0x77777777).all()
        tensors[name] += 0x11111111
    save_file(tensors, folder / LANGUAGE)
    found = bellevl.load_model(folder, dtype=torch.float32)
    for one, other in zip(found.transformer.h, expected.transformer.h, strict=True):
        assert torch.equal(one.mlp.w2.dequantize(), other.mlp.w2.dequantize())


def test_int4_models_ask_for_no_gradients(folder: Path) -> None:
    """Called outside no_grad an int4 model multiplies with its words; a float model can be trained as it is."""
    ids = torch.tensor([[1, 2, 3]])
    assert bellevl.load_model(folder)(ids).requires_grad
    model = bellevl.load_model(int4_folder(folder))
    assert not model(ids).requires_grad


def test_int4_with_nan_scales_is_refused(folder: Path) -> None:
    """NaN among the scales is found at loading, with the layer's name."""
    int4_folder(folder)
    tensors = load_file(folder / LANGUAGE)
    name = "transformer.h.1.mlp.c_proj.scales"
    tensors[name][0, 3] = float("nan")
    save_file(tensors, folder / LANGUAGE)
    assert name in str(refused(folder, "model.not_finite"))


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 3},
        {"bits": True},
        {"lm_head": 1},
        {"dynamic": {".*": {"bits": 5}}},
        {"dynamic": {"(.*)*x": {}}},
        {"quant_method": "awq"},
        {"checkpoint_format": "marlin"},
        {"group_size": 0},
        {"group_size": "x"},
        {"group_size": 10**30},
    ],
)
def test_quantization_this_program_does_not_read(folder: Path, change: dict[str, Any]) -> None:
    """Other methods, widths and layouts are refused by name."""
    int4_folder(folder)
    edit(folder / "config.json", lambda raw: raw["quantization_config"].update(change))
    message = "model.config" if change == {"lm_head": 1} else "model.quantization"
    assert str(folder / "config.json") in str(refused(folder, message))


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", "device.unknown"), ("cuda:99", "device.absent"), ("meta", "device.unknown")],
)
def test_devices_that_are_not_there(folder: Path, device: str, message: str) -> None:
    """A device that does not exist is one line, before anything is loaded."""
    with pytest.raises(DeviceError) as caught:
        bellevl.load_model(folder, device=device)
    assert caught.value.message == message


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_dtype_of_a_gpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    """bfloat16 where the chosen GPU multiplies in it, else float16; emulated bfloat16 does not count."""
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    assert default_dtype(read_config(folder)[0], torch.device("cuda:1")) == dtype
    assert asked == [torch.device("cuda:1")]


def test_checkpoint_reads_one_tensor_at_a_time(folder: Path) -> None:
    """A tensor is read by name, cast on the way; its shard is known."""
    with Checkpoint.open(folder) as checkpoint:
        assert checkpoint.shape("lm_head.weight") == (512, 256)
        assert checkpoint.read("lm_head.weight").dtype == torch.bfloat16
        assert checkpoint.read("lm_head.weight", torch.float32).dtype == torch.float32
        assert checkpoint.shard_of("lm_head.weight").name == LANGUAGE
        assert len(checkpoint.names()) == 61


def test_a_loaded_int4_model_says_that_it_cannot_move(folder: Path) -> None:
    """Casting a loaded int4 model is refused in one sentence instead of failing in the first product."""
    model = bellevl.load_model(int4_folder(folder), dtype=torch.float32)
    assert model.to("cpu") is model
    with pytest.raises(RuntimeError, match="load_model"):
        model.half()
