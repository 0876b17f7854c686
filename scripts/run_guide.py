"""Run the commands of a guide and write what they print under them: run_guide.py docs/guide.md docs/guide.zh-CN.md

With --check nothing is written: what a command prints now and did not print then is shown, and the exit code is 1.
Times, sizes of memory, dates and ids of dialogues differ from run to run and are not compared. --part HEADING runs the
commands below that heading only (files that blocks above it write are there, what commands above it made is not).

In a ```console block a line that begins with `$ ` is a command, and what follows is its output: it is replaced. A
block whose command is `bellevl chat` is a dialogue; its lines that begin with the prompt are typed again. A ```python
or ```toml block whose first line is a comment with a file's name becomes that file. Other blocks are left alone.

Commands run with the embedded model in a pseudo-terminal, in a home of their own that has the examples in it, so that
nothing of this machine stands in a guide. The note about the embedded model is shown once, an estimate
of the time never. Needs the test extra.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pexpect
import pyte

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(console|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPTS = {"en": "> ", "zh": "问> "}
NOTES = {"en": "note: this is the small embedded", "zh": "提示: 这是内置"}
ESTIMATE = re.compile(r"(about \d.* \(load |预计.*\(载入 )")

#: What is another one in each run: dates, clock times, ids of the log, and numbers before a unit.
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d|\b\d{1,2}:\d\d\b"), "<time>"),
    (
        re.compile(
            r"(?m)^([0-9a-f]{4})(?=  )|(?<=dialogue  )[0-9a-f]{4}$|(?<=对话  )[0-9a-f]{4}$|(?<=boxes/)[0-9a-f]{4}(?=/)"
        ),
        "<id>",
    ),
    (re.compile(r"\d+(?:\.\d+)?(?= ?(?:s|GB|MB|kB|秒|token/s|threads|线程|字/秒)(?![A-Za-z]))"), "<n>"),
    (re.compile(r"(?m)^(\S+(?: \S+)*) {2,}"), r"\1  "),
)

#: Rows and columns: wide enough that nothing is broken by the terminal, for a dialogue as wide as a page.
ROWS, WIDE, PAGE = 120, 2000, 110

#: Between commands of a block: what the shell prints, and how it gives a command's end to us.
MARK = "--8<--"
LONGEST = 900.0


class Guide:
    """One guide and the home in which its commands run."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path, self.home = path, home
        self.language = "zh" if "zh" in path.name else "en"
        self.noted = False
        self.folder = home / "bellevl"
        shutil.copytree(ROOT / "examples", self.folder / "examples")
        (home / "models").symlink_to(ROOT / "models")
        programs = home / ".bin"
        programs.mkdir()
        for name, module in (("bellevl", " -m bellevl_cli"), ("python", "")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n', encoding="utf-8")
            program.chmod(0o755)
        self.environment = {
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "BELLEVL_LANG": self.language,
            "BELLEVL_SHOW": "off",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        }

    def run(self, part: str | None = None) -> str:
        """The guide with fresh outputs, or with those of the part below one heading."""
        parts = re.split(r"(?m)^(?=## )", self.path.read_text(encoding="utf-8"))
        return "".join(self._part(text, part is None or text.startswith(f"## {part}\n")) for text in parts)

    def _part(self, text: str, wanted: bool) -> str:
        if wanted:
            return BLOCK.sub(self._block, text)
        for kind, body in BLOCK.findall(text):
            if kind == "console":
                self.noted = True  # it was in the first of the others
            else:
                self._file(body)
        return text

    def _block(self, found: re.Match[str]) -> str:
        kind, body = found.groups()
        if kind != "console":
            self._file(body)
            return found[0]
        commands = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
        prompt = PROMPTS[self.language]
        typed = [line.removeprefix(prompt) for line in body.splitlines() if line.startswith(prompt)]
        shown = self._dialogue(commands[0], typed) if typed else self._commands(commands)
        return f"```console\n{self._tidy(shown)}\n```"

    def _file(self, body: str) -> None:
        name = re.match(r"# (\S+\.\w+)\n", body)
        if name:
            path = Path(name[1].replace("~", str(self.home), 1)) if name[1][0] == "~" else self.folder / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body, encoding="utf-8")

    def _spawn(self, command: str, columns: int) -> tuple[pexpect.spawn, pyte.ByteStream, pyte.Screen]:
        child = pexpect.spawn(
            "bash", ["-c", command], env=self.environment, cwd=str(self.folder), dimensions=(ROWS, columns)
        )
        screen = pyte.Screen(columns, ROWS)
        screen.write_process_input = child.send
        return child, pyte.ByteStream(screen), screen

    def _commands(self, commands: list[str]) -> str:
        """The commands in one shell, each with what it printed. What they left running ends with the block."""
        script = "set -m\n" + "".join(f"{command}\necho {MARK!r}\n" for command in commands)
        child, stream, screen = self._spawn(script + "kill $(jobs -p) 2>/dev/null", WIDE)
        _read(child, stream, lambda: False)
        outputs = re.split(rf"^{MARK}$\n?", _text(screen), flags=re.MULTILINE)
        pairs = zip(commands, outputs, strict=False)
        return "\n".join(f"$ {command}\n{output.strip(chr(10))}".rstrip() for command, output in pairs)

    def _dialogue(self, command: str, typed: list[str]) -> str:
        """The chat with `typed` in it, as the terminal shows it; the line below the prompt is left out."""
        child, stream, screen = self._spawn(command, PAGE)
        prompt = PROMPTS[self.language].rstrip()

        def is_ready(questions: int) -> bool:
            return len(re.findall(f"(?m)^{prompt}(?= |$)", _text(screen))) > questions and bool(
                re.search(rf"(?m)^{prompt}\s*[^\n]*\s*\Z", _text(screen))
            )

        for number, line in enumerate(typed):
            _read(child, stream, lambda number=number: is_ready(number))
            self._alive(child, screen)
            child.send(line + "\r")
        _read(child, stream, lambda: is_ready(len(typed)))
        self._alive(child, screen)
        child.sendeof()
        shown = re.sub(rf"(?m)^{prompt}\s*[^\n]*\s*\Z", "", _text(screen))
        _read(child, stream, lambda: False)
        return f"$ {command}\n{shown}"

    def _alive(self, child: pexpect.spawn, screen: pyte.Screen) -> None:
        """A dialogue that ended by itself is an error of the program, not an output."""
        if child.flag_eof:
            raise RuntimeError(f"the chat ended:\n{_text(screen)}")

    def _tidy(self, shown: str) -> str:
        """Without names of this machine, and with the note of the embedded model once and no estimates."""
        shown = shown.replace(str(ROOT), "~/bellevl").replace(str(self.home), "~")
        lines = []
        for line in shown.splitlines():
            if ESTIMATE.match(line):
                continue
            if line.startswith(NOTES[self.language]):
                if self.noted:
                    continue
                self.noted = True
            lines.append(line.rstrip())
        return "\n".join(lines).strip()


def _read(child: pexpect.spawn, stream: pyte.ByteStream, is_done: object) -> None:
    """Feeds the screen until `is_done()` holds for a moment, or the program ended."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        try:
            stream.feed(child.read_nonblocking(65536, timeout=0.3))
        except pexpect.TIMEOUT:
            if is_done():
                return
        except pexpect.EOF:
            return
    raise TimeoutError(_text(stream.listener))


def _text(screen: pyte.Screen) -> str:
    return "\n".join(line.rstrip() for line in screen.display).rstrip()


def difference(before: str, after: str) -> str:
    """What differs between two runs of a guide, but for what always does, as a unified diff."""
    for pattern, name in VARYING:
        before, after = pattern.sub(name, before), pattern.sub(name, after)
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "guide", "now", lineterm="", n=2))


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("guides", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--part", metavar="HEADING")
    options = parser.parse_args(words)
    found = 0
    for path in options.guides:
        with tempfile.TemporaryDirectory() as home:
            text = Guide(path, Path(home)).run(options.part)
        if not options.check:
            path.write_text(text, encoding="utf-8")
        elif changed := difference(path.read_text(encoding="utf-8"), text):
            found = 1
            print(changed)
        print(path)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
