"""The program on a terminal and on pipes: what a person sees with each option, width, locale and encoding."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pexpect
import pyte
import pytest
from conftest import Bellevl, program

from bellevl_cli.screen.wrap import NO_START

MARKDOWN = (
    "图里有**三只狗**，其中一只戴着`红色`的帽子（很小），另外两只在草地上睡觉；旁边还有一棵树、一张长椅，天气很好。\n"
    "- 第一只：红帽子，坐着，看着镜头，尾巴翘得很高，好像在等人给它食物，或者在等主人回来。\n"
    "| 名称 | 数量 |\n|---|---|\n| 狗 | 3 |\n| bench | 1 |\n"
)

#: A program that shows an answer as `ask` does, piece by piece, onto whatever its streams are.
CHILD = f"""
import sys, time
from bellevl_cli.screen import look
from bellevl_cli.screen.render import Renderer, prepare_streams
prepare_streams()
renderer = Renderer()
renderer.stage("思考 …")
for c in {MARKDOWN!r}:
    renderer.answer(c)
    time.sleep(0.002)
renderer.end_answer()
renderer.note("完")
"""


def on_terminal(environment: dict[str, str], columns: int, *command: str, lines: int = 40) -> tuple[pyte.Screen, bytes]:
    """A command's screen at its end, and all that it wrote."""
    child = pexpect.spawn(
        command[0], list(command[1:]), env={"TERM": "xterm-256color", **environment}, dimensions=(lines, columns),
        timeout=90,
    )  # fmt: skip
    screen, written = pyte.Screen(columns, lines), b""
    stream = pyte.ByteStream(screen)
    while True:
        try:
            data = child.read_nonblocking(4096, timeout=90)
        except pexpect.EOF:
            break
        written += data
        stream.feed(data)
    child.close()
    return screen, written


def rows(screen: pyte.Screen) -> list[str]:
    return [row.rstrip() for row in screen.display if row.strip()]


@pytest.mark.parametrize("columns", [40, 80, 121])
def test_an_answer_on_a_terminal(environment: dict[str, str], columns: int) -> None:
    """At 40, 80 and 121 columns the screen ends with the rendered answer; no row begins with ，。、）."""
    screen, written = on_terminal(environment, columns, program()[0], "-c", CHILD)
    found = rows(screen)
    assert "**" not in "".join(found) and "`" not in "".join(found) and "思考" not in "".join(found)
    assert found[-5:] == ["名称   数量", "-----  ----", "狗     3", "bench  1", "完"]
    assert not [row for row in found if row.strip()[0] in NO_START]
    text = "".join(row.strip() for row in found[:-5])
    assert text == "".join(MARKDOWN.split("\n|")[0].replace("**", "").replace("`", "").split("\n"))
    assert b"\x1b[2J" not in written and b"\x1b[36m" in written


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TERM": "dumb"}, MARKDOWN),
        ({"BELLEVL_PLAIN": "1"}, MARKDOWN),
        ({"BELLEVL_FORMAT": "raw", "NO_COLOR": "1"}, MARKDOWN),
    ],
)
def test_a_terminal_that_must_not_be_steered(environment: dict[str, str], variables: dict[str, str], said: str) -> None:
    """TERM=dumb and --plain write no escape sequence at all; --raw with NO_COLOR only for the stage."""
    _, written = on_terminal({**environment, **variables}, 80, program()[0], "-c", CHILD)
    stages = rb"\r\x1b\[2K(?:\xe6\x80\x9d\xe8\x80\x83 [^\r]*)?" if "BELLEVL_FORMAT" in variables else b"$^"
    left = re.sub(stages, b"", written)
    assert b"\x1b" not in left
    assert left.decode().replace("\r\n", "\n") == said + "\n完\n"


#: Tells what is loaded when the first stage is shown, and ends.
FIRST_STAGE = """
import sys
from bellevl_cli import app, exits
from bellevl_cli.screen import stage
def show(line, text):
    print(text, *sorted({name.split(".")[0] for name in sys.modules}))
    raise exits.LeaveError(0)
stage.StageLine.show = show
app.main()
"""


@pytest.mark.parametrize("command", [["ask", "x.png", "颜色"], ["chat"]])
def test_the_first_sign_of_life_waits_for_nothing(environment: dict[str, str], command: list[str]) -> None:
    """The first stage is shown before anything heavy is imported, which leaves 0.3 s for Python and the parser."""
    started = [program()[0], "-c", FIRST_STAGE, *command]
    done = subprocess.run(started, env=environment, capture_output=True, check=True)
    text, _, loaded = done.stdout.decode().partition(" … ")
    assert text == "准备" and not {*loaded.split()} & {"torch", "numpy", "PIL", "rich", "tiktoken", "prompt_toolkit"}


def test_stages_come_and_go_on_a_terminal(environment: dict[str, str], picture: Path) -> None:
    """The first thing written is a stage, loading shows its percent, and at the end none is left."""
    command = [*program(), "ask", str(picture), "颜色", "--max-tokens", "3"]
    screen, written = on_terminal(environment, 80, *command)
    text = written.decode()
    assert text.startswith("\r\x1b[2K准备 …") and re.search(r"载入模型 nano … \d+%", text)
    assert "看图" in text and not any("…" in row for row in rows(screen))


def test_stats_stand_on_stderr(bellevl: Bellevl, tiny_folder: Path, picture: Path) -> None:
    """--stats adds one line of figures to stderr and nothing to stdout; three answers let the next be foretold."""
    asked = ("ask", picture, "颜色", "-m", tiny_folder, "--greedy", "--max-tokens", "6")
    plain, told = bellevl(*asked), bellevl(*asked, "--stats")
    assert told.returncode == 0 and told.stdout == plain.stdout
    line = told.stderr.decode().splitlines()[-1]
    assert re.fullmatch(
        r"载入 [\d.]+s · (看图 [\d.]+s · )?首字 [\d.]+s · [\d.]+ token/s · \d+\+6 token · 内存峰值 .+B", line
    )  # looking at a picture takes the small checkpoint less than is worth a word, on some machines
    assert "token/s" not in plain.stderr.decode()


def test_an_estimate_is_said_when_it_is_worth_waiting_for(
    bellevl: Bellevl, environment: dict[str, str], tiny_folder: Path, picture: Path
) -> None:
    """After three slow runs on this machine the next one says before it loads what it will take."""
    from bellevl_cli.running import speeds

    record = Path(environment["XDG_STATE_HOME"]) / "bellevl" / "speeds.json"
    record.parent.mkdir(parents=True)
    run = speeds.Run(30.0, 0.4, 1.0, 8.0, 300, 81, 120)
    record.write_text(json.dumps({speeds.row_name("tiny", None, "cpu"): [vars(run)] * 3}))
    asked = ("ask", picture, "颜色", "-m", tiny_folder, "--device", "cpu", "--max-tokens", "3")
    done = bellevl(*asked)
    assert done.returncode == 0
    assert "预计 39 秒 (载入 30.0，看图 0.4，约 120 字)" in done.stderr.decode()
    assert len(json.loads(record.read_text())[speeds.row_name("tiny", None, "cpu")]) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--color", "sometimes"], "--color 不能是 sometimes，可以是: auto always never"),
        (["--format", "html"], "--format 不能是 html"),
        (["--lang", "fr"], "--lang 不能是 fr，可以是: zh en auto"),
        (["--script", "latin"], "--script 不能是 latin"),
        (["--ctx", "10"], "--ctx 不能是 10，至少 512"),
        (["--max-memory", "much"], "--max-memory 不能是 much"),
        (["--encoding", "klingon"], "没有编码 klingon"),
    ],
)
def test_wrong_values_are_usage_errors(options: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one Chinese line that names what could be, before anything is loaded; exit code 2."""
    import typer

    from bellevl_cli import app, exits

    monkeypatch.setenv("BELLEVL_LANG", "zh")
    with pytest.raises(exits.UsageError) as caught:
        typer.main.get_command(app.app).main(["ask", "x.png", *options], standalone_mode=False)
    assert said in (exits.describe(caught.value) or "") and exits.exit_code(caught.value) == 2


def test_an_error_is_coloured_only_where_it_may_be(environment: dict[str, str], bellevl: Bellevl) -> None:
    """The word is red on a terminal and with --color always, and never with NO_COLOR or on a pipe."""
    command = [*program(), "ask", "missing.png"]
    red = b"\x1b[1;31m"
    assert red in on_terminal(environment, 80, *command)[1]
    assert red not in on_terminal({**environment, "NO_COLOR": "1"}, 80, *command)[1]
    assert red in bellevl("ask", "missing.png", "--color", "always").stderr
    assert red not in bellevl("ask", "missing.png").stderr


C_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("locale", [C_LOCALE, {"LC_ALL": "POSIX"}, {"LC_ALL": "zh_CN.GBK", "LANG": "zh_CN.GBK"}])
def test_odd_locales_show_chinese(bellevl: Bellevl, locale: dict[str, str]) -> None:
    """Where the locale is C, POSIX or GBK messages are whole, in UTF-8."""
    done = bellevl("ask", "没有.png", env=locale)
    assert done.returncode == 3 and "找不到图片: 没有.png" in done.stderr.decode()


@pytest.mark.parametrize(
    ("options", "raw"),
    [
        ([], "颜色".encode("gbk")),
        (["--encoding", "gbk"], "颜色".encode("gbk")),
        (["--encoding", "big5"], "顏色".encode("big5")),
    ],
)
def test_a_question_from_stdin_in_another_encoding(
    bellevl: Bellevl, tiny_folder: Path, picture: Path, options: list[str], raw: bytes
) -> None:
    """GBK on stdin is found out, and --encoding says what cannot be: the model is asked the same characters."""
    asked = ("ask", picture, "-q", "-", "-m", tiny_folder, "--dry-run", *options)
    expected = "顏色" if "big5" in options else "颜色"
    done = bellevl(*asked, input=raw + b"\n")
    assert done.returncode == 0, done.stderr.decode()
    assert expected in done.stdout.decode()
