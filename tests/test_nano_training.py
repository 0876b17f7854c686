"""The nano model's training: packing equals plain conversations, stages freeze what they must, jobs resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bellevl.image import preprocess
from bellevl.model import BelleVL
from bellevl.nano import train as nano_train
from bellevl.nano.pretrain import dense_batches, dense_loss, normalise, vision_of
from bellevl.nano.questions import Turn, ask
from bellevl.nano.recipe import new_model
from bellevl.nano.rows import RESTATED, RowBuilder, stack
from bellevl.nano.train import PLAN, Stage, nano_config_of, picture_column
from bellevl.nano.tune import (
    ANSWER_ROOM,
    RowLoss,
    conversations,
    hidden_states,
    one_row,
    row_batches,
    row_mask,
)
from bellevl.nano.world import Mix, draw_scene
from bellevl.prompt import Conversation, build_prompt
from bellevl.prompt import Turn as PromptTurn
from bellevl.tokenizer import Tokenizer, load_tokenizer
from bellevl.training.loop import Job, Progress, Schedule, train
from bellevl.training.stages import freeze_for_stage


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(nano_train.VOCABULARY.parent)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> BelleVL:
    return new_model(nano_config_of(tokenizer)).eval()


def queries(model: BelleVL) -> int:
    assert model.config.visual is not None
    return model.config.visual.n_queries


@torch.no_grad()
def test_packed_rows_equal_plain_conversations(model: BelleVL, tokenizer: Tokenizer) -> None:
    """Every answer token's hidden state in a packed row equals that of its conversation alone, prompt and all."""
    rng = np.random.default_rng(5)
    builder = RowBuilder(tokenizer, queries(model))
    compared = 0
    for seed in range(4):
        scene = draw_scene(np.random.default_rng(seed), "train")
        talks = conversations(ask(scene, rng, n=8), rng)
        row = builder.build(talks, 256, rng)
        features = model.encode_images(preprocess(scene.picture, 112)[None])
        arrays = {name: torch.from_numpy(value) for name, value in stack([row], ANSWER_ROOM).items()}
        column = picture_column(tokenizer, queries(model))
        mask = row_mask(arrays["groups"], arrays["sees"])
        packed = hidden_states(model, arrays["ids"], arrays["positions"], mask, features, column)[0]
        at = 0
        for talk in builder.placed:
            ends = [row.answers[at + i][:2] for i in range(len(talk))]
            at += len(talk)
            late = row.positions[ends[0][0]] != plain_position(tokenizer, talk, queries(model))
            plain = plain_hidden(model, tokenizer, talk, features)
            for (begin, end), (ids, hidden) in zip(ends, plain, strict=True):
                assert row.ids[begin:end] == ids
                if not late:
                    torch.testing.assert_close(packed[begin - 1 : end - 1], hidden, atol=2e-4, rtol=1e-3)
                    compared += 1
    assert compared >= 8


def plain_prompt(tokenizer: Tokenizer, talk: list[Turn], upto: int, slots: int) -> list[int]:
    """The product's own prompt for turn `upto` of a conversation."""
    sees = talk[0].kind != "talk"
    turns = [PromptTurn(t.question, t.answer if i < upto else None, int(sees and i == 0)) for i, t in enumerate(talk)]
    return build_prompt(tokenizer, Conversation(tuple(turns[: upto + 1])), slots, 4096).ids


def plain_position(tokenizer: Tokenizer, talk: list[Turn], slots: int) -> int:
    return len(plain_prompt(tokenizer, talk, 0, slots))


def plain_hidden(
    model: BelleVL, tokenizer: Tokenizer, talk: list[Turn], features: torch.Tensor
) -> list[tuple[list[int], torch.Tensor]]:
    """(answer ids with im_end, hidden states that predict them) of every turn, through the product's prompt."""
    found = []
    for upto, turn in enumerate(talk):
        prompt = plain_prompt(tokenizer, talk, upto, queries(model))
        answer = [*RowBuilder(tokenizer, queries(model)).answer(turn)[0], tokenizer.im_end_id]
        ids = torch.tensor([prompt + answer])
        shown = features if turn.kind != "talk" and talk[0].kind != "talk" else None
        hidden = model.decode_hidden(model.embed(ids, shown))[0]
        found.append((answer, hidden[len(prompt) - 1 : -1]))
    return found


def test_deciding_words_weigh_most(tokenizer: Tokenizer) -> None:
    """Weight 1 lies on exactly the tokens that touch a deciding span; box digits weigh by their place."""
    builder = RowBuilder(tokenizer, 64)
    ids, weights = builder.answer(Turn("position", "?", "在图片的左上角。", ((4, 7),), None))
    heavy = b"".join(tokenizer.piece(i) for i, w in zip(ids, weights, strict=True) if w == 1).decode()
    assert "左上角" in heavy and "在" not in heavy
    ids, weights = builder.answer(Turn("ground", "?", "<ref>猫</ref><box>(123,45),(678,9)</box>", ((18, 21),), None))
    digits = {tokenizer.decode([i]): w for i, w in zip(ids, weights, strict=True) if tokenizer.decode([i]).isdigit()}
    assert digits["1"] == digits["6"] == 1.0 and digits["2"] == digits["4"] == 0.6 and digits["9"] == 0.15
    assert tokenizer.box_start_id in ids and weights[ids.index(tokenizer.box_start_id)] == RESTATED


def test_batches_are_the_same_for_the_same_number(tokenizer: Tokenizer) -> None:
    """Batch number 3 is the same whether the stream began at 0 or at 3: a resumed job sees what it would have."""
    stream = row_batches(0, 2, Mix(), 7, tokenizer, 64)
    fourth = [next(stream) for _ in range(4)][3]
    again = next(row_batches(3, 2, Mix(), 7, tokenizer, 64))
    assert all(np.array_equal(fourth[name], again[name]) for name in fourth)


def test_pixels_equal_the_preprocessing() -> None:
    """Training normalises a 112-pixel picture to the numbers that `preprocess` gives."""
    scene = draw_scene(np.random.default_rng(1), "train")
    batch = torch.from_numpy(np.asarray(scene.picture)[None].copy())
    torch.testing.assert_close(normalise(batch)[0], preprocess(scene.picture, 112), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("stage", "language"), [(1, False), (2, True)])
def test_stages_train_what_bellevl_trained(model: BelleVL, stage: int, language: bool) -> None:
    """Both stages train the resampler and freeze the encoder's blocks; only stage 2 trains the language model."""
    freeze_for_stage(model, stage)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert "transformer.visual.attn_pool.query" in trained and "transformer.visual.proj" in trained
    assert "transformer.visual.attn_pool.pos_embed" not in trained
    assert not any(".resblocks." in name or ".conv1." in name for name in trained)
    assert ("transformer.h.0.mlp.w1.weight" in trained) == language == ("lm_head.weight" in trained)


def test_dense_targets_train_the_encoder(tokenizer: Tokenizer) -> None:
    """The dense loss reaches every parameter of the encoder's blocks and none of the resampler's."""
    model = new_model(nano_config_of(tokenizer)).train()
    dense = vision_of(model)
    batch = {n: torch.from_numpy(v) for n, v in next(dense_batches(0, 2, Mix(), 3)).items()}
    loss, figures = dense_loss(dense, batch)
    loss.backward()
    assert all(p.grad is not None for p in model.transformer.visual.transformer.parameters())
    assert all(p.grad is None for p in model.transformer.visual.attn_pool.parameters())
    assert 0 <= figures["accuracy"] <= 1 and torch.isfinite(loss)


def test_a_step_lowers_the_loss_on_its_batch(tokenizer: Tokenizer) -> None:
    """Eight steps of stage 2 on one batch lower its loss by a tenth at least."""
    model = freeze_for_stage(new_model(nano_config_of(tokenizer)), 2).train()
    batch = {n: torch.from_numpy(v) for n, v in next(row_batches(0, 2, Mix(), 1, tokenizer, 64)).items()}
    loss = RowLoss(model, picture_column(tokenizer, 64), compiled=False)
    job = Job(
        "one",
        model,
        Schedule(100, warmup=1),
        lambda first: iter([batch] * 8),
        loss,
        Path("/nonexistent"),
        1e9,
    )
    values = [float(loss(batch)[0].detach())]
    job.folder = Path(__file__).parent  # nothing is saved before save_every
    list(train(job))
    values.append(float(loss(batch)[0].detach()))
    assert values[1] < 0.9 * values[0]


class Line(torch.nn.Module):
    """The smallest thing that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Linear(4, 4)


def line_job(folder: Path, steps: int = 12) -> Job:
    torch.manual_seed(0)
    module = Line()

    def batches(first: int):  # type: ignore[no-untyped-def]
        for number in range(first, steps):
            yield torch.randn(8, 4, generator=torch.Generator().manual_seed(number))

    def loss(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        return (module.matrix(batch) - 1).pow(2).mean(), {}

    return Job("line", module, Schedule(steps, warmup=2), batches, loss, folder, save_every=0.0)


def test_a_stopped_job_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """Stopped after five steps and started again, a job ends with the same weights."""
    whole = line_job(tmp_path / "whole")
    assert [p.step for p in train(whole)] == list(range(1, 13))
    for progress in train(line_job(tmp_path / "cut")):
        if progress.step == 6:
            break  # the state of step 5 is on disk, step 6 was told before it was saved or after: both are fine
    resumed = line_job(tmp_path / "cut")
    steps: list[Progress] = list(train(resumed))
    assert steps[-1].step == 12 and len(steps) < 12
    assert torch.equal(whole.module.matrix.weight, resumed.module.matrix.weight)


def test_stage_results_chain(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Two steps of each stage, one after the other, end in a checkpoint that loads and differs where it was trained."""
    import bellevl

    for stage in PLAN:
        short = Stage(stage.name, Schedule(2, warmup=1), 2, stage.mix, stage.seed)
        list(nano_train.run_stage(short, tmp_path, tokenizer, compiled=False))
    models = {stage.name: bellevl.load_model(tmp_path / stage.name) for stage in PLAN}

    def same(name: str, a: str, b: str) -> bool:
        return torch.equal(models[a].get_parameter(name), models[b].get_parameter(name))

    block, query = (
        "transformer.visual.transformer.resblocks.0.mlp.c_fc.weight",
        "transformer.visual.attn_pool.query",
    )
    word = "transformer.h.0.mlp.w1.weight"
    assert same(block, "vision", "tune")
    assert not same(word, "vision", "text") and same(word, "text", "align") and not same(word, "align", "tune")
    assert same(query, "text", "vision") and not same(query, "align", "text") and not same(query, "tune", "align")
    assert not list((tmp_path / "tune").glob("*.partial"))


def test_stage_1_sees_captions_and_names_only(tokenizer: Tokenizer) -> None:
    """Stage 1's rows hold no question that has to be reasoned about."""
    builder = RowBuilder(tokenizer, 64)
    kinds = {
        kind
        for seed in range(8)
        for _, _, kind in one_row(np.random.default_rng(seed), nano_train.CAPTIONS, builder)[0].answers
    }
    assert {"caption", "scene"} < kinds
    assert not kinds & {"position", "relation", "count", "colour", "exist_zh", "exist_en", "ground"}
