"""`bellevl chat` in a pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pexpect
import pyte
from conftest import program
from tiny import CHARACTERS

#: A piece of an answer of the small checkpoint.
ANSWER = f"[{CHARACTERS}]{{8,}}"
PROMPT = "问> "

#: The line below the prompt.
BAR = r"(?:^[^\n]*上下文 \d+/\d+[^\n]*\s*)?"

#: What a terminal puts around pasted text.
PASTE, PASTED = "\x1b[200~", "\x1b[201~"

#: Keys: Alt-Enter, Ctrl-J, Ctrl-R, Ctrl-V, Ctrl-X Ctrl-E, up.
ALT_ENTER, CTRL_J, CTRL_R, CTRL_V, EDITOR, UP = "\x1b\r", "\n", "\x12", "\x16", "\x18\x05", "\x1b[A"


class Terminal:
    """The program in a pseudo-terminal. `command` replaces how it is started."""

    def __init__(
        self,
        environment: dict[str, str],
        *arguments: str | Path,
        command: list[str] | None = None,
        cwd: Path | None = None,
        size: tuple[int, int] = (40, 120),
    ) -> None:
        words = [*(command or program()), "chat", *map(str, arguments)]
        environment = {"BELLEVL_SHOW": "off", **environment, "TERM": "xterm-256color"}
        self.child = pexpect.spawn(
            words[0], words[1:], env=environment, dimensions=size, timeout=60, cwd=None if cwd is None else str(cwd)
        )
        self.screen = pyte.HistoryScreen(size[1], size[0], history=2000, ratio=1)
        self.screen.write_process_input = self.child.send  # answers questions about the cursor
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        """Whatever it is at, it ends; a busy machine takes longer for that than pexpect waits."""
        if not self.child.closed and self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()
        self.child.close()

    def text(self) -> str:
        """The screen's lines. pyte puts an empty cell behind a wide character: no blanks of our own."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait(self, pattern: str, seconds: float = 60.0) -> str:
        """Reads until the screen matches; the screen."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text()):
            assert time.monotonic() < end, f"no {pattern!r} on the screen:\n{self.text()}"
            try:
                self.feed(self.child.read_nonblocking(4096, timeout=0.05))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert re.search(pattern, self.text()), f"ended without {pattern!r}:\n{self.text()}"
        return self.text()

    def feed(self, data: bytes) -> None:
        self.raw += data
        self.stream.feed(data)

    def send(self, text: str) -> None:
        self.child.send(text)

    def enter(self, text: str) -> None:
        self.child.send(text + "\r")

    def paste(self, text: str) -> None:
        self.child.send(PASTE + text + PASTED)

    def ready(self, line: str = "", seconds: float = 60.0) -> str:
        """Waits for a prompt with `line` on it, nothing behind it but the line below; the screen."""
        return self.wait(rf"(?m)^{PROMPT.rstrip()} ?{line}\s*{BAR}\Z", seconds)

    def does(self, line: str, expected: str = "", seconds: float = 60.0) -> str:
        """Enters `line` on an empty screen; what stands between it and the next prompt, once `expected` is there."""
        self.wipe()
        self.enter(line)
        screen = self.wait(rf"(?ms)^{PROMPT.rstrip()} *\S.*{expected}.*^{PROMPT.rstrip()}\s*{BAR}\Z", seconds)
        said = re.split(f"(?m)^{PROMPT.rstrip()} ?", screen)[-2]
        return said.partition("\n")[2].strip()

    def answer(self, question: str) -> str:
        """The answer of the small checkpoint to a question."""
        return "".join(
            line for line in self.does(question, ANSWER).splitlines() if re.fullmatch(f"[{CHARACTERS}]+", line)
        )

    def wipe(self) -> None:
        """An empty screen with a prompt on it: Ctrl-L."""
        self.child.send("\x0c")
        self.wait(rf"(?m)\A{PROMPT.rstrip()}\s*{BAR}\Z")

    def end(self) -> int:
        """Waits for the end; the exit code, or minus the signal."""
        self.child.expect(pexpect.EOF)
        self.raw += self.child.before
        self.child.close()
        return -self.child.signalstatus if self.child.signalstatus else self.child.exitstatus
