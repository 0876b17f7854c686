"""Arguments and options that commands share, typed once. Their help is the table of words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .settings import switched_on
from .words import say


@dataclass(frozen=True)
class SamplingOptions:
    """How the answer is drawn; None is the model's own default."""

    max_tokens: int | None = None
    greedy: bool = False
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None

    def keywords(self) -> dict[str, Any]:
        """As `Chat.stream` takes them. `greedy` off means the model's default, which may be greedy too."""
        return {
            "max_tokens": self.max_tokens,
            "greedy": self.greedy or None,
            "seed": self.seed,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }


@dataclass(frozen=True)
class ModelOptions:
    """Which model, where, and under what system prompt."""

    model: Path | None = None
    device: str | None = None
    system: str | None = None


class _Debug:
    """Whether tracebacks are shown; set by `--debug`, wherever it stands."""

    on = False


def debugging() -> bool:
    return _Debug.on or switched_on("BELLEVL_DEBUG")


def _set_debug(value: bool) -> bool:
    _Debug.on = _Debug.on or value
    return value


ModelFolder = Annotated[
    Path | None, typer.Option("--model", "-m", help=say("help.model"), metavar="DIR", show_default=False)
]
Device = Annotated[str | None, typer.Option("--device", help=say("help.device"), metavar="NAME", show_default=False)]
System = Annotated[str | None, typer.Option("--system", help=say("help.system"), metavar="TEXT", show_default=False)]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help=say("help.max_tokens"), metavar="N", show_default=False)
]
Greedy = Annotated[bool, typer.Option("--greedy", help=say("help.greedy"), show_default=False)]
Seed = Annotated[int | None, typer.Option("--seed", help=say("help.seed"), metavar="N", show_default=False)]
SampleSeed = Annotated[
    int | None, typer.Option("--seed", help=say("help.sample_seed"), metavar="N", show_default=False)
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help=say("help.temperature"), metavar="X", show_default=False)
]
TopP = Annotated[float | None, typer.Option("--top-p", help=say("help.top_p"), metavar="X", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help=say("help.json"), show_default=False)]
Debug = Annotated[bool, typer.Option("--debug", help=say("help.debug"), callback=_set_debug, show_default=False)]
