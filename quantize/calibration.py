"""Calibration sets: conversations, with pictures where the model sees, as the prompts it will really get.

    None             the default set: drawn pictures with questions and answers in Chinese and English, and dialogues
    a folder         its pictures, each asked about in Chinese or English
    .json, .jsonl    conversations [{"from": "user", "value": "Picture 1: <img>path</img>\\n..."}, ...], the form
                     of the family's fine-tuning data; paths are relative to the file
    examples         `Example` objects made by the caller

Knows the tokenizer and pictures, not the model.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bellevl import nano
from bellevl.config import ModelConfig
from bellevl.errors import PictureError, QuantizeError
from bellevl.image import open_picture, preprocess
from bellevl.nano.questions import ask
from bellevl.nano.world import draw_scene
from bellevl.prompt import Conversation, Turn, build_prompt
from bellevl.tokenizer import Tokenizer

from .recipe import Recipe

#: Dialogues without pictures that ship with the package.
DIALOGUES = Path(__file__).with_name("dialogues.jsonl")

#: The vocabulary of the embedded model; a model with it has seen drawn pictures only.
NANO_VOCABULARY = Path(nano.__file__).with_name("qwen.tiktoken")

#: Of the default set this share are dialogues without a picture.
TEXT_SHARE = 1 / 3

#: Every dialogue of this number is kept for measuring.
HELD_OUT = 5

#: Shorter samples are of no use.
FEWEST_TOKENS = 16

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

#: Asked about pictures that come without a question.
QUESTIONS = (
    "描述图片",
    "Describe the picture.",
    "图中有什么？",
    "What is in this picture?",
    "请详细描述这张图片的内容。",
    "Describe this image in detail.",
    "图片里的文字写的是什么？",
    "Is there a person in the image? Please answer yes or no.",
)

_IMAGE = re.compile(r"(?:Picture \d+: ?)?<img>(.*?)</img>\n?")

PictureSource = Path | Image.Image


@dataclass(frozen=True)
class Example:
    """One conversation. `pictures` belong to the turns in order, as many as the turns say."""

    turns: tuple[Turn, ...]
    pictures: tuple[PictureSource, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One sequence that calibrates: ids, and a picture for each slot in them."""

    ids: tuple[int, ...]
    pictures: tuple[PictureSource, ...] = ()


CalibrationSource = str | Path | Sequence[Example] | None


@dataclass(frozen=True)
class CalibrationSet:
    """The samples of a job."""

    samples: tuple[Sample, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [len(sample.ids) for sample in self.samples]

    def pixels(self, n: int, image_size: int) -> Tensor:
        """The pictures of sample n, [N, 3, S, S]. Raises QuantizeError when one cannot be read."""
        return torch.stack([preprocess(_open(p), image_size) for p in self.samples[n].pictures])

    def token_weights(self, config: ModelConfig, picture_weight: float) -> list[Tensor] | None:
        """How much each token of each sample counts [T]; None where all count the same."""
        if config.visual is None or picture_weight == 1:
            return None
        weights = [torch.ones(length) for length in self.lengths]
        for sample, weight in zip(self.samples, weights, strict=True):
            for at in (n for n, token in enumerate(sample.ids) if token == config.visual.image_start_id):
                weight[at : at + config.visual.n_queries + 2] = picture_weight
        return weights

    def fingerprint(self) -> str:
        """A hash of all ids and pictures."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(np.array(sample.ids, dtype=np.int64).tobytes())
            for picture in sample.pictures:
                data = picture.tobytes() if isinstance(picture, Image.Image) else _read(picture)
                digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()


def calibration_set(
    source: CalibrationSource, tokenizer: Tokenizer, config: ModelConfig, folder: Path, recipe: Recipe
) -> CalibrationSet:
    """The samples of `source` for the model in `folder`. Raises QuantizeError when it is of no use."""
    rng = random.Random(recipe.seed)
    sees = config.visual is not None
    if source is None:
        examples = _default_examples(folder, config, recipe, rng)
    elif isinstance(source, (str, Path)):
        examples = list(read_examples(Path(source)))
        examples = rng.sample(examples, min(recipe.nsamples, len(examples)))
    else:
        examples = list(source)[: recipe.nsamples]
    name = "the default set" if source is None else source if isinstance(source, (str, Path)) else "the examples"
    made = [_sample(e, tokenizer, config, recipe.seqlen) for e in examples if sees or not e.pictures]
    samples = [sample for sample in made if sample is not None]
    if not samples:
        raise QuantizeError("quantize.calibration", path=name, reason="no conversation in it can be used")
    return CalibrationSet(tuple(samples))


def held_out_set(
    tokenizer: Tokenizer, config: ModelConfig, folder: Path, nsamples: int, seqlen: int, seed: int = 0
) -> CalibrationSet:
    """Conversations like those of the default set, none of which calibrates: for measuring what came out."""
    recipe, rng = Recipe(nsamples=nsamples, seqlen=seqlen), random.Random(seed)
    examples = _default_examples(folder, config, recipe, rng, held_out=seed)
    made = [_sample(example, tokenizer, config, seqlen) for example in examples]
    return CalibrationSet(tuple(sample for sample in made if sample is not None))


def read_examples(path: Path) -> Iterator[Example]:
    """Examples of a folder of pictures or of a .json or .jsonl file. Raises QuantizeError."""
    if path.is_dir():
        pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        for n, picture in enumerate(pictures):
            yield Example((Turn(QUESTIONS[n % len(QUESTIONS)], pictures=1),), (picture,))
        return
    for number, entry in enumerate(_read_entries(path), 1):
        try:
            yield _parse_entry(entry, path.parent)
        except ValueError as error:
            reason = f"conversation {number}: {error}"
            raise QuantizeError("quantize.calibration", path=path, reason=reason) from error


def _default_examples(
    folder: Path, config: ModelConfig, recipe: Recipe, rng: random.Random, held_out: int | None = None
) -> list[Example]:
    """Drawn pictures with their questions and, unless the model knows nothing else, dialogues.

    `held_out`: the seed of those that are kept for measuring, None: those that calibrate.
    """
    side = 0 if config.visual is None else min(max(config.visual.image_size, 56), 448)
    texts = round(recipe.nsamples * TEXT_SHARE)
    if not side:
        texts = recipe.nsamples
    elif _same_file(folder / "qwen.tiktoken", NANO_VOCABULARY):
        texts = 0
    drawn = [_drawn_example(recipe.seed, n, side, held_out) for n in range(recipe.nsamples - texts)]
    measured = held_out is not None
    dialogues = [d for n, d in enumerate(read_examples(DIALOGUES) if texts else ()) if (n % HELD_OUT == 0) == measured]
    spoken = [_joined(rng.sample(dialogues, rng.randint(1, 3))) for _ in range(texts)]
    examples = drawn + spoken
    rng.shuffle(examples)
    return examples


def _drawn_example(seed: int, number: int, side: int, held_out: int | None = None) -> Example:
    """A drawn picture and up to four questions about it with their answers."""
    if held_out is None:
        generator = np.random.default_rng((seed, number))
        scene = draw_scene(generator, "train", size=side)
    else:
        generator = np.random.default_rng((HELD_OUT, held_out, number))
        scene = draw_scene(generator, "heldout", size=side)
    asked = ask(scene, generator, n=4)
    turns = [Turn(turn.question, turn.answer, pictures=int(n == 0)) for n, turn in enumerate(asked)]
    return Example(tuple(turns), (scene.picture,))


def _joined(dialogues: Iterable[Example]) -> Example:
    return Example(tuple(turn for dialogue in dialogues for turn in dialogue.turns))


def _sample(example: Example, tokenizer: Tokenizer, config: ModelConfig, seqlen: int) -> Sample | None:
    """The prompt of an example with its last answer, cut after `seqlen` ids; None where hardly anything is left.

    A picture that the cut would go through goes with all that follows it.
    """
    queries = 0 if config.visual is None else config.visual.n_queries
    ids = build_prompt(tokenizer, Conversation(example.turns), queries, window=sys.maxsize).ids
    end, shown = min(len(ids), seqlen), 0
    for at in (n for n, token in enumerate(ids) if token == tokenizer.image_start_id):
        if at < end < at + queries + 2:
            end = at
        shown += at < end
    return Sample(tuple(ids[:end]), example.pictures[:shown]) if end >= FEWEST_TOKENS else None


def _read_entries(path: Path) -> list[Any]:
    """The entries of a .json list or of a .jsonl file."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        entries = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise QuantizeError("quantize.calibration", path=path, reason=error) from error
    if not isinstance(entries, list):
        raise QuantizeError("quantize.calibration", path=path, reason="not a list of conversations")
    return entries


def _parse_entry(entry: Any, folder: Path) -> Example:
    """One entry of fine-tuning data. Raises ValueError."""
    messages = entry.get("conversations") if isinstance(entry, dict) else entry
    if not isinstance(messages, list) or not messages:
        raise ValueError("no list of messages")
    turns: list[Turn] = []
    pictures: list[PictureSource] = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("value"), str):
            raise ValueError("a message without a value")
        value = message["value"]
        if message.get("from") == "user":
            found = _IMAGE.findall(value)
            pictures += [folder / name for name in found]
            turns.append(Turn(_IMAGE.sub("", value).strip(), pictures=len(found)))
        elif turns:
            turns[-1] = Turn(turns[-1].question, value, turns[-1].pictures)
    if not turns:
        raise ValueError("no message is from the user")
    return Example(tuple(turns), tuple(pictures))


def _open(picture: PictureSource) -> Image.Image:
    try:
        return open_picture(picture).image
    except PictureError as error:
        raise QuantizeError("quantize.calibration", path=picture, reason=error.cause) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise QuantizeError("quantize.calibration", path=path, reason=error.strerror or error) from error


def _same_file(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()
