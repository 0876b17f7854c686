"""The bridge to transformers against the golden cases and against the library itself."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_house import dotted, imports, modules
from tiny import write_tiny_checkpoint
from torch import Tensor, nn

import bellevl
from bellevl.cache import KVCache
from bellevl.config import QuantizationConfig
from bellevl.errors import CheckpointError
from bellevl.generate import generate
from bellevl.model import BelleVL
from bellevl.prompt import Conversation, Turn, build_prompt
from bellevl.qlinear import Int4Linear
from bellevl.sampling import Sampling

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache  # noqa: E402

from bellevl import hf  # noqa: E402

GOLDEN = Path(__file__).parent / "golden" / "model"
FOLDER = GOLDEN / "model"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
GENERATION = json.loads((GOLDEN / "generation.json").read_text(encoding="utf-8"))
TRAINING = json.loads((GOLDEN / "training.json").read_text(encoding="utf-8"))
EOS = MANIFEST["ids"]["eos"]
START = MANIFEST["ids"]["image_start_id"]


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)


@pytest.fixture(scope="module")
def library() -> BelleVL:
    return bellevl.load_model(FOLDER, dtype=torch.float32)


@pytest.fixture(scope="module")
def int4_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden model with the linears of its language model rounded to int4, as AutoGPTQ writes it."""
    folder = tmp_path_factory.mktemp("int4")
    raw = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    settings = {"bits": 4, "group_size": 128, "sym": True, "desc_act": False, "damp_percent": 0.01}
    raw |= {"quantization_config": settings | {"quant_method": "gptq"}, "torch_dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    shutil.copy(FOLDER / "generation_config.json", folder)
    source = bellevl.load_model(FOLDER, dtype=torch.float32)
    tensors = {name: tensor.half() for name, tensor in source.state_dict().items()}
    for name, linear in source.transformer.h.named_modules(prefix="transformer.h"):
        if isinstance(linear, nn.Linear):
            bias = None if linear.bias is None else linear.bias.detach()
            int4 = Int4Linear.from_weight(linear.weight.detach(), QuantizationConfig(), bias)
            del tensors[f"{name}.weight"]
            tensors |= {f"{name}.{key}": value for key, value in int4.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def pictures(ids: Tensor) -> Tensor | None:
    """Preprocessed pictures [N, 3, S, S] whose paths the golden ids spell out in their slots."""
    found = []
    for row in ids.tolist():
        for start in (at for at, token in enumerate(row) if token == START):
            end = row.index(MANIFEST["ids"]["imgpad_id"], start)
            picture = Image.open(GOLDEN / "images" / bytes(row[start + 1 : end]).decode())
            found.append(bellevl.preprocess(picture, 112))
    return torch.stack(found) if found else None


def greedy(model: Any, case: dict[str, Any], **options: Any) -> list[list[int]]:
    """New ids of a golden case as transformers generates them."""
    ids = torch.tensor(case["prompt_ids"])
    if case.get("attention_mask"):
        options["attention_mask"] = torch.tensor(case["attention_mask"])
    options = {"pixel_values": pictures(ids), "max_new_tokens": case["max_new_tokens"]} | options
    out = model.generate(ids, do_sample=False, **case["generation_kwargs"], **options)
    return [row[ids.shape[1] :] for row in out.tolist()]


def padded(rows: list[list[int]]) -> list[list[int]]:
    """Rows up to their first eos and one length, as a batch comes out of transformers."""
    cut = [row[: row.index(EOS) + 1] if EOS in row else row for row in rows]
    return [row + [EOS] * (max(map(len, cut)) - len(row)) for row in cut]


def test_registered_without_remote_code(tmp_path: Path) -> None:
    """A folder's own Python files stay unread although config.json and tokenizer_config.json point to them."""
    folder = write_tiny_checkpoint(tmp_path / "model")
    trap = "raise RuntimeError('code of a model folder ran')\n"
    for name in ("configuration_qwen", "modeling_qwen", "tokenization_qwen"):
        (folder / f"{name}.py").write_text(trap, encoding="utf-8")
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    auto = {"AutoConfig": "configuration_qwen.QWenConfig", "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"}
    (folder / "config.json").write_text(json.dumps(raw | {"auto_map": auto}), encoding="utf-8")
    auto = {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]}
    settings = {"tokenizer_class": "QWenTokenizer", "auto_map": auto, "model_max_length": 8192}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert type(AutoConfig.from_pretrained(folder)) is hf.QWenConfig
    assert type(AutoModelForCausalLM.from_pretrained(folder)) is hf.QWenLMHeadModel
    assert type(AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)) is hf.QWenLMHeadModel
    assert type(AutoTokenizer.from_pretrained(folder)) is hf.QWenTokenizer


def test_config_of_the_library(library: BelleVL) -> None:
    """transformers' configuration holds every value of the library's and survives its own JSON."""
    config = AutoConfig.from_pretrained(FOLDER)
    again = hf.QWenConfig(**json.loads(config.to_json_string()))
    assert config.model_config() == again.model_config() == library.config
    with pytest.raises(CheckpointError, match="kv_channels"):
        hf.QWenConfig(**(config.to_dict() | {"kv_channels": 128})).model_config()
    assert hf.QWenConfig(seq_length=2048).model_config().hidden_size == 4096


@torch.no_grad()
@pytest.mark.parametrize("name", ["text", "image1", "image2", "leftpad"])
def test_logits(model: Any, name: str) -> None:
    """Logits and hidden states of golden cases equal the reference's."""
    lm = load_file(GOLDEN / "tensors" / "lm.safetensors")
    ids, mask = lm[f"{name}.input_ids"], lm.get(f"{name}.attention_mask")
    out = model(ids, attention_mask=mask, pixel_values=pictures(ids), output_hidden_states=True)
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    torch.testing.assert_close(out.logits[real], lm[f"{name}.logits"][real], atol=2e-4, rtol=0)
    for i, states in enumerate(out.hidden_states):
        if f"{name}.hidden_states.{i}" in lm:
            torch.testing.assert_close(states, lm[f"{name}.hidden_states.{i}"], atol=1e-3, rtol=1e-4)
    last = model(ids, attention_mask=mask, pixel_values=pictures(ids), logits_to_keep=1, return_dict=False)[0]
    torch.testing.assert_close(last[:, 0], out.logits[:, -1])


@pytest.mark.parametrize("name", [n for n in GENERATION if n != "stop_words"])
def test_greedy_generation(model: Any, name: str) -> None:
    """`generate` gives the reference's ids, id for id, with the cache and without it."""
    case = GENERATION[name]
    assert greedy(model, case) == padded(case["new_ids"])
    assert greedy(model, case, use_cache=False) == padded(case["new_ids"])


def test_stop_ids(model: Any) -> None:
    """A stop id ends the answer where the library ends it."""
    case = GENERATION["stop_words"]
    expected = case["new_ids"][0][:-1]  # without the forced eos
    assert greedy(model, case, eos_token_id=[EOS, expected[-1]]) == [expected]


def test_chunked_prefill(model: Any) -> None:
    """A long prompt in chunks gives the ids of one piece: alpha is the whole prompt's."""
    case = GENERATION["long_prompt"]
    assert greedy(model, case, prefill_chunk_size=40) == padded(case["new_ids"])
    with pytest.raises(ValueError, match="prefill_chunk_size"):
        greedy(model, GENERATION["image1"], prefill_chunk_size=40)


@torch.no_grad()
def test_alpha_belongs_to_the_cache(model: Any, library: BelleVL) -> None:
    """Two interleaved conversations keep their own alpha, and one that goes on keeps its first."""
    tokens = {name: torch.tensor(GENERATION[name]["prompt_ids"]) for name in ("text", "long_prompt")}
    caches = {name: DynamicCache(config=model.config) for name in tokens}
    more = torch.arange(64)[None]
    own = KVCache(library.config, 128, dtype=torch.float32, device="cpu")
    expected = [library(ids, cache=own) for ids in (tokens["text"], more)][1]
    answers: dict[str, list[int]] = {name: [] for name in tokens}
    for _ in range(3):
        for name, cache in caches.items():
            tokens[name] = model(tokens[name], past_key_values=cache).logits[:, -1:].argmax(-1)
            answers[name].append(int(tokens[name]))
    assert answers == {name: GENERATION[name]["new_ids"][0][:3] for name in tokens}
    caches["text"].crop(-2)  # its prompt again
    torch.testing.assert_close(model(more, past_key_values=caches["text"]).logits, expected, atol=1e-4, rtol=0)
    assert [cache.ntk_alpha for cache in caches.values()] == [1, 3]


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 2])
def test_pictures_follow_their_rows(model: Any, library: BelleVL, beams: int) -> None:
    """With several pictures in a row every beam of it sees all of them; features given instead of pixels are equal."""
    case = GENERATION["image2"]
    ids = torch.tensor(case["prompt_ids"])
    pixels = pictures(ids)
    assert pixels is not None
    seen: list[Tensor] = []
    hook = model.transformer.h[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    both = torch.cat((pixels, pixels.flip(0)))
    model.generate(torch.cat((ids, ids)), pixel_values=both, num_beams=beams, do_sample=False, max_new_tokens=2)
    hook.remove()
    rows = [library.embed(ids, library.encode_images(p)) for p in (pixels, pixels.flip(0)) for _ in range(beams)]
    torch.testing.assert_close(seen[0], torch.cat(rows))
    assert greedy(model, case, pixel_values=None, image_features=library.encode_images(pixels)) == case["new_ids"]


def test_sequences_of_one_picture_prompt(model: Any) -> None:
    """Several sampled answers to one prompt come from one encoding of its pictures."""
    ids = torch.tensor(GENERATION["image1"]["prompt_ids"])
    seen: list[int] = []
    hook = model.transformer.visual.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    out = model.generate(ids, pixel_values=pictures(ids), max_new_tokens=3, do_sample=True, num_return_sequences=3)
    hook.remove()
    assert len(out) == 3 and seen == [1]


def test_embeddings_as_input(model: Any) -> None:
    """`inputs_embeds` go through generation as the ids do that they stand for."""
    case = GENERATION["text"]
    ids = torch.tensor(case["prompt_ids"])
    options = {"do_sample": False, "max_new_tokens": case["max_new_tokens"]}
    out = model.generate(inputs_embeds=model.get_input_embeddings()(ids), **options)
    assert out.tolist() == padded(case["new_ids"])


def test_wrong_pictures(model: Any) -> None:
    """Slots without pictures, pictures given twice and a cache of fixed size are refused."""
    ids = torch.tensor(GENERATION["image1"]["prompt_ids"])
    with pytest.raises(ValueError, match="1 picture slots in the ids, features of 0"):
        model.generate(ids, max_new_tokens=2)
    with pytest.raises(ValueError, match="either pixel_values or image_features"):
        model(ids, pixel_values=pictures(ids), image_features=torch.zeros(1, 16, 256))
    with pytest.raises(ValueError, match="DynamicCache"):
        model.generate(ids, pixel_values=pictures(ids), max_new_tokens=2, cache_implementation="static")


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")  # 5.20 has no other name
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients(checkpointing: bool) -> None:
    """Loss and every gradient norm equal the reference's, with kept and with recomputed blocks."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).train()
    calls: list[int] = []
    model.transformer.h[0].register_forward_pre_hook(lambda *_: calls.append(1))
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids, labels = torch.tensor([TRAINING["ids"]]), torch.tensor([TRAINING["labels"]])
    out = model(ids, pixel_values=pictures(ids), labels=labels)
    out.loss.backward()
    assert float(out.loss.detach()) == pytest.approx(TRAINING["loss_image"], abs=1e-4)
    assert out.past_key_values is None and len(calls) == 1 + checkpointing
    norms = {n: float(p.grad.norm()) for n, p in model.named_parameters() if p.grad is not None}
    assert [n for n, p in model.named_parameters() if p.grad is None] == TRAINING["params_without_grad"]
    assert norms == pytest.approx(TRAINING["grad_norm"], rel=1e-3)


@torch.no_grad()
def test_train_mode_reaches_the_core() -> None:
    """Train mode leaves NTK and log-n out, eval mode has them; labels count as the trainer counts them."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    ids = torch.tensor([TRAINING["long_ids"]])
    for mode in ("train", "eval"):
        loss = float(model.train(mode == "train")(ids, labels=ids).loss)
        assert loss == pytest.approx(TRAINING[f"loss_long_text_{mode}_mode"], abs=1e-4)
    counted = model(ids, labels=ids, num_items_in_batch=torch.tensor(2 * (ids.shape[1] - 1))).loss
    assert float(counted) == pytest.approx(loss / 2, rel=1e-5)


@torch.no_grad()
def test_saved_folder_is_the_family_s(model: Any, tmp_path: Path) -> None:
    """What `save_pretrained` writes, in shards, `load_model` and transformers read with equal logits and settings."""
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    raw = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert raw["model_type"] == "qwen" and raw["architectures"] == ["QWenLMHeadModel"] and "auto_map" not in raw
    again = bellevl.load_model(tmp_path, dtype=torch.float32)
    ids = torch.tensor(GENERATION["image1"]["prompt_ids"])
    expected = model(ids, pixel_values=pictures(ids)).logits
    assert torch.equal(again(ids, again.encode_images(pictures(ids))), expected)
    assert again.config.torch_dtype == "float32" and again.generation.top_p == model.generation_config.top_p
    bridged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert bridged.dtype == torch.float32
    assert torch.equal(bridged(ids, pixel_values=pictures(ids)).logits, expected)


@torch.no_grad()
def test_modules_are_shared(library: BelleVL) -> None:
    """Names are the library's, and a module that is replaced or resized is the one that computes."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    assert set(model.state_dict()) == set(library.state_dict())
    assert model.get_output_embeddings() is model.lm_head
    ids = torch.tensor(GENERATION["text"]["prompt_ids"])
    before = model(ids).logits
    model.resize_token_embeddings(520)
    assert model.get_input_embeddings().weight.shape == (520, 256) and model.config.vocab_size == 520
    after = model(ids).logits
    torch.testing.assert_close(after[..., :512], before, atol=1e-5, rtol=0)
    assert after.shape[-1] == 520
    model.lm_head = nn.Linear(256, 7, bias=False)
    assert model(ids).logits.shape[-1] == 7


def test_missing_tensor_is_an_error(tmp_path: Path) -> None:
    """A float folder that lacks a tensor is refused, not filled with random numbers."""
    folder = write_tiny_checkpoint(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.mlp.w2.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"transformer\.h\.1\.mlp\.w2\.weight"):
        AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("settings", ["config.json", "quantize_config.json"])
def test_int4_folder(int4_folder: Path, tmp_path: Path, settings: str) -> None:
    """An int4 folder loads without any quantization package and generates what the library generates."""
    folder = shutil.copytree(int4_folder, tmp_path / "int4")
    if settings == "quantize_config.json":  # older folders say it only there
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / settings).write_text(json.dumps(raw.pop("quantization_config")), encoding="utf-8")
        (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    library = bellevl.load_model(folder, dtype=torch.float32)
    assert isinstance(model.transformer.h[0].attn.c_attn, Int4Linear) and not model.training
    assert not {"optimum", "gptqmodel", "auto_gptq"} & set(sys.modules)
    for name in ("text", "image1", "long_prompt"):
        ids = torch.tensor(GENERATION[name]["prompt_ids"])
        pixels = pictures(ids)
        with torch.no_grad():
            features = None if pixels is None else library.encode_images(pixels)
        sampling = Sampling(max_tokens=8, greedy=True)
        expected = [t.id for t in generate(library, ids[0].tolist(), features, sampling=sampling, stop_ids={EOS})]
        assert greedy(model, GENERATION[name] | {"max_new_tokens": 8, "generation_kwargs": {}}) == [expected]
    assert model.generation_config.top_p == 0.3
    assert json.loads(model.config.to_json_string())["quantization_config"]["quant_method"] == "gptq"


def test_model_from_an_int4_configuration_is_float(int4_folder: Path) -> None:
    """A new model is of float layers whatever its configuration says: gptqmodel puts its own in their place."""
    config = AutoConfig.from_pretrained(int4_folder)
    model = AutoModelForCausalLM.from_config(config)
    assert type(model.transformer.h[0].attn.c_attn) is nn.Linear
    assert config.gptq["bits"] == 4


def test_int4_options(int4_folder: Path, tmp_path: Path) -> None:
    """An int4 model takes flags, dtype and one device; what it cannot do is refused in a sentence."""
    load = AutoModelForCausalLM.from_pretrained
    model = load(int4_folder, use_logn_attn=False, device_map={"": "cpu"}, dtype=torch.bfloat16)
    assert not model.core.config.use_logn_attn and model.dtype == torch.bfloat16
    assert load(int4_folder, dtype="auto", device_map="cpu").dtype == torch.float32  # a small model on the CPU
    with pytest.raises(ValueError, match="one device"):
        load(int4_folder, device_map={"transformer": 0, "lm_head": "cpu"})
    with pytest.raises(ValueError, match="without quantization_config"):
        hf.QWenLMHeadModel.from_pretrained(int4_folder, quantization_config={"load_in_4bit": True})
    with pytest.raises(ValueError, match="copy its folder"):
        model.save_pretrained(tmp_path)


def test_int4_trains_what_is_float(int4_folder: Path) -> None:
    """Gradients go through int4 layers to the float parameters before them."""
    model = AutoModelForCausalLM.from_pretrained(int4_folder, dtype=torch.float32).train()
    ids = torch.tensor(GENERATION["text"]["prompt_ids"])
    model(ids, labels=ids).loss.backward()
    assert float(model.get_input_embeddings().weight.grad.norm()) > 0


def test_tokenizer(tmp_path: Path) -> None:
    """The bridge's tokenizer gives the library's ids, takes specials for special only where asked, and saves itself."""
    folder = write_tiny_checkpoint(tmp_path / "model")
    library, bridge = bellevl.load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    text = "红色 circle 一二三\n é"
    assert bridge(text).input_ids == library.encode(text) == bridge.encode(text)
    assert bridge.decode(library.encode(text)) == text
    assert (bridge.eos_token_id, bridge.pad_token_id, len(bridge)) == (library.eod_id, library.eod_id, library.n_vocab)
    typed = "a<|im_end|><img>x</img>"
    assert bridge(typed, split_special_tokens=True).input_ids == library.encode(typed)
    ids = bridge(typed).input_ids
    assert ids == library.encode_with_specials(typed, slot=4) and len(ids) == 1 + 1 + 6
    assert bridge.decode(ids) == typed and bridge.decode(ids, skip_special_tokens=True) == "ax"
    batch = bridge(["一", "一二三"], padding=True, padding_side="left", return_tensors="pt")
    assert batch.input_ids[0].tolist() == [library.eod_id] * 2 + library.encode("一")
    assert batch.attention_mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert bridge.convert_tokens_to_ids(bridge.tokenize(text)) == library.encode(text)
    assert bridge.convert_tokens_to_string(bridge.tokenize(text)) == text
    with pytest.raises(ValueError, match="fixed"):
        bridge.add_tokens(["<new>"])
    shutil.copy(folder / "config.json", tmp_path)
    bridge.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is hf.QWenTokenizer and again(typed).input_ids == ids
    assert bellevl.load_tokenizer(tmp_path).encode(text) == library.encode(text)


def test_a_conversation_from_the_library(tmp_path: Path) -> None:
    """A prompt of bellevl.prompt goes into `generate` and its answer comes back as the library's."""
    folder = write_tiny_checkpoint(tmp_path / "model")
    tokenizer, library = bellevl.load_tokenizer(folder), bellevl.load_model(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = build_prompt(tokenizer, Conversation((Turn("一 <|im_end|> 二"),)), n_queries=4, window=512).ids
    expected = [t.id for t in generate(library, ids, sampling=Sampling(max_tokens=6, greedy=True))]
    out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=6)
    assert out[0, len(ids) :].tolist() == expected
    assert AutoTokenizer.from_pretrained(folder).decode(expected) == tokenizer.decode(expected)


def test_only_those_who_ask_import_the_bridge() -> None:
    """No module of the packages imports bellevl.hf: neither the library nor the command line loads transformers."""
    asking = [dotted(path) for path in modules() if any(i.startswith("bellevl.hf") for i in imports(path))]
    assert asking == []
