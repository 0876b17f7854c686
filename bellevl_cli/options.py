"""Arguments and options that commands share, typed once. Their help is the table of words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from bellevl.config import KV_FORMS

from .exits import UsageError
from .keys import LEAST_CONTEXT, VISION_PLACES
from .screen import look
from .screen.clean import clean_line, set_encoding, typed_text
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
    """Which model, where, under what system prompt, and in which language and script it answers."""

    model: Path | str | None = None  # a folder or a name; a string keeps the ./ that says which
    device: str | None = None
    system: str | None = None
    context: int | None = None
    max_memory: int | None = None
    language: str | None = None
    script: str | None = None
    kv: str | None = None
    vision: str | None = None


class _Debug:
    """Whether tracebacks are shown; set by `--debug`, wherever it stands."""

    on = False


def debugging() -> bool:
    return _Debug.on or switched_on("BELLEVL_DEBUG")


def _set_debug(value: bool) -> bool:
    _Debug.on = _Debug.on or value
    return value


def _one_of(name: str, choices: tuple[str, ...], value: str | None) -> str | None:
    """`value` in small letters. Raises UsageError for one that is not among the choices."""
    if value is None:
        return None
    chosen = value.strip().lower()
    if chosen not in choices:
        raise UsageError(say("usage.choice", name=name, value=clean_line(typed_text(value)), choices=" ".join(choices)))
    return chosen


def _set_color(value: str | None) -> str | None:
    look.asked.color = _one_of("--color", look.COLORS, value) or look.asked.color
    return value


def _set_plain(value: bool) -> bool:
    look.asked.plain = look.asked.plain or value
    return value


def _set_format(value: str | None) -> str | None:
    look.asked.format = look.asked.format or _one_of("--format", look.FORMATS, value)
    return value


def _set_raw(value: bool) -> bool:
    if value:
        look.asked.format = "raw"
    return value


def _set_stats(value: bool) -> bool:
    look.asked.stats = look.asked.stats or value
    return value


def _set_encoding(value: str | None) -> str | None:
    """Raises UsageError for an encoding that Python does not have."""
    if value is not None and not set_encoding(value):
        raise UsageError(say("usage.encoding", value=clean_line(typed_text(value))))
    return value


def _lang(value: str | None) -> str | None:
    return _one_of("--lang", ("zh", "en", "auto"), value)


def _script(value: str | None) -> str | None:
    """Raises UsageError where the package that converts is not installed."""
    if value is not None:
        require_opencc()
    return _one_of("--script", ("hans", "hant"), value)


def require_opencc() -> None:
    """Raises UsageError where the package is not installed."""
    if find_spec("opencc") is None:
        raise UsageError(say("usage.opencc"))


def _kv(value: str | None) -> str | None:
    return _one_of("--kv", KV_FORMS, value)


def _vision(value: str | None) -> str | None:
    return _one_of("--vision", VISION_PLACES, value)


def _context(value: int | None) -> int | None:
    """Raises UsageError for a window that holds no picture and question."""
    if value is not None and value < LEAST_CONTEXT:
        raise UsageError(say("usage.least", name="--ctx", value=value, least=LEAST_CONTEXT))
    return value


def _bytes(value: str, name: str = "--max-memory") -> int:
    """ "10G" -> 10000000000, as disks and GPUs are sold. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", value.strip().lower())
    if found is None or not float(found[1]):
        raise UsageError(say("usage.bytes", name=name, value=clean_line(typed_text(value))))
    return round(float(found[1]) * 1000 ** " kmgt".index(found[2] or " "))


def _budget(value: str) -> int:
    return _bytes(value, "--budget")


ModelFolder = Annotated[
    str | None, typer.Option("--model", "-m", help=say("help.model"), metavar="MODEL", show_default=False)
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
Color = Annotated[
    str | None,
    typer.Option("--color", help=say("help.color"), metavar="WHEN", callback=_set_color, show_default=False),
]
Plain = Annotated[bool, typer.Option("--plain", help=say("help.plain"), callback=_set_plain, show_default=False)]
Format = Annotated[
    str | None,
    typer.Option("--format", help=say("help.format"), metavar="FORM", callback=_set_format, show_default=False),
]
Raw = Annotated[bool, typer.Option("--raw", help=say("help.raw"), callback=_set_raw, show_default=False)]
Stats = Annotated[bool, typer.Option("--stats", help=say("help.stats"), callback=_set_stats, show_default=False)]
Lang = Annotated[
    str | None, typer.Option("--lang", help=say("help.lang"), metavar="LANG", callback=_lang, show_default=False)
]
Script = Annotated[
    str | None, typer.Option("--script", help=say("help.script"), metavar="FORM", callback=_script, show_default=False)
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help=say("help.encoding"), metavar="NAME", callback=_set_encoding, show_default=False),
]
ContextSize = Annotated[
    int | None, typer.Option("--ctx", help=say("help.context"), metavar="N", callback=_context, show_default=False)
]
MaxMemory = Annotated[
    int | None,
    typer.Option("--max-memory", help=say("help.max_memory"), metavar="SIZE", parser=_bytes, show_default=False),
]
Budget = Annotated[
    int | None, typer.Option("--budget", help=say("help.budget"), metavar="SIZE", parser=_budget, show_default=False)
]
Kv = Annotated[str | None, typer.Option("--kv", help=say("help.kv"), metavar="FORM", callback=_kv, show_default=False)]
Vision = Annotated[
    str | None, typer.Option("--vision", help=say("help.vision"), metavar="PLACE", callback=_vision, show_default=False)
]
