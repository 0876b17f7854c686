"""The one line that says what is going on now, with the seconds it has taken. Knows no answer.

On a terminal it is rewritten in place, by a thread of its own, because the model's thread is busy with the model; it is
gone when `clear` returns. Elsewhere it is a plain line now and then: nothing is ever rewritten.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

#: Seconds between two lines where they cannot be rewritten, and after how many the same stage is said again.
QUIET_SECONDS = 5.0
REPEAT_SECONDS = 30.0

#: From how many seconds on a stage says how long it has taken, and how often it is drawn again.
SLOW_SECONDS = 1.0
TICK_SECONDS = 0.25

ERASE_LINE = "\r\x1b[2K"

#: The lines that are shown, and when a plain line was last said, whichever of them said it.
_open: weakref.WeakSet[StageLine] = weakref.WeakSet()
_said: dict[Callable[[], float], float] = {}


class StageLine:
    """`tell` writes; `fit` shortens a text to the terminal's width (only asked where the line is `live`)."""

    def __init__(
        self,
        tell: Callable[[str], None],
        fit: Callable[[str], str],
        live: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._fit, self._live, self._clock = tell, fit, live, clock
        self._lock = threading.RLock()
        self._text = ""
        self._percent: int | None = None
        self._began = clock()
        _said.setdefault(clock, self._began)
        self._shown = ""  # what the terminal's line says
        self._quiet = QUIET_SECONDS
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()

    @property
    def shown(self) -> bool:
        """Whether something is going on."""
        return bool(self._text)

    def show(self, text: str) -> None:
        """A stage; the next one takes its place. The same one again goes on."""
        with self._lock:
            if text == self._text:
                return
            for other in list(_open):  # there is one line for all of the program
                if other is not self:
                    other.clear()
            self._text, self._percent, self._began = text, None, self._clock()
            self._quiet = QUIET_SECONDS
            self.draw()
            self._start()

    def progress(self, part: float) -> None:
        """How much of the stage is done, 0 to 1."""
        with self._lock:
            percent = min(max(int(part * 100), 0), 100)
            if percent != self._percent and self._text:
                self._percent = percent
                self.draw()

    def draw(self) -> None:
        """Shows the stage as it stands."""
        with self._lock:
            if not self._text:
                return
            now = self._clock()
            if self._live:
                line = self._fit(self._line(now))
                if line != self._shown:
                    self._shown = line
                    self._tell(ERASE_LINE + line)
            elif now - _said[self._clock] >= self._quiet:
                self._tell(self._line(now) + "\n")
                _said[self._clock], self._quiet = now, REPEAT_SECONDS

    def clear(self) -> None:
        """Takes the line away. Nothing is written behind it."""
        with self._lock:
            self._text = ""
            if self._shown:
                self._shown = ""
                self._tell(ERASE_LINE)
        if self._thread is not None:
            self._woken.set()
            self._thread = None
        _open.discard(self)

    def _line(self, now: float) -> str:
        percent = "" if self._percent is None else f" {self._percent}%"
        seconds = now - self._began
        return f"{self._text}{percent}{f' {seconds:.0f}s' if seconds >= SLOW_SECONDS else ''}"

    def _start(self) -> None:
        if self._thread is None:
            _open.add(self)
            self._woken = threading.Event()
            self._thread = threading.Thread(target=self._tick, args=(self._woken,), name="stage", daemon=True)
            self._thread.start()

    def _tick(self, woken: threading.Event) -> None:
        while not woken.wait(TICK_SECONDS):
            with self._lock:
                slow = self._clock() - self._began >= SLOW_SECONDS
                if slow and not woken.is_set():
                    try:
                        self.draw()
                    except (OSError, ValueError):  # its stream is gone; the main thread will be told
                        return


def clear_all() -> None:
    """Takes every stage line away: what is said at the program's end begins on a line of its own."""
    for line in list(_open):
        line.clear()
