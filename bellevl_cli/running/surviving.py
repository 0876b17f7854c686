"""A chat that outlives a lack of memory, says what it is at, and learns how fast it is. Writes nothing itself.

What does not fit in one pass often fits in pieces: after memory ran out before the first word, the same question goes
through once more in chunks, and so does everything after it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from torch import Tensor

from bellevl.chat import Chat, Piece
from bellevl.errors import OutOfMemoryError
from bellevl.prompt import Turn

from ..exits import is_out_of_memory
from . import speeds
from .preflight import free_memory, readable_bytes

#: Tokens of the prompt at a time when they did not fit all at once. A picture is 258.
RETRY_CHUNK = 128


class SurvivingChat(Chat):
    """As Chat. `seen` hears the seconds that a picture took, `retrying` that memory ran out; `row` is where its speed
    is kept (None: nowhere) and `load_seconds` what loading took, told with the first answer."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.seen: Callable[[float], object] = lambda seconds: None
        self.retrying: Callable[[], object] = lambda: None
        self.row: str | None = None
        self.load_seconds: float | None = None

    def _answer(self, turns: list[Turn], *arguments: Any, **keywords: Any) -> Iterator[Piece]:
        """Raises OutOfMemoryError with numbers where memory runs out twice, or in the middle of an answer."""
        asked = list(turns)
        end = yield from self._attempt(turns, arguments, keywords)
        if end == "before" and self.chunk is None:
            release(self.model.device)
            self.chunk = RETRY_CHUNK
            self.retrying()
            end = yield from self._attempt(asked, arguments, keywords)
        if end != "done":
            release(self.model.device)
            free = readable_bytes(free_memory(str(self.model.device)) or 0)
            raise OutOfMemoryError("memory.exhausted", device=self.model.device, free=free)

    def _attempt(
        self, turns: list[Turn], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Generator[Piece, None, str]:
        """Answers; "done", or that memory ran out "before" the first token or "after". The error is gone then: it
        holds the frames, and those the tensors, that are in the way."""
        end = "before"
        try:
            for piece in super()._answer(turns, *arguments, **keywords):
                end = "after"
                self._learn(piece)
                yield piece
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return end
        return "done"

    def _encode(self, stop: Callable[[], bool] | None) -> Tensor:
        known, began = self._features is not None, time.perf_counter()
        features = super()._encode(stop)
        if not known:
            if features.is_cuda:
                torch.cuda.synchronize(features.device)
            self.seen(time.perf_counter() - began)
        return features

    def _learn(self, piece: Piece) -> None:
        """A whole answer's figures go into the record."""
        stats = piece.stats
        if self.row is None or stats is None or piece.finish_reason not in ("stop", "length"):
            return
        characters = len(self.turns[-1].answer or "")
        speeds.learn(
            self.row,
            speeds.Run(
                self.load_seconds, stats.vision_seconds, stats.prefill_seconds, stats.decode_seconds,
                stats.prompt_tokens, stats.new_tokens, characters,
            ),
        )  # fmt: skip
        self.load_seconds = None


def release(device: torch.device) -> None:
    """Gives back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
