"""The timing line behind an answer. Knows figures, not streams."""

from __future__ import annotations

from typing import Protocol

from ..words import say


class Figures(Protocol):
    """What `bellevl.chat.Stats` has of it."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def new_tokens(self) -> int: ...
    @property
    def vision_seconds(self) -> float: ...
    @property
    def prefill_seconds(self) -> float: ...
    @property
    def decode_seconds(self) -> float: ...


def stats_line(
    stats: Figures, load_seconds: float | None = None, peak_bytes: int | None = None, device: str = "cpu"
) -> str:
    """ "载入 3.1s · 看图 0.42s · 首字 0.61s · 31.4 token/s · 显存峰值 10.4 GB"; what is unknown is left out.

    The first token's time begins with the question: looking at the picture is part of it.
    """
    from ..running.preflight import readable_bytes

    parts = []
    if load_seconds is not None:
        parts.append(say("stats.load", seconds=f"{load_seconds:.1f}"))
    if stats.vision_seconds >= 0.005:
        parts.append(say("stats.vision", seconds=f"{stats.vision_seconds:.2f}"))
    parts.append(say("stats.first", seconds=f"{stats.vision_seconds + stats.prefill_seconds:.2f}"))
    if (speed := decode_speed(stats)) is not None:
        parts.append(f"{speed:.1f} token/s")
    parts.append(say("stats.tokens", prompt=stats.prompt_tokens, new=stats.new_tokens))
    if peak_bytes:
        message = "stats.peak_gpu" if device.startswith("cuda") else "stats.peak"
        parts.append(say(message, peak=readable_bytes(peak_bytes)))
    return " · ".join(parts)


def decode_speed(stats: Figures) -> float | None:
    """Tokens a second after the first one; None where there was no second one."""
    if stats.new_tokens < 2 or stats.decode_seconds <= 0:
        return None
    return (stats.new_tokens - 1) / stats.decode_seconds
