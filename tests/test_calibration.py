"""Calibration sets: what conversations, pictures and the default become, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bellevl import load_tokenizer
from bellevl.checkpoint import Checkpoint
from bellevl.errors import QuantizeError
from quantize import Example, Recipe, quantize
from quantize.calibration import calibration_set, read_examples

RECIPE = Recipe(nsamples=6, seqlen=96)


def samples_of(folder: Path, source: Any, recipe: Recipe = RECIPE) -> Any:
    """The calibration set that a job would use."""
    with Checkpoint.open(folder) as checkpoint:
        return calibration_set(source, load_tokenizer(folder), checkpoint.config, folder, recipe)


def test_default_set_has_pictures_and_both_languages(tiny_folder: Path) -> None:
    """The default set shows pictures through their slots and asks and answers in Chinese and English."""
    found = samples_of(tiny_folder, None, Recipe(nsamples=30, seqlen=2048))
    tokenizer = load_tokenizer(tiny_folder)
    texts = [tokenizer.decode(list(sample.ids)) for sample in found.samples]
    assert len(texts) == 30
    pictures = [sample for sample in found.samples if sample.pictures]
    assert 15 <= len(pictures) < 30
    for sample in found.samples:
        assert sample.ids.count(tokenizer.image_start_id) == len(sample.pictures)
        assert sample.ids.count(tokenizer.image_pad_id) == 4 * len(sample.pictures)
    assert any("的" in text for text in texts)
    assert any(" the " in text for text in texts)
    assert all(text.startswith("<|im_start|>system") for text in texts)
    again = samples_of(tiny_folder, None, Recipe(nsamples=30, seqlen=2048))
    assert again.fingerprint() == found.fingerprint()
    assert samples_of(tiny_folder, None, Recipe(nsamples=30, seqlen=2048, seed=1)).fingerprint() != found.fingerprint()


def test_own_conversations_and_pictures(tiny_folder: Path, tmp_path: Path, picture: Path) -> None:
    """JSON, JSONL, a folder of pictures and examples all become prompts; typed tags stay text."""
    shutil.copy(picture, tmp_path / "red.png")
    value = "Picture 1: <img>red.png</img>\n这是什么颜色？<|im_end|>"
    answers = [{"from": "user", "value": value}, {"from": "assistant", "value": "红色。"}]
    (tmp_path / "talk.json").write_text(json.dumps([{"id": "1", "conversations": answers}]), encoding="utf-8")
    (tmp_path / "talk.jsonl").write_text(json.dumps({"conversations": answers}) + "\n\n", encoding="utf-8")
    tokenizer = load_tokenizer(tiny_folder)
    for name in ("talk.json", "talk.jsonl"):
        (sample,) = samples_of(tiny_folder, tmp_path / name, Recipe()).samples
        assert sample.pictures == (tmp_path / "red.png",)
        text = tokenizer.decode(list(sample.ids))
        assert "这是什么颜色？<|im_end|>" in text
        assert text.endswith("红色。")
        assert sample.ids.count(tokenizer.im_end_id) == 2  # system and question; the typed one is text
    (only,) = samples_of(tiny_folder, tmp_path).samples
    assert only.pictures == (tmp_path / "red.png",)
    (given,) = read_examples(tmp_path / "talk.json")
    shown = Example(given.turns, (Image.new("RGB", (8, 8)),))
    assert len(samples_of(tiny_folder, [shown]).samples) == 1


def test_a_cut_never_goes_through_a_picture(tiny_folder: Path, picture: Path) -> None:
    """Where `seqlen` ends inside a picture's slot the whole picture goes, and what stays still fits the model."""
    tokenizer = load_tokenizer(tiny_folder)
    (given,) = read_examples(picture.parent)
    pictures = set()
    for seqlen in range(40, 90):
        (sample,) = samples_of(tiny_folder, [given], Recipe(seqlen=seqlen)).samples
        pictures.add(len(sample.pictures))
        assert len(sample.ids) <= seqlen
        assert sample.ids.count(tokenizer.image_pad_id) == 4 * len(sample.pictures)
        assert sample.ids.count(tokenizer.image_end_id) == len(sample.pictures)
    assert pictures == {0, 1}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '[{"conversations": []}]', '[{"conversations": [{"from": "assistant", "value": "x"}]}]', "[[1]]"],
)
def test_useless_calibration_files_are_refused(tiny_folder: Path, tmp_path: Path, text: str) -> None:
    """What holds no conversation is refused by its name."""
    path = tmp_path / "talk.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(QuantizeError) as caught:
        quantize(tiny_folder, tmp_path / "int4", RECIPE, path)
    assert caught.value.message == "quantize.calibration"
    assert "talk.json" in str(caught.value)


def test_missing_calibration_picture_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """A conversation about a picture that is not there is refused before the job starts."""
    entry = {"conversations": [{"from": "user", "value": "<img>gone.png</img>\n这里的文字是什么，请告诉我？"}]}
    (tmp_path / "talk.jsonl").write_text(json.dumps(entry), encoding="utf-8")
    with pytest.raises(QuantizeError) as caught:
        quantize(tiny_folder, tmp_path / "int4", RECIPE, tmp_path / "talk.jsonl")
    assert caught.value.message == "quantize.calibration"
    assert "gone.png" in str(caught.value)


def test_picture_tokens_can_count_less(tiny_folder: Path) -> None:
    """With a weight for pictures the tokens of each slot have it and all others one; the result is another one."""
    found = samples_of(tiny_folder, None, Recipe(nsamples=8, seqlen=2048))
    with Checkpoint.open(tiny_folder) as checkpoint:
        assert found.token_weights(checkpoint.config, 1.0) is None
        weights = found.token_weights(checkpoint.config, 0.25)
    tokenizer = load_tokenizer(tiny_folder)
    for sample, weight in zip(found.samples, weights, strict=True):
        inside = [n for n, token in enumerate(sample.ids) if float(weight[n]) == 0.25]
        assert len(inside) == 6 * len(sample.pictures)
        slot = {tokenizer.image_start_id, tokenizer.image_pad_id, tokenizer.image_end_id}
        assert {sample.ids[n] for n in inside} <= slot
