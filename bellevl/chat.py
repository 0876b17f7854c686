"""A conversation about a picture: questions in, pieces of text out. Prints nothing and knows no terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import torch
from PIL import Image
from torch import Tensor

from .config import GenerationConfig
from .errors import CheckpointError, PromptError
from .generate import Constraint, Interrupted, generate
from .image import Picture, open_picture, preprocess
from .model import BelleVL
from .prompt import DEFAULT_SYSTEM, Conversation, Parts, Prompt, Turn, build_prompt, count_parts, encode_answer
from .sampling import Sampling
from .tokenizer import StreamDecoder, Tokenizer

ImageSource = str | os.PathLike[str] | BinaryIO | Image.Image | Picture


@dataclass(frozen=True)
class Stats:
    """What an answer took. Seconds are wall time; `prefill_seconds` ends with the first token.

    `forgotten` are the turns (counted from 0) that no longer fitted the window.
    """

    prompt_tokens: int
    new_tokens: int
    vision_seconds: float
    prefill_seconds: float
    decode_seconds: float
    forgotten: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of an answer. The last one has `finish_reason` ("stop", "length" or "interrupted") and `stats`."""

    text: str
    tokens: int
    finish_reason: str | None = None
    stats: Stats | None = None


@dataclass(frozen=True)
class Dialogue:
    """A picture and what was said about it, to come back to with `Chat.go_back`. `features` are the picture's, once
    they were computed; `answer_ids` are the last answer's tokens and `finish_reason` says why it ended."""

    picture: Picture | None = None
    turns: tuple[Turn, ...] = ()
    features: Tensor | None = None
    answer_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None


class Chat:
    """One picture and the dialogue about it.

    The model was trained on one picture at a time, so a new picture begins a new dialogue.
    """

    def __init__(
        self,
        model: BelleVL,
        tokenizer: Tokenizer,
        generation: GenerationConfig | None = None,
        system: str = DEFAULT_SYSTEM,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.generation = generation or model.generation
        self.system = system
        self.turns: list[Turn] = []
        self.picture: Picture | None = None
        #: why the last answer ended: "stop", "length", "interrupted"; None where nobody knows
        self.finish_reason: str | None = None
        #: tokens of the prompt that go through the model at a time; None: all. Fewer take less memory.
        self.chunk: int | None = None
        #: the form of the KV cache: "float", or "int8" in half the memory
        self.kv = "float"
        self._features: Tensor | None = None
        self._further: tuple[Picture, ...] = ()
        self._answer_ids: list[int] | None = None

    def ask(self, text: str, image: ImageSource | None = None, **sampling: Any) -> Iterator[str]:
        """The answer in pieces of whole characters. `sampling`: see `Sampling`.

        Raises at once: PictureError, PromptError for a question or setting the model cannot take, CheckpointError for
        a picture shown to a text-only model. The dialogue is then as it was.
        """
        return (piece.text for piece in self.stream(text, image, **sampling) if piece.text)

    def stream(
        self,
        text: str,
        image: ImageSource | None = None,
        *,
        stop: Callable[[], bool] | None = None,
        more: Sequence[ImageSource] = (),
        constraint: Constraint | None = None,
        **sampling: Any,
    ) -> Iterator[Piece]:
        """The answer as records; `stop` is asked between tokens. An answer that was interrupted, by `stop` or by
        leaving the iterator, stays in the dialogue as far as it came. Errors as `ask`, raised at once.

        `more` are further pictures of a question with one (the model was not trained on that); `constraint` is what
        the answer keeps to (constraint.py)."""
        settings = Sampling.of(self.generation, **sampling)
        new = None if image is None else self._open(image)
        further = tuple(self._open(one) for one in more)
        assert new is not None or not further, "further pictures without a first one"
        before = self.turns if new is None else []
        first = (new or self.picture) is not None and not any(turn.pictures for turn in before)
        turns = [*before, Turn(text, pictures=int(first) + len(further))]
        prompt = self._prompt(turns, settings)
        if new is not None:
            self._begin(new)
            self._further = further
        return self._answer(turns, prompt, settings, stop, constraint=constraint)

    def retry(self, *, stop: Callable[[], bool] | None = None, **sampling: Any) -> Iterator[Piece]:
        """Answers the last question again, in place of the answer it had. There must be one."""
        assert self.turns, "nothing was asked yet"
        settings = Sampling.of(self.generation, **sampling)
        turns = [*self.turns[:-1], replace(self.turns[-1], answer=None)]
        return self._answer(turns, self._prompt(turns, settings), settings, stop)

    def continue_(self, *, stop: Callable[[], bool] | None = None, **sampling: Any) -> Iterator[Piece]:
        """Goes on with the last answer where it stopped; the pieces hold only what is new. There must be a question.

        The tokens so far are the ones the model wrote, so greedily the joined answer is the one that an answer without
        a stop would have been.
        """
        assert self.turns, "nothing was asked yet"
        settings = Sampling.of(self.generation, **sampling)
        begun = self._begun()
        turns = list(self.turns)
        prompt = self._prompt([*turns[:-1], replace(turns[-1], answer=None)], settings, len(begun))
        return self._answer(turns, prompt, settings, stop, begun)

    def show(self, image: ImageSource) -> Picture:
        """Opens a picture and begins a new dialogue about it; on an error everything stays as it was."""
        picture = self._open(image)
        self._begin(picture)
        return picture

    def undo(self) -> Turn | None:
        """Takes the last turn back: the dialogue is as if it had never been asked."""
        self._ended(None, None)
        return self.turns.pop() if self.turns else None

    def clear(self) -> None:
        """Forgets the dialogue and keeps the picture."""
        self.turns = []
        self._ended(None, None)

    def restore(self, turns: Sequence[Turn], picture: ImageSource | None) -> None:
        """Takes up a dialogue from elsewhere. Raises PictureError, the dialogue here is then as it was."""
        opened = None if picture is None else self._open(picture)
        self.go_back(Dialogue(opened, tuple(turns)))

    def dialogue(self) -> Dialogue:
        """The dialogue as it stands."""
        ids = None if self._answer_ids is None else tuple(self._answer_ids)
        return Dialogue(self.picture, tuple(self.turns), self._features, ids, self.finish_reason)

    def go_back(self, dialogue: Dialogue) -> None:
        """The dialogue becomes `dialogue`; its picture is not looked at again where that was done already."""
        self.picture, self.turns, self._features = dialogue.picture, list(dialogue.turns), dialogue.features
        self._further = ()
        self._ended(dialogue.finish_reason, None if dialogue.answer_ids is None else list(dialogue.answer_ids))

    def parts(self) -> Parts:
        """How many tokens of the window each part of the dialogue takes."""
        visual = self.model.config.visual
        conversation = Conversation(tuple(self.turns), self.system)
        return count_parts(self.tokenizer, conversation, visual.n_queries if visual else 0)

    def window(self, **sampling: Any) -> int:
        """The most tokens that a prompt may have beside an answer of `max_tokens`."""
        most = self.model.config.max_position_embeddings
        return max(min(self.generation.max_window_size, most - Sampling.of(self.generation, **sampling).max_tokens), 1)

    def _open(self, image: ImageSource) -> Picture:
        if self.model.config.visual is None:
            raise CheckpointError("model.text_only", folder=self.model.folder)
        return open_picture(image)

    def _begin(self, picture: Picture) -> None:
        self.go_back(Dialogue(picture))

    def _ended(self, reason: str | None, ids: list[int] | None) -> None:
        self.finish_reason, self._answer_ids = reason, ids

    def _begun(self) -> list[int]:
        """The last answer's tokens: as the model wrote them, else as its text reads."""
        if self._answer_ids is not None:
            return self._answer_ids
        return encode_answer(self.tokenizer, self.turns[-1].answer or "")

    def _prompt(self, turns: list[Turn], settings: Sampling, begun: int = 0) -> Prompt:
        """The prompt with room for the answer behind it, of which `begun` tokens are there already. Raises
        PromptError, which names what asks for too much."""
        most = self.model.config.max_position_embeddings
        window = min(self.generation.max_window_size, most)
        try:
            return self._build(turns, min(window, most - settings.max_tokens) - begun)
        except PromptError:
            self._build(turns, window - begun)  # too long whatever max_tokens is: this says so
        reason = f"more than the model's window of {most} has room for"
        raise PromptError("prompt.setting", name="max_tokens", value=settings.max_tokens, reason=reason)

    def _build(self, turns: list[Turn], window: int) -> Prompt:
        visual = self.model.config.visual
        conversation = Conversation(tuple(turns), self.system)
        return build_prompt(self.tokenizer, conversation, visual.n_queries if visual else 0, max(window, 1))

    def _answer(
        self,
        turns: list[Turn],
        prompt: Prompt,
        settings: Sampling,
        stop: Callable[[], bool] | None,
        begun: Sequence[int] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[Piece]:
        """Runs the model; the turn and its answer so far stand in `turns` at every moment. `begun` are the tokens that
        the answer has already."""
        meter = _Meter(prompt)
        decoder = StreamDecoder(self.tokenizer)
        for token_id in begun:
            decoder.push(token_id)  # it may end in the middle of a character
        self.turns = turns
        ids = list(begun)
        self._ended("interrupted", ids)
        reason, said = "interrupted", turns[-1].answer or ""
        try:
            features = self._encode(stop) if prompt.pictures else None
            meter.saw()
            for token in generate(
                self.model, [*prompt.ids, *begun], features, sampling=settings, stop_ids=self.stop_ids, stop=stop,
                constraint=constraint, chunk=self.chunk, kv=self.kv,
            ):  # fmt: skip
                meter.counted()
                reason = token.finish_reason or "interrupted"
                text = decoder.push(token.id) + (decoder.flush() if token.finish_reason else "")
                said += text
                self.turns[-1] = replace(turns[-1], answer=said)
                self.finish_reason = reason
                if reason != "stop":
                    ids.append(token.id)
                if token.finish_reason is None:
                    yield Piece(text, meter.tokens)
                else:
                    yield Piece(text, meter.tokens, reason, meter.stats())
        except Interrupted:
            reason = "interrupted"
        if reason == "interrupted":
            yield Piece("", meter.tokens, reason, meter.stats())

    @torch.inference_mode()
    def _encode(self, stop: Callable[[], bool] | None) -> Tensor:
        """Features of the picture, computed once."""
        assert self.picture is not None and self.model.config.visual is not None
        if self._features is None:
            shown, size = (self.picture, *self._further), self.model.config.visual.image_size
            pixels = torch.stack([preprocess(picture.image, size) for picture in shown])
            self._features = self.model.encode_images(pixels, stop)
        return self._features

    @property
    def stop_ids(self) -> frozenset[int]:
        t = self.tokenizer
        return frozenset((t.eod_id, t.im_start_id, t.im_end_id))


class _Meter:
    """Counts and times one answer."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.tokens = 0
        self.began = self.seen = self.first = self.last = time.perf_counter()

    def saw(self) -> None:
        self.seen = self.first = self.last = time.perf_counter()

    def counted(self) -> None:
        self.tokens += 1
        self.last = time.perf_counter()
        if self.tokens == 1:
            self.first = self.last

    def stats(self) -> Stats:
        return Stats(
            prompt_tokens=len(self.prompt.ids),
            new_tokens=self.tokens,
            vision_seconds=self.seen - self.began,
            prefill_seconds=self.first - self.seen,
            decode_seconds=self.last - self.first,
            forgotten=self.prompt.forgotten,
        )
