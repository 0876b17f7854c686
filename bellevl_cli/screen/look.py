"""How this run is shown: colours, plain or live, which form an answer gets. Decided once from what was asked for.

The options set `asked` wherever they stand on the command line, so that an error at the very end is shown as was
wanted, too. Knows no stream but what it is told of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

COLORS = ("auto", "always", "never")
FORMATS = ("auto", "raw", "markdown")


@dataclass
class Asked:
    """What options said; None: nothing."""

    color: str | None = None
    plain: bool = False
    format: str | None = None
    stats: bool = False


#: What the command line said. Filled by the options' callbacks.
asked = Asked()


@dataclass(frozen=True)
class Look:
    """How one stream is written.

    `plain`: no colour, no cursor moves, whole sentences, for screen readers. `live`: what was written may be rewritten.
    `color`: escape sequences for colours may be written. `format`: "raw" as the model said it, "markdown" finished
    lines rendered, "live" the same with the last line raw until it is finished.
    """

    plain: bool
    live: bool
    color: bool
    format: str


def setting(name: str) -> Any:
    """BELLEVL_NAME, else the configuration's, else the default, which is also for a value that cannot be: what is wrong
    is told when the program starts (app.py), and the commands that mend it must be shown somehow."""
    from bellevl.errors import ConfigError

    from ..keys import BY_NAME
    from ..settings import config_value

    try:
        return config_value(name)
    except ConfigError:
        return BY_NAME[name].default


def look_of(
    terminal: bool,
    wanted: Asked | None = None,
    environ: Mapping[str, str] = os.environ,
    setting: Callable[[str], Any] = setting,
) -> Look:
    """For a stream that is a terminal or not. An option goes before a variable, that before the configuration."""
    wanted = wanted or asked
    plain = bool(wanted.plain or setting("plain"))
    able = terminal and not plain and not dumb(environ)
    color = _color(able, wanted.color, environ, str(setting("color")))
    return Look(plain, able, color, _format(able, wanted.format or str(setting("format"))))


def dumb(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal knows no escape sequences."""
    return environ.get("TERM", "") in ("dumb", "unknown")


def stats_wanted() -> bool:
    """Whether the timing line is to be shown after an answer."""
    return bool(asked.stats or setting("stats"))


def colored(terminal: bool) -> bool:
    """Whether an error may be coloured. Never raises: the error may be about the configuration itself."""
    try:
        return look_of(terminal).color
    except Exception:
        return False


def painted(text: str, color: bool) -> str:
    """A line about an error, its first word in red; every other line as it is."""
    mark = next((mark for mark in ("错误:", "error:") if text.startswith(mark)), None)
    return f"\x1b[1;31m{mark}\x1b[0m{text[len(mark) :]}" if color and mark else text


def _color(able: bool, option: str | None, environ: Mapping[str, str], configured: str) -> bool:
    """`--color` decides; then NO_COLOR and FORCE_COLOR (any value but nothing), which every program knows."""
    if option in ("always", "never"):
        return option == "always"
    if environ.get("NO_COLOR"):
        return False
    if option != "auto" and configured in ("always", "never"):
        return configured == "always"
    return bool(environ.get("FORCE_COLOR")) or able


def _format(able: bool, choice: str) -> str:
    if able and choice != "raw":
        return "live"
    return "markdown" if choice == "markdown" else "raw"
