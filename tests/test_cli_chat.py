"""`bellevl chat` in a pseudo-terminal: keys in, screen out; and from a pipe."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pyte
import pytest
from conftest import Answer, Bellevl, program
from PIL import Image
from tiny import CHARACTERS

#: A piece of an answer of the small checkpoint.
ANSWER = f"[{CHARACTERS}]{{8,}}"
PROMPT = "问> "


class Terminal:
    """The program in a pseudo-terminal, and the screen that a person would see."""

    def __init__(self, environment: dict[str, str], *arguments: str | Path) -> None:
        command = [*program(), "chat", *map(str, arguments)]
        # pyte answers no question about the cursor; without this prompt_toolkit waits a second for it at each line.
        environment = {**environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.child = pexpect.spawn(command[0], command[1:], env=environment, dimensions=(40, 120), timeout=30)
        self.screen = pyte.Screen(120, 40)
        self.stream = pyte.ByteStream(self.screen)

    def text(self) -> str:
        """The screen's lines. pyte puts an empty cell behind a wide character: no blanks of our own."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait(self, pattern: str, seconds: float = 30.0) -> str:
        """Reads until the screen matches; the screen."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text()):
            assert time.monotonic() < end, f"no {pattern!r} on the screen:\n{self.text()}"
            try:
                self.stream.feed(self.child.read_nonblocking(4096, timeout=0.05))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert re.search(pattern, self.text()), f"ended without {pattern!r}:\n{self.text()}"
        return self.text()

    def enter(self, text: str) -> None:
        self.child.send(text + "\r")

    def prompt(self, count: int) -> str:
        """Waits for the prompt that comes with nothing behind it, after `count` lines were entered."""
        return self.wait(rf"(?s)(?:{PROMPT}.+){{{count}}}\n{PROMPT.rstrip()}\s*$")

    def end(self) -> int:
        """Waits for the end; the exit code, or minus the signal."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        return -self.child.signalstatus if self.child.signalstatus else self.child.exitstatus


@pytest.fixture
def terminal(environment: dict[str, str], tiny_folder: Path) -> Iterator[Terminal]:
    """A chat with answers of 40 tokens, at its first prompt."""
    one = Terminal(environment, "--model", tiny_folder, "--greedy", "--max-tokens", "40")
    one.prompt(0)
    yield one
    one.child.close(force=True)


@pytest.fixture
def long_terminal(environment: dict[str, str], tiny_folder: Path) -> Iterator[Terminal]:
    """A chat whose answers run until they are stopped."""
    one = Terminal(environment, "--model", tiny_folder, "--greedy", "--max-tokens", "60000")
    one.prompt(0)
    yield one
    one.child.close(force=True)


def test_a_conversation(terminal: Terminal, picture: Path) -> None:
    """A picture with a question, a follow-up, the same answer again, a cleared dialogue, and out with 0."""
    terminal.enter(f"/img {picture} 这是什么")
    screen = terminal.prompt(1)
    assert f"图片 {picture.name} 60×40 → 56×56，4 token" in screen
    [first] = re.findall(ANSWER, screen)
    terminal.enter("那颜色呢")
    terminal.prompt(2)
    terminal.enter("/retry")
    answers = re.findall(ANSWER, terminal.prompt(3))
    assert len(answers) == 3 and answers[0] == first and answers[1] == answers[2] != first
    terminal.enter("/清空")
    assert f"对话已清空，图片保留: {picture.name}" in terminal.prompt(4)
    terminal.enter("这是什么")
    assert re.findall(ANSWER, terminal.prompt(5))[-1] == first
    terminal.enter("/exit")
    assert terminal.end() == 0


def test_slips_and_history(terminal: Terminal, environment: dict[str, str], picture: Path) -> None:
    """A bad picture keeps the old one, an unknown command is not asked, Tab completes; history is private."""
    terminal.enter(str(picture))
    assert "图片 " in terminal.prompt(1)
    terminal.enter("/img 没有.png")
    assert "错误: 找不到图片" in terminal.prompt(2)
    terminal.enter(" /clear")
    assert f"图片保留: {picture.name}" in terminal.prompt(3)
    terminal.enter("/nonsence")
    assert "没有命令 /nonsence" in terminal.prompt(4)
    terminal.child.send("/re\t")
    terminal.wait(r"/retry\s*$")
    terminal.enter("")
    assert "还没有可以重答的问题" in terminal.prompt(5)
    terminal.child.sendeof()
    assert terminal.end() == 0
    history = Path(environment["XDG_STATE_HOME"]) / "bellevl" / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    kept = history.read_text(encoding="utf-8")
    assert "/nonsence" in kept and "/clear" not in kept  # a line that starts with a space is not kept


def test_a_new_picture_is_what_retry_asks_about(terminal: Terminal, picture: Path, tmp_path: Path) -> None:
    """Behind a new picture /retry asks the last question about that picture, not about the old one."""
    Image.new("RGB", (90, 30), (20, 40, 220)).save(tmp_path / "blue.png")
    terminal.enter(f"/img {picture} 这是什么")
    first = re.findall(ANSWER, terminal.prompt(1))[-1]
    terminal.enter(f"/img {tmp_path / 'blue.png'}")
    assert "换图后对话从头开始" in terminal.prompt(2)
    terminal.enter("/retry")
    second = re.findall(ANSWER, terminal.prompt(3))[-1]
    terminal.enter(f"/img {picture}")
    terminal.prompt(4)
    terminal.enter("/retry")
    assert re.findall(ANSWER, terminal.prompt(5))[-1] == first != second


def test_bytes_that_are_no_text_end_nothing(terminal: Terminal) -> None:
    """Half a character typed at the prompt is asked as well as it can be read."""
    terminal.child.send(b"\xe7\xba\xff?\r")
    assert re.search(ANSWER, terminal.prompt(1))


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(long_terminal: Terminal) -> None:
    """Ctrl-C in an answer stops it within 200 ms, marks it, and the chat goes on; twice in two seconds leaves (130)."""
    long_terminal.enter("问")
    long_terminal.wait(ANSWER)
    began = time.monotonic()
    long_terminal.child.sendintr()
    screen = long_terminal.wait(r"\(已中断\)")
    waited = time.monotonic() - began
    assert "^C" not in screen
    assert waited < 0.2 + 0.3, f"{waited:.2f} s"  # 0.3 s for this test's own reading of the screen
    time.sleep(2.1)
    long_terminal.enter("再问")
    assert "已中断" in long_terminal.wait(f"(?s)已中断.*再问.*{ANSWER}")
    long_terminal.child.sendintr()
    long_terminal.wait(r"(?s)\(已中断\).*\(已中断\)")
    long_terminal.child.sendintr()
    assert long_terminal.end() == 130


def test_ctrl_c_at_the_prompt(terminal: Terminal) -> None:
    """At the prompt it clears the line; on an empty line it says how to leave; the second time it leaves."""
    terminal.child.send("打错的字")
    terminal.wait("打 ?错")
    terminal.child.sendintr()
    terminal.wait(rf"(?s)打.*\n{PROMPT.rstrip()}\s*$")
    terminal.child.sendintr()
    terminal.wait("按 Ctrl-D 退出")
    terminal.child.sendintr()
    assert terminal.end() == 130


def test_a_dumb_terminal_gets_no_escape_sequences(environment: dict[str, str], tiny_folder: Path) -> None:
    """TERM=dumb: the chat works, and nothing moves a cursor, sets a colour or rewrites a line."""
    command = [*program(), "chat", "--model", str(tiny_folder), "--greedy", "--max-tokens", "40"]
    child = pexpect.spawn(command[0], command[1:], env={**environment, "TERM": "dumb"}, timeout=60, encoding="utf-8")
    child.expect(PROMPT)
    child.send("这是什么\r")
    child.expect(ANSWER)
    said = child.before + child.after
    child.expect(PROMPT)
    child.send("/exit\r")
    child.expect(pexpect.EOF)
    said += child.before
    child.close()
    assert child.exitstatus == 0 and "\x1b" not in said


def test_a_missing_first_picture_is_exit_3(bellevl: Bellevl) -> None:
    """`bellevl chat nothing.png` ends before a model is loaded."""
    done = bellevl("chat", "nothing.png", "--model", "no/such/model")
    assert (done.returncode, done.stdout) == (3, b"")


def test_lines_of_a_pipe_are_questions(bellevl: Bellevl, answer: Answer, tiny_folder: Path, picture: Path) -> None:
    """stdin that is no terminal: each line is asked, each answer is a line of stdout, no prompt anywhere."""
    options = ("--model", tiny_folder, "--greedy")
    done = bellevl("chat", picture, *options, input="这是什么\n\n/clear\n这是什么\n/exit\n不再问\n".encode())
    answers = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert len(answers) == 2 and answers[0] == answers[1]
    assert PROMPT not in done.stdout.decode() + done.stderr.decode() and b"\x1b" not in done.stdout + done.stderr
    assert answers[0] == answer("这是什么", greedy=True)["text"]


def test_a_pipe_may_be_gbk_or_begin_with_a_mark(
    bellevl: Bellevl, answer: Answer, tiny_folder: Path, picture: Path
) -> None:
    """A list of questions saved in GBK, or as UTF-8 with a byte order mark, is read as it was written."""
    asked = f"/img {picture}\r\n这是什么\r\n"
    for raw in (asked.encode("gbk"), b"\xef\xbb\xbf" + asked.encode()):
        done = bellevl("chat", "--model", tiny_folder, "--greedy", input=raw)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.decode().splitlines() == [answer("这是什么", greedy=True)["text"]]


def test_ctrl_c_ends_a_chat_from_a_pipe(environment: dict[str, str], tiny_folder: Path) -> None:
    """Where nobody sits at a prompt one Ctrl-C stops everything: no further line is asked, and the code is 130."""
    command = [*program(), "chat", "--model", str(tiny_folder), "--greedy", "--max-tokens", "60000"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write("问\n再问\n".encode())
        running.stdin.flush()
        assert running.stdout.read(3).decode() in CHARACTERS
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
        assert running.returncode == 130
        assert out.count(b"\n") == 1 and b"Traceback" not in err


def test_a_failed_line_of_a_pipe_is_told_at_the_end(bellevl: Bellevl, tiny_folder: Path) -> None:
    """A bad picture in a script does not end it, but its exit code is not 0."""
    done = bellevl("chat", "--model", tiny_folder, "--greedy", input="/img 没有.png\n你好\n".encode())
    assert done.returncode == 3
    assert len(done.stdout.decode().splitlines()) == 1
