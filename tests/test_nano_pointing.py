"""What binds names to places while the nano model learns: dense targets of the picture's tokens, words, pointing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bellevl.model import BelleVL
from bellevl.nano import train as nano_train
from bellevl.nano.pointing import NOWHERE, Pointer, PointingHead
from bellevl.nano.pretrain import DenseHead, WordHead, dense_batches, dense_loss, vision_of
from bellevl.nano.recipe import new_model
from bellevl.nano.train import PLAN, nano_config_of, picture_column
from bellevl.nano.tune import RowLoss, row_batches
from bellevl.nano.world import Mix, names
from bellevl.tokenizer import Tokenizer, load_tokenizer
from bellevl.training.stages import freeze_for_stage


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(nano_train.VOCABULARY.parent)


@pytest.fixture
def model(tokenizer: Tokenizer) -> BelleVL:
    return new_model(nano_config_of(tokenizer))


def emoji(name: str) -> int:
    """The class of an emoji in patch targets."""
    return 1 + len(names.SHAPES) + [noun.zh for noun in names.EMOJI].index(name)


def colour(name: str) -> int:
    return 1 + [c.zh for c in names.COLOURS].index(name)


def test_the_resampler_learns_dense_targets_too(model: BelleVL) -> None:
    """With tokens, the dense loss has two parts and reaches the resampler but not its fixed positions."""
    dense = vision_of(model, tokens=True)
    batch = {n: torch.from_numpy(v) for n, v in next(dense_batches(0, 2, Mix(), 3)).items()}
    alone, _ = dense_loss(vision_of(model), batch)
    vision_of(model, tokens=True)  # thaws the resampler again
    loss, _ = dense_loss(dense, batch)
    loss.backward()
    assert float(loss.detach()) > float(alone.detach()) > 0
    pool = model.transformer.visual.attn_pool
    assert pool.query.grad is not None and model.transformer.visual.proj.grad is not None
    assert pool.pos_embed.grad is None


def test_names_point_at_what_they_stand_for(tokenizer: Tokenizer) -> None:
    """A name marks the places of its class, a colour before it narrows it down, other words mark nothing."""
    circle = 1 + [noun.zh for noun in names.SHAPES].index("圆形")
    classes = np.array([0, emoji("猫"), circle, circle])
    colours = np.array([0, 0, colour("红色"), colour("蓝色")])
    ids = tokenizer.encode("猫在蓝色的圆形左边，圆形在哪里")
    points = Pointer(tokenizer)(np.array(ids), classes, colours)
    marked = {at: np.flatnonzero(row).tolist() for at, row in enumerate(points) if row.any()}
    first, second = (at for at, token in enumerate(ids) if [token] == tokenizer.encode("圆形"))
    assert marked == {0: [1], first: [3], second: [2, 3]}


def test_an_answer_recalls_the_names_said_last(tokenizer: Tokenizer) -> None:
    """From a slot on, the last two names of the same conversation are found, none of another one."""
    ids = tokenizer.encode("猫在狗的左边，在苹果旁边")
    cat, dog, apple = (ids.index(tokenizer.encode(name)[0]) for name in ("猫", "狗", "苹果"))
    groups = np.array([1] * apple + [2] * (len(ids) - apple))
    recalls = Pointer(tokenizer).recalls(np.array(ids), groups, np.array([cat, dog + 1, len(ids) - 1]))
    assert recalls.tolist() == [[cat, -1], [dog, cat], [apple, -1]]


def test_words_are_near_what_shows_them(model: BelleVL, tokenizer: Tokenizer) -> None:
    """A token equal to the embedding of its name costs less than one equal to another name's; nothing costs nothing."""
    head, table = WordHead(tokenizer, model.config.vocab_size), model.transformer.wte.weight
    batch = {
        "classes": torch.tensor([[emoji("猫"), 0]]),
        "colours": torch.zeros(1, 2, dtype=torch.long),
        "occupied": torch.tensor([[True, False]]),
    }
    cat, dog = (table[tokenizer.encode(word)[0]].expand(1, 2, -1) for word in ("猫", "狗"))
    assert float(head(cat, table, batch)) < float(head(dog, table, batch))
    empty = batch | {"occupied": torch.zeros(1, 2, dtype=torch.bool)}
    assert float(head(dog, table, empty)) == 0


def test_pointing_loss_is_the_attention_that_names_pay(model: BelleVL) -> None:
    """With all queries zero, attention is even: the loss of a name is the log of what it sees over what it means; the
    hidden states are those of the model, and the box to be read is the named thing's."""
    model.eval()
    width, slot, tokens = model.config.hidden_size, 2, 8
    block = model.transformer.h[1].attn.c_attn
    head = PointingHead(width)
    with torch.no_grad():
        block.weight[:width] = 0
        block.bias[:width] = 0
        head.box.weight.zero_()
        head.box.bias.copy_(torch.tensor([0.1, 0.2, 0.5, 0.5]))
    mask = torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None]
    points = torch.full((1, tokens, 4), NOWHERE)
    points[0, 7, 1:3] = 0  # the last token sees all eight and stands for two of them
    boxes = torch.tensor([[0, 0, 0, 0], [0.1, 0.2, 0.5, 0.6], [0.1, 0.2, 0.5, 0.6], [0, 0, 0, 0]])[None]
    x, positions = torch.randn(1, tokens, width), torch.arange(tokens)[None]
    batch = {"points": points, "boxes": boxes, "positions": positions, "slots": torch.tensor([[4, 7]])}
    batch |= {"recalls": torch.tensor([[[1, -1], [3, 2]]]), "decides": torch.tensor([[True, False]])}
    with torch.no_grad():
        recall = model.transformer.h[3].attn.c_attn
        recall.weight[:width], recall.bias[:width] = 0, 0
    hidden, losses = head(model, x, batch, mask, slot)
    assert float(losses["recalled"].detach()) == pytest.approx(np.log(5), abs=1e-4)  # slot 4 sees five tokens
    assert float(losses["points"].detach()) == pytest.approx(np.log(8 / 2), abs=1e-4)
    assert float(losses["named"].detach()) == pytest.approx(0.1, abs=1e-4)
    torch.testing.assert_close(hidden, model.decode_hidden(x, positions=positions, mask=mask))


def test_all_losses_reach_the_language_model_and_the_resampler(model: BelleVL, tokenizer: Tokenizer) -> None:
    """A batch with dense targets and points reports every part; gradients flow to both, none into the encoder."""
    freeze_for_stage(model, 2).train()
    batch = {n: torch.from_numpy(v) for n, v in next(row_batches(0, 2, Mix(), 1, tokenizer, 64, True, True)).items()}
    heads = {"reader": DenseHead(model.config.hidden_size), "words": WordHead(tokenizer, model.config.vocab_size)}
    heads["pointing"] = PointingHead(model.config.hidden_size)
    loss, figures = RowLoss(model, picture_column(tokenizer, 64), compiled=False, **heads)(batch)
    loss.backward()
    assert {"answers", "decided", "read", "place", "words", "points", "named", "recalled"} <= set(figures)
    assert float(loss.detach()) > figures["answers"]
    assert F.relu(model.transformer.h[1].attn.c_attn.weight.grad).sum() > 0
    assert model.transformer.visual.attn_pool.query.grad is not None
    assert all(p.grad is None for p in model.transformer.visual.transformer.parameters())


def test_the_plan_chains() -> None:
    """Stages have names of their own, and what points or lies near words also reads dense targets."""
    assert len({stage.name for stage in PLAN}) == len(PLAN)
    assert all(stage.reader for stage in PLAN if stage.words or stage.points)
