"""A first session, as it is on the screen: docs/first-session.md, typed into tmux and read back from it.

The program is cloned into a home of its own and used there by somebody who has just found it: `make demo`, a dialogue,
a picture, a follow-up, boxes, a piece of the picture, another answer, a report. Each step waits until the prompt is
back; what stands on the screen from the typed line on is written down, nothing changed, nothing left out but empty
lines in a row. A step whose expected words do not come ends the recording with the screen as it was.

Usage: record_session.py                       a clone of the last commit, installed by `make demo` (takes minutes)
       record_session.py --installed .venv     what is installed there is used; nothing is downloaded
       record_session.py --tree                the working tree instead of the last commit
       --home DIR  --output FILE               where it runs [/tmp/bellevl], what is written [docs/first-session.md]

Needs git, make and tmux. Knows nothing of the program but what it shows.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COLUMNS, ROWS = 100, 40

#: Seconds that an answer may take on a slow machine, and `make demo` with everything to be installed.
PATIENCE, INSTALLING = 180.0, 1800.0

SHELL, CHAT = "shell", "chat"

#: A prompt with nothing behind it, the chat's with the line below it: a step is over.
READY = {
    SHELL: re.compile(r"(?m)^(\(\S+\) )?\$\s*\Z"),
    CHAT: re.compile(r"(?m)^问>\s*\n\s*\S[^\n]*\d+/\d+[^\n]*\s*\Z"),
}
PROMPT = {SHELL: r"(?:\(\S+\) )?\$ ", CHAT: "问> "}


@dataclass(frozen=True)
class Step:
    """A line that is typed, what has to be on the screen then, and where one is afterwards. `title` begins a part."""

    line: str
    expected: str
    place: str = CHAT
    title: str = ""
    patience: float = PATIENCE


STEPS = (
    Step("make demo", r"描述图片.*\n图中有[^\n]*\n.*描述图片.*\n图中有[^\n]*\n", SHELL,
         "`make demo`: two pictures, answered by the model inside the package", INSTALLING),
    Step(". .venv/bin/activate", "", SHELL, "`bellevl chat`: a dialogue"),
    Step("bellevl chat", "/help"),
    Step("/img examples/海面.png", r"\[1\] 海面\.png 448×448", CHAT, "`/img`: a picture"),
    Step("这是什么？", r"帆船", CHAT, "A question, and one that follows from it"),
    Step("它在哪里？", r"图片的"),
    Step("鲸鱼在帆船的上面还是下面？", r"[上下]面"),
    Step("框出图中的帆船。", r"帆船\[1\]", CHAT, "Boxes: `[1]` is a place in the picture; `/show FILE` keeps it drawn"),
    Step("/show 帆船.png", r"帆船\.png"),
    Step("/crop 右下", r"\[2\] 海面\.png", CHAT, "`/crop`: a piece of the picture at the model's full resolution"),
    Step("这是什么？", r"。"),
    Step("/crop off", r"\[1\] 海面\.png"),
    Step("/img examples/草地.png 描述图片", r"图中有", CHAT, "Another picture, another dialogue; `/img 1` goes back"),
    Step("/retry", r"图中有", CHAT, "`/retry`: another answer"),
    Step("/imgs", r"1\s+海面\.png"),
    Step("/export 海面.html", r"海面\.html", CHAT, "`/export`: a report with the pictures in it; `/exit`"),
    Step("/exit", "", SHELL),
    Step("bellevl logs", r"草地\.png", SHELL, "What was said is kept"),
)  # fmt: skip

HEAD = """# A first session

What somebody sees who has just cloned bellevl: recorded from a terminal of {columns} columns by
`scripts/record_session.py`, nothing changed, and nothing left out but empty lines between a prompt and the chat's
status line at the bottom. The rows of ▀ are the picture, which has its colours in a terminal
([as it looks there](pictures/chat.png)). More: the [guide](guide.md).
"""


class Terminal:
    """A tmux server of its own with one shell in it."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._tmux = ["tmux", "-L", f"bellevl-session-{os.getpid()}", "-f", os.devnull]
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "UV_"))}
        environment = {
            **kept,
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "LANGUAGE": "zh_CN",
            "TERM": "tmux-256color",
            "COLORTERM": "truecolor",
            "PS1": "$ ",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        }
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        shell = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), "bash", "--norc"]
        self._call("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-c", str(folder), shlex.join(shell))
        self._call("set-option", "-g", "history-limit", "5000")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False)  # noqa: S603

    def _call(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], check=True, capture_output=True)  # noqa: S603
        return done.stdout.decode()

    def screen(self, colours: bool = False) -> str:
        """Everything that was on the screen; `colours`: with the terminal's codes."""
        shown = self._call("capture-pane", "-p", "-S", "-", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in shown.splitlines()).rstrip()

    def type(self, line: str) -> None:
        self._call("send-keys", "-l", line)
        self._call("send-keys", "Enter")

    def wait(self, step: Step, before: int) -> str:
        """What stands on the screen from the step's line on, once the prompt is back. Raises TimeoutError."""
        end = time.monotonic() + step.patience
        while time.monotonic() < end:
            time.sleep(0.1)
            said = after(self.screen(), step.line)
            if said is not None and len(said) == before + 1 and is_over(said[-1], step):
                time.sleep(0.3)
                if after(self.screen(), step.line) == said:
                    return said[-1]
        raise TimeoutError(f"{step.line!r} never showed {step.expected!r}:\n{self.screen()}")

    def ready(self) -> None:
        """Waits for the shell's first prompt."""
        end = time.monotonic() + PATIENCE
        while not READY[SHELL].search(self.screen()) and time.monotonic() < end:
            time.sleep(0.1)

    def does(self, step: Step) -> str:
        """Types the step's line; what the screen shows from there on."""
        before = len(after(self.screen(), step.line) or [])
        self.type(step.line)
        return self.wait(step, before)


def after(screen: str, line: str) -> list[str] | None:
    """The screen from each place on where `line` stands behind a prompt, the newest last; None where it does not."""
    prompts = "|".join(PROMPT.values())
    places = [found.start() for found in re.finditer(rf"(?m)^(?:{prompts}){re.escape(line)}$", screen)]
    return [screen[place:] for place in places] or None


def is_over(said: str, step: Step) -> bool:
    """Whether the prompt is back behind what was expected."""
    _, _, answer = said.partition("\n")
    return bool(READY[step.place].search(answer)) and bool(re.search(step.expected, answer, re.DOTALL))


def clone(home: Path, tree: bool, installed: Path | None) -> Path:
    """bellevl in `home`, as a person gets it; `installed`: with what is in that virtual environment already."""
    shutil.rmtree(home, ignore_errors=True)
    folder = home / "bellevl"
    home.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)  # noqa: S603, S607
    if tree:
        _copy_tree(folder)
    if installed is not None:
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to((ROOT / installed / "bin").resolve())
        (folder / ".venv" / ".installed").touch()
        os.environ["PYTHONPATH"] = str(folder)
    return folder


def _copy_tree(folder: Path) -> None:
    """The working tree over the clone: what is changed, new or gone."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = set(subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0"))  # noqa: S603
    for old in [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]:
        if str(old.relative_to(folder)) not in names or not (ROOT / old.relative_to(folder)).exists():
            old.unlink()
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def record(terminal: Terminal, steps: Sequence[Step]) -> str:
    """The page: a part for each title, in it the screens of its steps."""
    parts, screens = [HEAD.format(columns=COLUMNS)], []
    terminal.ready()
    for number, step in enumerate(steps):
        screens.append(_without_the_prompt(terminal.does(step), steps[number + 1 :]))
        print(f"{number + 1}/{len(steps)} {step.line}", file=sys.stderr)
        following = steps[number + 1].title if number + 1 < len(steps) else "end"
        if step.title:
            title = step.title
        if following:
            shown = re.sub(r"\n{3,}", "\n\n", "\n".join(screens))
            parts.append(f"## {title}\n\n```\n{shown}\n```\n")
            screens = []
    return "\n".join(parts)


def _without_the_prompt(said: str, following: Sequence[Step]) -> str:
    """Without the empty prompt at its end where the next step of the same part begins with that prompt."""
    if not following or following[0].title:
        return said
    return re.sub(r"(?m)^(?:问>|(?:\(\S+\) )?\$)\s*(?:\n[^\n]*)*\Z", "", said).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--installed", type=Path)
    parser.add_argument("--tree", action="store_true")
    parser.add_argument("--home", type=Path, default=Path("/tmp/bellevl"))  # noqa: S108
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "first-session.md")
    options = parser.parse_args()
    folder = clone(options.home, options.tree, options.installed)
    with Terminal(options.home, folder) as terminal:
        page = record(terminal, STEPS)
    options.output.write_text(page, encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()
