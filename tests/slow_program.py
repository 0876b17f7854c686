"""The program with a model that is as slow as a large one: every block takes a while. Started by tests.

SLOW_VISION and SLOW_TEXT are the seconds of a block of the vision encoder and of the language model.
"""

from __future__ import annotations

import os
import time
from typing import Any

from bellevl import text, vision
from bellevl_cli.__main__ import main


def slowed(kind: type, variable: str) -> None:
    """Calls of `kind` take as long as `variable` says, besides."""
    seconds, real = float(os.environ.get(variable, "0")), kind.forward  # type: ignore[attr-defined]

    def forward(self: Any, *arguments: Any, **keywords: Any) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:  # as a computation: nothing wakes it
            time.sleep(0.01)
        return real(self, *arguments, **keywords)

    kind.forward = forward  # type: ignore[attr-defined]


if __name__ == "__main__":
    slowed(text.Block, "SLOW_TEXT")
    slowed(vision.VisionBlock, "SLOW_VISION")
    main()
