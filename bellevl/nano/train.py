"""The stages that train the nano model from nothing; `scripts/train_nano.py` runs them.

    vision   the encoder alone, dense targets           (pre-training: no weights can be had at this size)
    text     the language model alone, the world's sentences
    align    stage 1 of BELLE-VL: the resampler only, on captions and names
    tune     stage 2 of BELLE-VL: resampler and language model on every kind of question
    focus    stage 2 goes on with a narrower mix: where things are, whether they are there, what they are called
    settle   the same, narrower, while the learning rate falls
    places   the same, mostly about where things are and how they lie to each other
    tokens   encoder and resampler, dense targets: each token of the picture learns to say what it shows, and where
    bind     stage 2 again, on the new tokens: where things are and how they lie to each other
    words    the same, the picture's tokens drawn near the words for what they show
    points   the same, two heads are told what each name stands for
    named    the same, what they fetch must hold the thing's box, and answers say again what they are about
    recall   the same, two heads look back at the names said last where an answer decides
    blend    the same with every kind of question back in, while the learning rate falls

Each stage starts from the one before and resumes where it was stopped. FOLDER/<stage> is a checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..config import ModelConfig
from ..model import BelleVL
from ..tokenizer import Tokenizer
from ..training.loop import Job, Progress, Schedule, train
from ..training.stages import freeze_for_stage
from .pointing import PointingHead
from .pretrain import DenseHead, WordHead, dense_batches, dense_loss, vision_of
from .recipe import nano_config, new_model
from .tune import RowLoss, row_batches
from .world import Mix

VOCABULARY = Path(__file__).parent / "qwen.tiktoken"

#: Stage 1 sees what BELLE-VL's saw: captions and names, nothing that has to be reasoned about.
CAPTIONS = Mix(
    questions=(("caption", 2.0), ("name", 2.0), ("scene", 1.5), ("read", 1.0), ("name_en", 0.5), ("caption_en", 0.5)),
    only_listed=True,
)

#: Stage 2 sees every kind of question; of printed text, which this size reads badly, a little.
EVERYTHING = Mix(spatial=0.40, count=0.16, single=0.16, scene=0.18, text=0.10)


#: The mix that stage 2 narrows to. In a wide mix, where things are stays at the guess: one word among many, in one
#: question of six. Here most pictures are spatial and most questions have one deciding word.
FOCUS = Mix(
    spatial=0.62,
    count=0.08,
    single=0.14,
    scene=0.12,
    text=0.04,
    questions=(
        ("position", 3.0), ("relation", 3.0), ("relation_yn", 1.5), ("zone_name", 0.8),
        ("exist_zh", 2.0), ("exist_yn", 2.0), ("exist_en", 2.0),
        ("name", 2.0), ("colour", 1.5), ("shape", 1.5), ("scene", 1.0), ("caption", 1.0),
        ("colour_yn", 0.5), ("count", 0.8), ("count_all", 0.3), ("read", 1.0), ("read_yn", 0.3),
        ("name_en", 0.4), ("colour_en", 0.3), ("scene_en", 0.3), ("caption_en", 0.2), ("read_en", 0.2),
        ("relation_yn_en", 0.3), ("colour_yn_en", 0.2), ("scene_yn", 0.2), ("scene_yn_en", 0.2), ("count_yn_en", 0.1),
        ("read_yn_en", 0.2), ("ground", 0.25), ("box_name", 0.2), ("talk", 0.12),
    ),
    only_listed=True,
)  # fmt: skip

#: Narrower still, with at most three things in a picture, for the part in which the learning rate falls.
SETTLE = Mix(
    spatial=0.66,
    count=0.07,
    single=0.10,
    scene=0.14,
    text=0.03,
    max_objects=3,
    questions=(
        ("position", 3.0), ("relation", 3.0), ("relation_yn", 1.5), ("zone_name", 0.5),
        ("exist_zh", 2.5), ("exist_yn", 2.5), ("exist_en", 3.2),
        ("name", 1.0), ("colour", 1.0), ("shape", 1.2), ("scene", 0.5), ("caption", 0.8),
        ("colour_yn", 0.3), ("count", 0.6), ("count_all", 0.2), ("read", 0.4), ("read_yn", 0.15),
        ("name_en", 0.5), ("colour_en", 0.2), ("scene_en", 0.2), ("caption_en", 0.1), ("read_en", 0.1),
        ("relation_yn_en", 0.2), ("colour_yn_en", 0.1), ("scene_yn", 0.1), ("scene_yn_en", 0.1), ("count_yn_en", 0.05),
        ("read_yn_en", 0.1), ("ground", 0.06), ("box_name", 0.06), ("talk", 0.12),
    ),
    only_listed=True,
)  # fmt: skip


#: The last part: whether things are there is learned by now, how they lie to each other is not.
PLACES = Mix(
    spatial=0.75,
    count=0.05,
    single=0.06,
    scene=0.12,
    text=0.02,
    max_objects=3,
    questions=(
        ("position", 3.5), ("relation", 5.0), ("relation_yn", 2.5), ("zone_name", 0.4),
        ("exist_zh", 1.5), ("exist_yn", 1.8), ("exist_en", 2.2),
        ("name", 0.6), ("colour", 0.6), ("shape", 1.0), ("scene", 0.4), ("caption", 0.6),
        ("colour_yn", 0.2), ("count", 0.4), ("count_all", 0.15), ("read", 0.3), ("read_yn", 0.1),
        ("name_en", 0.3), ("colour_en", 0.2), ("scene_en", 0.2), ("caption_en", 0.1), ("read_en", 0.1),
        ("relation_yn_en", 0.2), ("colour_yn_en", 0.1), ("scene_yn", 0.1), ("scene_yn_en", 0.1), ("count_yn_en", 0.05),
        ("read_yn_en", 0.1), ("ground", 0.05), ("box_name", 0.05), ("talk", 0.12),
    ),
    only_listed=True,
)  # fmt: skip


#: Two or three things, two questions each of where they are and how they lie, and a little of the rest.
BIND = Mix(
    spatial=0.84,
    count=0.05,
    single=0.04,
    scene=0.06,
    text=0.01,
    shape_share=0.6,
    scene_share=0.15,
    min_objects=2,
    max_objects=3,
    questions=(
        ("position", 9.0), ("relation", 10.0), ("relation_yn", 3.0), ("zone_name", 0.8),
        ("exist_zh", 1.0), ("exist_yn", 1.0), ("exist_en", 1.0),
        ("name", 1.0), ("colour", 1.0), ("shape", 1.5), ("scene", 0.5), ("caption", 0.8), ("count", 0.5),
        ("colour_yn", 0.3), ("count_all", 0.2), ("read", 0.5), ("ground", 0.4), ("box_name", 0.4), ("talk", 0.1),
        ("name_en", 0.3), ("colour_en", 0.3), ("relation_yn_en", 0.5), ("scene_en", 0.1), ("caption_en", 0.1),
    ),
    only_listed=True,
)  # fmt: skip

#: Dense targets are worth most where there is much to see.
DENSE = Mix(spatial=0.55, count=0.15, single=0.10, scene=0.10, text=0.10)

#: Every kind of question, those of one deciding word at the larger share.
BLEND = Mix(
    spatial=0.56,
    count=0.14,
    single=0.10,
    scene=0.14,
    text=0.06,
    questions=(
        ("position", 3.0), ("relation", 3.0), ("relation_yn", 2.0), ("zone_name", 0.6),
        ("exist_zh", 1.6), ("exist_yn", 1.2), ("exist_en", 1.6), ("colour", 1.6), ("shape", 2.2), ("colour_yn", 0.6),
        ("colour_en", 0.6), ("colour_yn_en", 0.4), ("count", 1.5), ("caption", 1.2), ("ground", 0.7),
        ("relation_yn_en", 0.6),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One line of the plan. `reader`: the picture's tokens go on learning their dense targets; `words`: and to lie near
    the words for them; `points`: two heads learn to look from a name at what it stands for."""

    name: str
    schedule: Schedule
    batch: int
    mix: Mix
    seed: int
    reader: bool = False
    words: bool = False
    points: bool = False


PLAN = (
    Stage("vision", Schedule(1050, matrix_lr=5e-3, other_lr=2e-3), 96, Mix(), 1),
    Stage("text", Schedule(120, matrix_lr=4e-3, other_lr=3e-3, warmup=20), 32, Mix(), 2),
    Stage("align", Schedule(120, matrix_lr=2e-3, other_lr=2e-3, warmup=20), 32, CAPTIONS, 3),
    Stage("tune", Schedule(1700, matrix_lr=3e-3, other_lr=2e-3, decay=0.6, until=973), 32, EVERYTHING, 4),
    Stage("focus", Schedule(1200, matrix_lr=3e-3, other_lr=2e-3, decay=0.6, until=363), 32, FOCUS, 5),
    Stage("settle", Schedule(1200, matrix_lr=1.6e-3, other_lr=1.2e-3, warmup=20, decay=0.9, until=515), 32, SETTLE, 6),
    Stage("places", Schedule(700, matrix_lr=1.1e-3, other_lr=8e-4, warmup=10, decay=1.0), 32, PLACES, 7),
    Stage("tokens", Schedule(700, matrix_lr=2.5e-3, other_lr=1.5e-3, warmup=20, decay=0.8), 96, DENSE, 8),
    Stage(
        "bind",
        Schedule(900, matrix_lr=1.5e-3, other_lr=1.1e-3, warmup=20, decay=0.8, until=433),
        32,
        BIND,
        9,
        reader=True,
    ),
    Stage("words", Schedule(900, 1.5e-3, 1.1e-3, warmup=20, decay=0.5, until=692), 32, BIND, 10, True, True),
    Stage("points", Schedule(600, 1.6e-3, 1.2e-3, warmup=20, decay=0.6, until=434), 32, BIND, 11, True, True, True),
    Stage("named", Schedule(450, 1.8e-3, 1.3e-3, warmup=20, decay=0.5, until=299), 32, BIND, 12, True, True, True),
    Stage("recall", Schedule(400, 1.8e-3, 1.3e-3, warmup=20, decay=0.6), 32, BIND, 13, True, True, True),
    Stage("blend", Schedule(440, 1.4e-3, 1e-3, warmup=20, decay=0.85), 32, BLEND, 14, True, True, True),
)


def run_stage(stage: Stage, folder: Path, tokenizer: Tokenizer, compiled: bool = True) -> Iterator[Progress]:
    """Runs one stage to its end unless its result is there; the result is FOLDER/<stage>/model.safetensors."""
    done = folder / stage.name / "model.safetensors"
    if done.is_file():
        return
    model = start_model(stage, folder, tokenizer)
    yield from train(job_of(stage, model, folder, tokenizer, compiled))
    write_checkpoint(model, folder / stage.name, tokenizer)


def start_model(stage: Stage, folder: Path, tokenizer: Tokenizer) -> BelleVL:
    """The result of the stage before, or fresh weights."""
    model = new_model(nano_config_of(tokenizer))
    before = [s.name for s in PLAN][: [s.name for s in PLAN].index(stage.name)]
    if before:
        model.load_state_dict(load_file(folder / before[-1] / "model.safetensors"))
    return model.train()


def take_over(head: nn.Module, prefixes: tuple[str, ...], stage: Stage, folder: Path) -> None:
    """A head that is thrown away in the end, as the nearest stage before left it; it stays fresh where none had it."""
    names = [s.name for s in PLAN]
    for before in reversed(names[: names.index(stage.name)]):
        state = folder / f"{before}.state.pt"
        module = torch.load(state, map_location="cpu", weights_only=True)["module"] if state.is_file() else {}
        for prefix in prefixes:
            found = {name.removeprefix(prefix): t for name, t in module.items() if name.startswith(prefix)}
            if found:
                head.load_state_dict(found)
                return


def nano_config_of(tokenizer: Tokenizer) -> ModelConfig:
    """The configuration for this vocabulary, its rows filled up to a multiple of 128."""
    return nano_config(-(-tokenizer.n_vocab // 128) * 128, tokenizer.image_start_id)


def job_of(stage: Stage, model: BelleVL, folder: Path, tokenizer: Tokenizer, compiled: bool) -> Job:
    """What each stage trains, on what."""
    assert model.config.visual is not None
    queries = model.config.visual.n_queries
    if stage.name in ("vision", "tokens"):
        dense = vision_of(model, tokens=stage.name == "tokens")

        def dense_stream(first: int) -> Any:
            return loader(dense_batches, first, stage.batch, stage.mix, stage.seed)

        def dense_value(batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
            with torch.autocast("cpu", torch.bfloat16):
                return dense_loss(dense, batch)

        return Job(stage.name, dense, stage.schedule, dense_stream, dense_value, folder)
    freeze_for_stage(model, 1 if stage.name == "align" else 2)
    if stage.name == "text":
        model.transformer.visual.requires_grad_(False)

    def rows(first: int) -> Any:
        return loader(
            row_batches, first, stage.batch, stage.mix, stage.seed, tokenizer, queries, stage.reader, stage.points
        )

    slot = picture_column(tokenizer, queries)
    width = model.config.hidden_size
    heads: dict[str, nn.Module] = {}
    if stage.reader:
        heads["reader"] = DenseHead(width)
    if stage.words:
        heads["words"] = WordHead(tokenizer, model.config.vocab_size)
    if stage.points:
        heads["pointing"] = PointingHead(width)
    for name, head in heads.items():
        take_over(head, (f"{name}.", "tokens.") if name == "reader" else (f"{name}.",), stage, folder)
    loss = RowLoss(model, slot, pictures=stage.name != "text", compiled=compiled, **heads)  # type: ignore[arg-type]
    module = nn.ModuleDict({"model": model, **heads}) if heads else model
    return Job(stage.name, module, stage.schedule, rows, loss, folder)


def picture_column(tokenizer: Tokenizer, n_queries: int) -> int:
    """Column of the image start token: the same in every row."""
    from .rows import RowBuilder

    builder = RowBuilder(tokenizer, n_queries)
    return len(builder.system) + builder.picture.index(tokenizer.image_start_id)


class _Stream(torch.utils.data.IterableDataset):
    def __init__(self, make: Any, args: tuple[Any, ...]) -> None:
        self.make, self.args = make, args

    def __iter__(self) -> Iterator[Any]:
        return self.make(*self.args)


def loader(make: Any, *args: Any) -> Any:
    """Batches drawn in a process beside the training one."""
    return torch.utils.data.DataLoader(_Stream(make, args), batch_size=None, num_workers=1, prefetch_factor=4)


def write_checkpoint(model: BelleVL, folder: Path, tokenizer: Tokenizer) -> None:
    """A checkpoint folder of the family: config, vocabulary, weights; the weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(model.config), indent=1) + "\n", encoding="utf-8")
    generation = {
        "chat_format": "chatml", "do_sample": True, "eos_token_id": tokenizer.eod_id, "pad_token_id": tokenizer.eod_id,
        "max_window_size": 448, "max_new_tokens": 128, "top_k": 0, "top_p": 0.3,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(VOCABULARY, folder / "qwen.tiktoken")
    partial = folder / "model.safetensors.partial"
    save_file(
        {n: t.detach().contiguous() for n, t in model.state_dict().items()},
        partial,
        metadata={"format": "pt"},
    )
    os.replace(partial, folder / "model.safetensors")


def config_json(config: ModelConfig) -> dict[str, Any]:
    """config.json in the family's own keys."""
    raw = asdict(config)
    return {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "tokenizer_type": "QWenTokenizer",
        **raw,
    }
