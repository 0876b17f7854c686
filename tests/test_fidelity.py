"""KL divergence and agreement of two forms of a model, against the whole models side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Bellevl
from safetensors.torch import load_file, save_file
from tiny import write_tiny_checkpoint

from bellevl import load_model, load_tokenizer
from bellevl.checkpoint import Checkpoint
from bellevl.config import read_config
from bellevl.errors import CheckpointError
from bellevl.evaluation.fidelity import KINDS, Conversation, fidelity, token_kinds
from bellevl.image import open_picture, preprocess
from bellevl.prompt import Conversation as Dialogue
from bellevl.prompt import Turn, build_prompt
from quantize import Recipe, quantize
from quantize.calibration import CalibrationSet, calibration_set, held_out_set
from quantize.record.receipt import read_receipt


@pytest.fixture(scope="module")
def int4(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint quantized."""
    target = tmp_path_factory.mktemp("fidelity") / "int4"
    list(quantize(tiny_folder, target, Recipe(nsamples=3, seqlen=64)))
    return target


def samples(folder: Path, count: int = 5) -> CalibrationSet:
    config, _ = read_config(folder)
    return held_out_set(load_tokenizer(folder), config, folder, count, 400)


def conversations(folder: Path) -> list[Conversation]:
    return [Conversation(sample.ids, sample.pictures) for sample in samples(folder).samples]


def test_equals_the_whole_models(tiny_folder: Path, int4: Path) -> None:
    """Streamed block by block, every figure is what the loaded models give."""
    tokenizer, chosen = load_tokenizer(tiny_folder), conversations(tiny_folder)
    found = fidelity(tiny_folder, int4, chosen, tokenizer)
    models = [load_model(folder, torch.float32) for folder in (tiny_folder, int4)]
    kls, agree, follows, kinds = [], [], [[], []], []
    for conversation in chosen:
        pixels = [preprocess(open_picture(p).image, 56) for p in conversation.pictures]
        rows = []
        with torch.inference_mode(), Checkpoint.open(tiny_folder) as checkpoint:
            for model in models:
                features = model.encode_images(torch.stack(pixels)) if pixels else None
                rows.append(model(torch.tensor([conversation.ids]), features)[0, :-1].log_softmax(-1))
            kinds.append(token_kinds(conversation.ids, tokenizer, checkpoint)[:-1])
        p, q = rows
        kls.append((p.exp() * (p - q)).sum(-1))
        agree.append(p.argmax(-1) == q.argmax(-1))
        for column, row in zip(follows, rows, strict=True):
            column.append(row.gather(1, torch.tensor(conversation.ids[1:])[:, None])[:, 0])
    kl, same, kind = torch.cat(kls), torch.cat(agree), torch.cat(kinds)
    assert found.all.tokens == len(kl) and sum(found.histogram) == len(kl)
    assert found.all.kl_mean == pytest.approx(float(kl.mean()), rel=1e-3)
    assert found.all.kl_p99 == pytest.approx(float(kl.quantile(0.99)), rel=1e-3)
    assert found.all.top1_agreement == pytest.approx(float(same.float().mean()), abs=1.5 / len(kl))
    for number, name in enumerate(KINDS):
        here = kind == number
        assert found.by[name].tokens == int(here.sum()) > 0
        assert found.by[name].kl_mean == pytest.approx(float(kl[here].mean()), rel=1e-3)
    answers = kind == KINDS.index("answer")
    for mine, column in zip(
        (found.by["answer"].perplexity_float, found.by["answer"].perplexity_int4), follows, strict=True
    ):
        assert mine == pytest.approx(float((-torch.cat(column)[answers].mean()).exp()), rel=1e-3)
    assert found.by["picture"].perplexity_float is None


def test_a_model_is_itself(tiny_folder: Path) -> None:
    """A model compared with itself has no divergence and agrees everywhere."""
    found = fidelity(tiny_folder, tiny_folder, conversations(tiny_folder), load_tokenizer(tiny_folder))
    assert (found.all.kl_mean, found.all.kl_p99, found.all.top1_agreement) == (0.0, 0.0, 1.0)
    assert found.all.perplexity_float == found.all.perplexity_int4


def test_kinds_of_tokens(tiny_folder: Path) -> None:
    """Slots with their brackets are picture; what predicts a token of an answer or its end is answer; the rest text."""
    tokenizer = load_tokenizer(tiny_folder)
    turns = (Turn("看", "红", pictures=1), Turn("大", "山水"))
    ids = build_prompt(tokenizer, Dialogue(turns), 4, window=10_000).ids
    with Checkpoint.open(tiny_folder) as checkpoint:
        kinds = [KINDS[int(kind)] for kind in token_kinds(ids, tokenizer, checkpoint)]
    assert kinds.count("picture") == 6
    follows = [ids[n + 1] for n, kind in enumerate(kinds[:-1]) if kind == "answer"]
    expected = [*tokenizer.encode("红"), tokenizer.im_end_id, *tokenizer.encode("山水")]
    assert follows == expected


def test_models_that_do_not_belong_together_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """Another vocabulary or other sizes are no second form of a model."""
    other = write_tiny_checkpoint(tmp_path / "other", num_hidden_layers=1)
    with pytest.raises(CheckpointError) as caught:
        fidelity(tiny_folder, other, conversations(tiny_folder), load_tokenizer(tiny_folder))
    assert caught.value.message == "model.other"


def test_held_out_conversations_do_not_calibrate(tiny_folder: Path) -> None:
    """No conversation is in both default sets, and the held-out one is the same every time."""
    config, _ = read_config(tiny_folder)
    tokenizer = load_tokenizer(tiny_folder)
    used = calibration_set(None, tokenizer, config, tiny_folder, Recipe(nsamples=60, seqlen=2048))
    kept = held_out_set(tokenizer, config, tiny_folder, 60, 2048)
    assert not {sample.ids for sample in used.samples} & {sample.ids for sample in kept.samples}
    assert kept.fingerprint() == held_out_set(tokenizer, config, tiny_folder, 60, 2048).fingerprint()
    assert any(sample.pictures for sample in kept.samples) and any(not s.pictures for s in kept.samples)


def test_a_worse_model_is_further_away(tiny_folder: Path, int4: Path, tmp_path: Path) -> None:
    """With noise on one layer of the int4 model, divergence grows and agreement does not."""
    worse = shutil.copytree(int4, tmp_path / "worse")
    tensors = load_file(worse / "model.safetensors")
    tensors["transformer.h.1.mlp.c_proj.scales"] *= 1.3
    save_file(tensors, worse / "model.safetensors")
    tokenizer, chosen = load_tokenizer(tiny_folder), conversations(tiny_folder)
    good, bad = (fidelity(tiny_folder, folder, chosen, tokenizer).all for folder in (int4, worse))
    assert bad.kl_mean > good.kl_mean and bad.top1_agreement <= good.top1_agreement


def test_the_command_prints_a_table_or_json_and_fills_the_receipt(
    bellevl: Bellevl, tiny_folder: Path, int4: Path
) -> None:
    """`bellevl evaluate fidelity` prints the same figures as a table and as JSON; --receipt keeps them."""
    asked = ("evaluate", "fidelity", tiny_folder, int4, "--samples", "4", "--seqlen", "400")
    done = bellevl(*asked, "--json", "--receipt")
    assert done.returncode == 0, done.stderr.decode()
    record = json.loads(done.stdout)
    assert {"kl_mean", "kl_p99", "top1_agreement", "perplexity_float", "perplexity_int4", "by"} <= record.keys()
    receipt = read_receipt(int4)
    assert receipt is not None and receipt["fidelity"]["kl_mean"] == record["kl_mean"]
    assert "log10 KL" in (int4 / "report.html").read_text(encoding="utf-8")
    table = bellevl(*asked).stdout.decode()
    assert f"{record['kl_mean']:.5f}" in table and "回答" in table
    assert bellevl("evaluate", "fidelity", tiny_folder, tiny_folder / "none").returncode == 4
