"""How long a person waits: the first sign of life, the help, a stopped answer, a picture and its first word, a refusal.

    python benchmarks/terminal.py [--model DIR] [--runs 10]

Whole processes, seen from outside: the program runs in a pseudo-terminal, keys go in, and the clock stops when what is
waited for stands in what it wrote. Medians of every figure; written to benchmarks/results/terminal.json and .md.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURES = [ROOT / "examples" / name for name in ("cat.png", "shapes.png", "水果.png", "night.png")]
QUESTION = "描述图片"

#: Answers that do not end by themselves before they are stopped: every token is as likely as any other.
ENDLESS = ("--temperature", "100", "--max-tokens", "2000", "--seed", "1")

#: The line below the prompt, which is drawn last.
READY = r"上下文 \d+/\d+"

#: Whatever is waited for takes less, or something is wrong.
PATIENCE_SECONDS = 120.0

#: Sizes of BELLE-VL-14B, for a folder that has nothing else: it is refused before anything of it is read.
LARGE = {
    "model_type": "qwen",
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "intermediate_size": 27_392,
    "vocab_size": 152_064,
    "seq_length": 2048,
    "max_position_embeddings": 8192,
    "visual": {
        "width": 1664,
        "layers": 48,
        "heads": 16,
        "mlp_ratio": 4.9231,
        "image_size": 448,
        "patch_size": 14,
        "output_dim": 5120,
        "image_start_id": 151_857,
    },
}

#: figure -> what it is.
FIGURES = {
    "help": "`bellevl --help`, start to end",
    "first_sign": "`bellevl ask` on a terminal: start to first sign of life",
    "ask_first_word": "`bellevl ask`: start to first word of the answer, model loaded on the way",
    "ask_interrupt": "`bellevl ask`: Ctrl-C in the middle of an answer to the end of the process",
    "chat_ready": "`bellevl chat`: start to prompt",
    "img": "chat, `/img picture`: Enter to the line that says it is attached",
    "img_first_word": "chat, first question about a new picture: Enter to first word",
    "next_first_word": "chat, next question about the same picture: Enter to first word",
    "chat_interrupt": "chat: Ctrl-C in the middle of an answer to the note that it is stopped",
    "chat_prompt": "chat: Ctrl-C in the middle of an answer to the next prompt",
    "refusal": "a 14B model that does not fit: start to exit code 5",
}

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>()][0-9A-B]?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder; the embedded model without it")
    parser.add_argument("--runs", type=int, default=10, help="runs of each figure")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from _machine import describe_machine, machine_line, save_result

    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a job in the background has it ignored, and passes that on
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as home:
        figures = measure(Bench(Path(home), options.model), options.runs)
    machine["load_average_after"] = round(os.getloadavg()[0], 1)
    record = {"machine": machine, "runs": options.runs, "figures": {name: summary(v) for name, v in figures.items()}}
    save_result("terminal", record, table(record, machine_line(machine)))


def measure(bench: Bench, runs: int) -> dict[str, list[float]]:
    """Seconds of every figure."""
    figures: dict[str, list[float]] = {name: [] for name in FIGURES}
    bench.help()  # the first start reads every file from disk
    for _ in range(runs):
        figures["help"].append(bench.help())
        figures["refusal"].append(bench.refusal())
        for name, seconds in (*bench.ask().items(), *bench.ask_interrupted().items()):
            figures[name].append(seconds)
    for name, seconds in (*bench.chat(runs), *bench.chat_interrupted(runs)):
        figures[name].append(seconds)
    return figures


class Terminal:
    """A command in a pseudo-terminal; with `piped` its stdout is a pipe, and only the rest is on the terminal."""

    def __init__(self, command: list[str], environment: dict[str, str], piped: bool = False) -> None:
        self.master, slave = pty.openpty()
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=subprocess.PIPE if piped else slave, stderr=slave, env=environment,
            cwd=ROOT, start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)
        self.raw = b""

    def send(self, keys: str) -> float:
        """Types; when that was."""
        os.write(self.master, keys.encode())
        return time.perf_counter()

    def wait(self, pattern: str, start: int = 0) -> float:
        """Reads until what was written from `start` on matches; when that was."""
        end = time.perf_counter() + PATIENCE_SECONDS
        while not re.search(pattern, self.text(start)):
            if time.perf_counter() > end or not self._read():
                raise SystemExit(f"no {pattern!r} in {self.text(start)!r}")
        return time.perf_counter()

    def text(self, start: int = 0) -> str:
        """What was written from byte `start` on, without control sequences."""
        return _CONTROL.sub("", self.raw[start:].decode("utf-8", "ignore"))

    def _read(self) -> bool:
        if not select.select([self.master], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self._answer(data)
        self.raw += data
        return bool(data)

    def _answer(self, data: bytes) -> None:
        """A terminal says where its cursor is when it is asked."""
        if b"\x1b[6n" in data:
            os.write(self.master, b"\x1b[1;1R")

    def end(self) -> int:
        """Ends it, if it has not ended; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        code = self.process.wait()
        os.close(self.master)
        return code


def _take_terminal() -> None:
    """In the new process: stdin becomes the terminal whose Ctrl-C reaches it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Bench:
    """The program, started with folders of its own."""

    def __init__(self, home: Path, model: Path | None) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS") if name in os.environ}
        self.environment = {
            **kept, "HOME": str(home), "LANG": "C.UTF-8", "BELLEVL_LANG": "zh", "TERM": "xterm-256color",
            "BELLEVL_CONFIG": os.devnull, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "LINES": "40",
        }  # fmt: skip
        self.model = [] if model is None else ["--model", str(model)]
        self.large = home / "large"
        self.large.mkdir()
        (self.large / "config.json").write_text(json.dumps(LARGE), encoding="utf-8")
        self.opening = self._opening()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "bellevl_cli", *words]

    def _opening(self) -> str:
        """How the answers about the pictures begin: the first character of each, as a class of a pattern."""
        done = subprocess.run(
            self.command("ask", *map(str, PICTURES), QUESTION, "--greedy", "--json", *self.model),
            env=self.environment, cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
        texts = [record["text"] for record in _records(done.stdout.decode())]
        return "(?:" + "|".join(re.escape(text[:4]) for text in texts) + ")"

    def help(self) -> float:
        began = time.perf_counter()
        subprocess.run(self.command("--help"), env=self.environment, cwd=ROOT, capture_output=True, check=True)
        return time.perf_counter() - began

    def refusal(self) -> float:
        words = ("ask", str(PICTURES[0]), QUESTION, "--model", str(self.large), "--device", "cpu", "--max-memory", "8G")
        began = time.perf_counter()
        done = subprocess.run(self.command(*words), env=self.environment, cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 5, done.stderr.decode()
        return time.perf_counter() - began

    def ask(self) -> dict[str, float]:
        """First sign of life (stderr, a terminal) and first word (stdout, a pipe) of one answer."""
        words = self.command("ask", str(PICTURES[0]), QUESTION, "--greedy", *self.model)
        terminal = Terminal(words, self.environment, piped=True)
        sign = terminal.wait(".") - terminal.began
        first = _first_byte(terminal) - terminal.began
        terminal.end()
        return {"first_sign": sign, "ask_first_word": first}

    def ask_interrupted(self) -> dict[str, float]:
        words = self.command("ask", str(PICTURES[0]), QUESTION, *ENDLESS, *self.model)
        terminal = Terminal(words, self.environment, piped=True)
        _first_byte(terminal)
        began = time.perf_counter()
        terminal.process.send_signal(signal.SIGINT)
        code = terminal.process.wait(PATIENCE_SECONDS)
        seconds = time.perf_counter() - began
        terminal.end()
        assert code == 130, code
        return {"ask_interrupt": seconds}

    def chat(self, runs: int) -> Iterator[tuple[str, float]]:
        """One chat: a picture, a question and another one, as often as asked."""
        for _ in range(runs):
            terminal = Terminal(self.command("chat", *self.model), self.environment)
            yield "chat_ready", terminal.wait(READY) - terminal.began
            terminal.end()
        terminal = Terminal(self.command("chat", "--greedy", *self.model), self.environment)
        terminal.wait(READY)
        for run in range(runs):
            start = len(terminal.raw)
            began = _enter(terminal, f"/img {PICTURES[run % len(PICTURES)].relative_to(ROOT)}")
            yield "img", terminal.wait(r"图片 \[\d+\] \S+ \d+×\d+", start) - began
            for name in ("img_first_word", "next_first_word"):
                terminal.wait(READY, start)
                start = len(terminal.raw)
                began = _enter(terminal, QUESTION)
                yield name, terminal.wait(self.opening, start) - began
        terminal.end()

    def chat_interrupted(self, runs: int) -> Iterator[tuple[str, float]]:
        """One chat: a question whose answer is stopped, as often as asked. An answer that was over by itself when the
        key came does not count."""
        terminal = Terminal(self.command("chat", str(PICTURES[0]), *ENDLESS, *self.model), self.environment)
        terminal.wait(READY)
        counted = 0
        while counted < runs:
            start = len(terminal.raw)
            _enter(terminal, QUESTION)
            terminal.wait(r"思考 …[^\r]*\r(?!看图|思考)\S", start)
            pressed = len(terminal.raw)
            began = terminal.send("\x03")
            noted = terminal.wait(f"已中断|{READY}", pressed) - began
            ready = terminal.wait(READY, pressed) - began
            if "已中断" in terminal.text(pressed):
                counted += 1
                yield "chat_interrupt", noted
                yield "chat_prompt", ready
            time.sleep(2.1)  # two of them within two seconds leave the chat
            terminal.send("/clear\r")
            terminal.wait(READY, len(terminal.raw))
        terminal.end()


def _enter(terminal: Terminal, line: str) -> float:
    """Types a line, waits until it stands there, and presses Enter; when that was."""
    start = len(terminal.raw)
    terminal.send(line)
    terminal.wait(re.escape(line[-4:]), start)
    return terminal.send("\r")


def _first_byte(terminal: Terminal) -> float:
    """When the first byte came out of the pipe. The terminal is read on: a full one would stop the program."""
    assert terminal.process.stdout is not None
    pipe = terminal.process.stdout.fileno()
    while True:
        ready = select.select([pipe, terminal.master], [], [], PATIENCE_SECONDS)[0]
        if pipe in ready:
            assert os.read(pipe, 1), terminal.text()
            return time.perf_counter()
        if not ready:
            raise SystemExit(f"no answer: {terminal.text()}")
        terminal._read()


def _records(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects, one behind another."""
    decoder = json.JSONDecoder()
    while text := text.strip():
        record, end = decoder.raw_decode(text)
        yield record
        text = text[end:]


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {
        "median": round(statistics.median(seconds), 4),
        "least": round(min(seconds), 4),
        "greatest": round(max(seconds), 4),
    }


def table(record: dict[str, Any], machine: str) -> str:
    """The figures as Markdown."""
    lines = ["# How long a person waits", "", f"{machine}. {record['runs']} runs of each.", ""]
    lines += ["| what | median s | least | greatest |", "|---|---|---|---|"]
    for name, what in FIGURES.items():
        one = record["figures"][name]
        lines.append(f"| {what} | {one['median']:.3f} | {one['least']:.3f} | {one['greatest']:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
