"""What the log tells: threads (a picture and the dialogue about it), their turns, and what a search found.

A thread can also be made by hand, from a chat that was not logged. Knows no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: bellevl.prompt.DEFAULT_SYSTEM, which cannot be had without the tokenizer's libraries.
USUAL_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class StoredTurn:
    """A question and its answer as the model wrote it, boxes' markup included.

    `finish_reason` is "stop", "length" or "interrupted"; None: the program ended before the answer did. `asked` is in
    seconds since 1970.
    """

    question: str
    answer: str = ""
    finish_reason: str | None = None
    asked: float = 0.0
    params: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    boxes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class StoredThread:
    """A picture, if there is one, and the dialogue about it.

    `picture_path` is None for a picture that came through a pipe or from the clipboard. `stored_copy` is a copy of it
    that the log keeps (config `store_images`). `picture_size` is (width, height) in pixels of the whole picture,
    `picture_area` (left, top, right, bottom) the piece of it that the dialogue is about, None for all of it.
    """

    id: str
    name: str | None = None
    picture_name: str | None = None
    picture_path: Path | None = None
    picture_sha256: str | None = None
    picture_size: tuple[int, int] | None = None
    picture_area: tuple[int, int, int, int] | None = None
    stored_copy: Path | None = None
    model: str = ""
    system: str | None = None
    created: float = 0.0
    used: float = 0.0
    turns: tuple[StoredTurn, ...] = ()

    @property
    def own_system(self) -> str | None:
        """The system prompt, if it is another than everybody's."""
        return None if self.system == USUAL_SYSTEM else self.system

    @property
    def has_picture(self) -> bool:
        return self.picture_sha256 is not None


@dataclass(frozen=True)
class ThreadLine:
    """A thread as a list shows it. `question` is its latest one."""

    id: str
    name: str | None
    picture_name: str | None
    model: str
    created: float
    used: float
    turns: int
    question: str


@dataclass(frozen=True)
class Found:
    """A turn that a search found, and the thread it belongs to."""

    thread: ThreadLine
    turn: StoredTurn
