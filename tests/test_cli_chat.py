"""`bellevl chat` in a pseudo-terminal: conversations, Ctrl-C, other terminals; and from a pipe."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from chat_terminal import ANSWER, PROMPT, Terminal
from conftest import Answer, Bellevl, program
from tiny import CHARACTERS

SLOW = [sys.executable, str(Path(__file__).with_name("slow_program.py"))]

#: Seconds that this test needs itself to see what is on the screen.
SLACK = 0.5


@pytest.fixture
def terminal(environment: dict[str, str], tiny_folder: Path) -> Iterator[Terminal]:
    """A chat with answers of 40 tokens, at its first prompt."""
    with Terminal(environment, "--model", tiny_folder, "--greedy", "--max-tokens", "40") as one:
        one.ready(seconds=240)
        yield one


def test_a_conversation(terminal: Terminal, environment: dict[str, str], picture: Path) -> None:
    """A picture with a question, a follow-up, the same answer again, a cleared dialogue, slips, and out with 0; all of
    it is in the history but for the line that began with a space, and the dialogue is in the log."""
    screen = terminal.does(f"/img {picture} 这是什么", ANSWER)
    assert f"图片 [1] {picture.name} 60×40 → 56×56，4 token" in screen
    [first] = re.findall(ANSWER, screen)
    second = terminal.answer("那颜色呢")
    assert terminal.answer("/retry") == second != first
    assert "错误: 找不到图片" in terminal.does("/img 没有.png", "错误")
    assert "没有命令 /nonsence" in terminal.does("/nonsence", "没有命令")
    assert f"对话已清空，图片保留: {picture.name}" in terminal.does(" /清空", "已清空")
    assert terminal.answer("这是什么") == first
    terminal.enter("/exit")
    assert terminal.end() == 0
    kept = (Path(environment["XDG_STATE_HOME"]) / "bellevl" / "history").read_text(encoding="utf-8")
    assert "/nonsence" in kept and "/清空" not in kept


def test_a_kept_dialogue_goes_on_in_a_later_chat(
    bellevl: Bellevl, environment: dict[str, str], tiny_folder: Path, picture: Path
) -> None:
    """chat -c takes up the latest dialogue with its picture; an id that there is not is told before a model loads."""
    options = ("--model", tiny_folder, "--greedy", "--max-tokens", "12")
    straight = bellevl("chat", picture, *options, "--no-log", input="这是什么\n颜色\n".encode())
    first = bellevl("chat", picture, *options, input="这是什么\n".encode())
    later = bellevl("chat", "-c", *options, input="颜色\n".encode())
    assert later.returncode == 0, later.stderr.decode()
    assert first.stdout + later.stdout == straight.stdout
    assert f"图片 [1] {picture.name}" in later.stderr.decode() and "已有 1 轮" in later.stderr.decode()
    assert bellevl("chat", "--id", "没有这个", "--model", "no/such/model").returncode == 1
    assert bellevl("chat", picture, "-c").returncode == 2


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(environment: dict[str, str], tiny_folder: Path) -> None:
    """Ctrl-C in an answer stops it within 200 ms, marks it, and /continue goes on; twice in two seconds leaves (130).
    At the prompt it clears the line, on an empty one it says how to leave."""
    with Terminal(environment, "--model", tiny_folder, "--greedy", "--max-tokens", "60000") as terminal:
        terminal.ready(seconds=240)
        terminal.send("打错的字")
        terminal.ready("打错的字")
        terminal.child.sendintr()
        terminal.ready()
        terminal.child.sendintr()
        terminal.wait("按 Ctrl-D 退出")
        time.sleep(2.1)
        terminal.wipe()
        terminal.enter("问")
        terminal.wait(ANSWER)
        began = time.monotonic()
        terminal.child.sendintr()
        screen = terminal.wait(r"\(已中断\)")
        assert time.monotonic() - began < 0.2 + SLACK and "^C" not in screen
        terminal.ready()
        time.sleep(2.1)
        terminal.wipe()
        terminal.enter("/continue")
        terminal.wait(ANSWER)
        terminal.child.sendintr()
        terminal.wait(r"\(已中断\)")
        terminal.child.sendintr()
        assert terminal.end() == 130


@pytest.mark.parametrize("slow", ["SLOW_VISION", "SLOW_TEXT"])
def test_ctrl_c_acts_before_the_first_token(
    environment: dict[str, str], tiny_folder: Path, picture: Path, slow: str
) -> None:
    """While a slow model looks at the picture or reads the prompt Ctrl-C stops it between two blocks; the question
    stays, and /continue answers it once the model is quick."""
    environment = {**environment, slow: "0.6"}
    with Terminal(environment, "--model", tiny_folder, "--greedy", "--max-tokens", "1", command=SLOW) as terminal:
        terminal.ready(seconds=240)
        terminal.enter(f"/img {picture} 这是什么")
        terminal.wait("看图|思考")
        began = time.monotonic()
        terminal.child.sendintr()
        terminal.wait(r"\(已中断\)")
        assert time.monotonic() - began < 1.0 + SLACK
        terminal.ready()
        assert "第 1 轮" in terminal.does("/tokens", "第 1 轮")
        assert re.search(f"^[{CHARACTERS}]", terminal.does("/continue", f"[{CHARACTERS}]"))


def test_ctrl_c_twice_while_nothing_has_come_yet_leaves(
    environment: dict[str, str], tiny_folder: Path, picture: Path
) -> None:
    """Two Ctrl-C before the first token end the program with 130."""
    environment = {**environment, "SLOW_VISION": "3"}
    with Terminal(environment, "--model", tiny_folder, command=SLOW) as terminal:
        terminal.ready(seconds=240)
        terminal.enter(f"/img {picture} 这是什么")
        terminal.wait("看图")
        terminal.child.sendintr()
        time.sleep(0.2)
        terminal.child.sendintr()
        assert terminal.end() == 130


def test_vi_keys_and_plain(environment: dict[str, str], tiny_folder: Path) -> None:
    """editing_mode = "vi" edits as vi does; --plain has no line below the prompt."""
    environment = {**environment, "BELLEVL_EDITING_MODE": "vi"}
    with Terminal(environment, "--model", tiny_folder, "--greedy", "--plain", "--max-tokens", "20") as terminal:
        terminal.ready(seconds=240)
        terminal.send("abc def")
        terminal.ready("abc def")
        terminal.send("\x1b")
        time.sleep(1.0)
        terminal.send("0dw")
        assert "上下文" not in terminal.ready("def")
        terminal.enter("")
        terminal.wait(ANSWER)
        assert "上下文" not in terminal.ready()


def test_the_picture_is_drawn_where_the_terminal_can(
    environment: dict[str, str], tiny_folder: Path, picture: Path
) -> None:
    """/img draws the picture in half blocks where the terminal has nothing better, in its own colour."""
    environment = {**environment, "BELLEVL_SHOW": "blocks", "COLORTERM": "truecolor"}
    with Terminal(environment, "--model", tiny_folder, "--greedy") as terminal:
        terminal.ready(seconds=240)
        terminal.enter(f"/img {picture}")
        screen = terminal.wait("▀")
        assert len([line for line in screen.splitlines() if "▀" in line]) <= 12
        terminal.ready()
        assert b"200;30;30" in terminal.raw


def test_a_question_in_between_is_answered_with_enter(environment: dict[str, str]) -> None:
    """While keys are kept for the prompt they are not shown; a question asked meanwhile reads its line as ever."""
    code = (
        "import sys\nfrom bellevl_cli.screen import typeahead\n"
        "with typeahead.kept():\n print('kept', flush=True)\n sys.stdin.read(1)\n"
        " with typeahead.lifted():\n  print('asked', flush=True)\n  print('got', repr(sys.stdin.readline()))\n"
    )
    child = pexpect.spawn(sys.executable, ["-uc", code], env=environment, timeout=60, encoding="utf-8")
    child.expect("kept\r\n")
    child.send("x")
    child.expect("asked\r\n")
    assert "x" not in child.before
    child.send("y\r")
    child.expect("got 'y\\\\n'")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_bytes_that_are_no_text_end_nothing(terminal: Terminal) -> None:
    """Half a character typed at the prompt is asked as well as it can be read."""
    terminal.child.send(b"\xe7\xba\xff?\r")
    terminal.wait(ANSWER)
    terminal.ready()
    terminal.send("\x04")
    assert terminal.end() == 0


def test_a_dumb_terminal_gets_no_escape_sequences(environment: dict[str, str], tiny_folder: Path) -> None:
    """TERM=dumb: the chat works, and nothing moves a cursor, sets a colour or rewrites a line."""
    command = [*program(), "chat", "--model", str(tiny_folder), "--greedy", "--max-tokens", "40"]
    child = pexpect.spawn(command[0], command[1:], env={**environment, "TERM": "dumb"}, timeout=240, encoding="utf-8")
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
    """stdin that is no terminal: each line is asked, a block in triple quotes at once, each answer is a line of stdout,
    no prompt anywhere."""
    options = ("--model", tiny_folder, "--greedy")
    lines = '这是什么\n\n/clear\n"""\n这是什么\n"""\n/exit\n不再问\n'
    done = bellevl("chat", picture, *options, input=lines.encode())
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
