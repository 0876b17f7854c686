"""The vision encoder on one device, the language model on another (`--vision cpu`); and how the KV cache is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Answer, Bellevl

import bellevl
from bellevl import checkpoint
from bellevl.chat import Chat
from bellevl.checkpoint import Places, load_model
from bellevl.config import read_config
from bellevl.nano import folder as embedded
from bellevl_cli.options import ModelOptions
from bellevl_cli.running.session import load, plan

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture
def second_device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device beside the CPU on any machine: tensors there have no numbers, but a place."""
    checked = checkpoint.check_device
    monkeypatch.setattr(checkpoint, "check_device", lambda name: META if str(name) == "meta" else checked(name))
    return META


def places(model: bellevl.BelleVL) -> tuple[set[str], set[str]]:
    """Devices of the vision encoder's weights, and of all others."""
    named = list(model.named_parameters()) + list(model.named_buffers())
    vision = {t.device.type for name, t in named if name.startswith("transformer.visual.")}
    return vision, {t.device.type for name, t in named if not name.startswith("transformer.visual.")}


def test_the_vision_encoder_stays_and_its_features_travel(tiny_folder: Path, second_device: torch.device) -> None:
    """With the language model elsewhere the encoder is on the CPU, takes pixels there, and gives features there."""
    model = load_model(tiny_folder, device=second_device, vision_device="cpu")
    assert places(model) == ({"cpu"}, {"meta"})
    features = model.encode_images(torch.zeros(1, 3, 56, 56))
    assert features.shape == (1, 4, 128) and features.device == model.device == META


def test_each_device_computes_in_its_own_dtype(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 on an old GPU is bfloat16 on its CPU; a dtype that was asked for holds for both."""
    config, _ = read_config(tiny_folder)
    config = replace(config, vocab_size=2_000_000, hidden_size=128)  # not a small one
    gpu = torch.device("mps")
    assert Places.of(config, gpu, CPU, None) == Places((gpu, torch.float16), (CPU, torch.bfloat16))
    assert Places.of(config, gpu, CPU, torch.float32) == Places((gpu, torch.float32), (CPU, torch.float32))


@pytest.mark.parametrize("apart", [None, "cpu"])
def test_on_the_cpu_there_is_nothing_apart(tiny_folder: Path, apart: str | None) -> None:
    """Where both are on the same device the model is the one it always was; so is a text-only one."""
    assert load_model(tiny_folder, vision_device=apart).vision_place is None
    config, _ = read_config(tiny_folder)
    assert Places.of(replace(config, visual=None), META, CPU, None).vision is None


def test_only_the_vision_encoder_is_apart() -> None:
    """The encoder's own modules go with it; the blocks, the embedding and the head do not."""
    split = Places((META, torch.float16), (CPU, torch.float32))
    assert split.of_module("transformer.visual") == split.of_module("transformer.visual.conv1") == split.vision
    for name in ("", "transformer", "transformer.wte", "transformer.h.0.attn", "lm_head", "transformer.visualizer"):
        assert split.of_module(name) == split.language


def test_the_terminal_s_wishes_reach_the_model(
    tiny_folder: Path, second_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--kv and --vision, or the environment in their place, are what the loaded chat has."""
    monkeypatch.setattr("bellevl_cli.running.session._require_device", lambda device: None)
    monkeypatch.setattr("bellevl_cli.running.preflight.free_memory", lambda device="cpu": 10**12)
    chosen = replace(plan(ModelOptions(tiny_folder, kv="int8", vision="cpu")), device="meta")
    chat = load(chosen, 100, lambda memory: None).chat
    assert chat.kv == "int8" and places(chat.model) == ({"cpu"}, {"meta"})
    assert "meta+cpu" in chosen.speed_row != replace(chosen, vision="auto").speed_row
    monkeypatch.setenv("BELLEVL_KV", "int8")
    monkeypatch.setenv("BELLEVL_VISION", "cpu")
    named = plan(ModelOptions(tiny_folder))
    assert (named.kv, named.vision) == ("int8", "cpu")
    assert plan(ModelOptions(tiny_folder, kv="float", vision="auto")).kv == "float"


def test_a_form_that_there_is_not(bellevl: Bellevl, picture: Path) -> None:
    """Another word behind --kv or --vision is a usage error that lists the words there are."""
    for option, words in (("--kv", "float int8"), ("--vision", "auto cpu")):
        done = bellevl("ask", picture, "这是什么", option, "int3")
        assert done.returncode == 2 and words in done.stderr.decode()


def test_an_answer_with_an_int8_cache(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model says with BELLEVL_KV=int8 what it says without."""
    exact = answer("描述图片", embedded(), greedy=True, max_tokens=30)
    monkeypatch.setenv("BELLEVL_KV", "int8")
    assert answer("描述图片", embedded(), greedy=True, max_tokens=30)["text"] == exact["text"]


def test_a_dialogue_with_an_int8_cache(tiny_folder: Path, picture: Path) -> None:
    """Follow-up, retry, an answer that goes on and one in pieces: all work as they do with the exact cache."""
    chat = Chat(load_model(tiny_folder), bellevl.load_tokenizer(tiny_folder))
    chat.kv = "int8"
    first = "".join(chat.ask("一", picture, greedy=True, max_tokens=8))
    assert "".join(piece.text for piece in chat.retry(greedy=True, max_tokens=8)) == first
    short = "".join(chat.ask("二", greedy=True, max_tokens=4))
    longer = short + "".join(piece.text for piece in chat.continue_(greedy=True, max_tokens=4))
    chat.undo()
    chat.chunk = 3
    assert "".join(chat.ask("二", greedy=True, max_tokens=8)) == longer and len(longer) == 8


def test_a_dry_run_counts_the_cache_that_was_asked_for(bellevl: Bellevl, picture: Path, tiny_folder: Path) -> None:
    """ask --dry-run --kv int8 needs less memory than the exact cache does."""
    needs = []
    for form in ("float", "int8"):
        done = bellevl("ask", picture, "一", "--model", tiny_folder, "--kv", form, "--dry-run", "--json")
        needs.append(json.loads(done.stdout)["memory"]["need_bytes"])
    assert needs[1] < needs[0]


@pytest.mark.gpu
def test_answers_are_the_same_wherever_the_picture_is_looked_at(picture: Path) -> None:
    """On a GPU the embedded model answers the same with its vision encoder on the CPU, and with an int8 cache."""
    answers = []
    for apart, form in ((None, "float"), ("cpu", "float"), ("cpu", "int8")):
        model = load_model(embedded(), torch.float32, "cuda", vision_device=apart)
        assert places(model)[0] == {"cpu" if apart else "cuda"}
        chat = Chat(model, bellevl.load_tokenizer(embedded()))
        chat.kv = form
        answers.append("".join(chat.ask("描述图片", picture, greedy=True, max_tokens=40)))
    assert answers[0] and answers[1:] == answers[:1] * 2
