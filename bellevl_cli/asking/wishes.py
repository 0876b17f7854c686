"""What a person asked for on the command line of `ask`, one record a matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..options import ModelOptions, SamplingOptions
from ..pictures.wishes import PictureWishes


@dataclass(frozen=True)
class OutputWishes:
    """The form of the answer and where it goes."""

    json: bool = False
    jsonl: bool = False
    no_stream: bool = False
    file: Path | None = None
    quiet: bool = False
    extract: str | None = None
    expect: str | None = None

    @property
    def records(self) -> bool:
        """Whether a program reads it."""
        return self.json or self.jsonl


@dataclass(frozen=True)
class ThreadWishes:
    """The log: go on with an earlier dialogue, or leave no trace."""

    latest: bool = False
    id: str | None = None
    no_log: bool = False

    @property
    def goes_on(self) -> bool:
        return self.latest or self.id is not None


@dataclass(frozen=True)
class AskOptions:
    """`words` are pictures and, behind them, the question; `question` is the one that was named as such."""

    words: tuple[str, ...] = ()
    question: str | None = None
    output: OutputWishes = field(default_factory=OutputWishes)
    model: ModelOptions = field(default_factory=ModelOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    thread: ThreadWishes = field(default_factory=ThreadWishes)
    template: str | None = None
    params: tuple[str, ...] = ()
    schema: str | None = None
    sure: int | None = None
    together: bool = False
    pictures: PictureWishes = field(default_factory=PictureWishes)
    ocr: str | None = None
    dry_run: bool = False
