"""The line below the prompt: picture, how full the window is, memory of the GPU, speed. Knows no prompt."""

from __future__ import annotations

from dataclasses import dataclass

from ..words import say

#: From here on the window counts as nearly full.
NEARLY_FULL = 0.85


@dataclass(frozen=True)
class Bar:
    """What is known after an answer. `forgotten`: turns no longer fit the window. `gpu` is (used, total) in bytes, None
    without one."""

    picture: str = ""
    used: int = 0
    window: int = 1
    forgotten: bool = False
    gpu: tuple[int, int] | None = None
    speed: float | None = None

    @property
    def nearly_full(self) -> bool:
        return self.forgotten or self.used >= NEARLY_FULL * self.window

    def parts(self) -> list[tuple[str, str]]:
        """(style, text), as prompt_toolkit draws them; the style "class:full" is red."""
        context = say("bar.context", used=self.used, window=self.window)
        texts = [("", self.picture or say("bar.no_picture")), ("class:full" if self.nearly_full else "", context)]
        if self.gpu is not None:
            used, total = (f"{count / 1e9:.1f}" for count in self.gpu)
            texts.append(("", say("bar.gpu", used=used, total=total)))
        if self.speed is not None:
            texts.append(("", say("bar.speed", speed=f"{self.speed:.0f}")))
        return [part for text in texts for part in (("", " "), text, ("", " "))]


def gpu_memory(device: str) -> tuple[int, int] | None:
    """(used, total) bytes of a CUDA device; None for others."""
    if not device.startswith("cuda"):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device))
    return total - free, total
