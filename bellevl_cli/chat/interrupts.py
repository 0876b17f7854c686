"""Ctrl-C while an answer runs, and how often it was pressed. Knows no model and no stream."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

#: Two Ctrl-C within these seconds leave the chat.
TWICE_SECONDS = 2.0


class Interrupts:
    """Ctrl-C while an answer runs: a flag that the answer looks at. The second one in two seconds raises.

    Where nobody sits at a prompt (not `patient`), the first one raises: a script is stopped as a whole.
    """

    def __init__(self, patient: bool = True) -> None:
        self.patient = patient
        self._last = float("-inf")
        self.stopped = False

    def __enter__(self) -> Interrupts:
        self.stopped = False
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def again(self) -> bool:
        """Notes a Ctrl-C; whether it is the second within two seconds."""
        now = time.monotonic()
        twice, self._last = now - self._last < TWICE_SECONDS, now
        return twice

    def asked(self) -> bool:
        """Whether the answer shall stop; what the model asks between two blocks."""
        return self.stopped

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.again() or not self.patient:
            raise KeyboardInterrupt
        self.stopped = True
