"""Keys at the chat's prompt, in a pseudo-terminal: lines, pasting, dropping, the clipboard, the editor, completion.

One chat serves all tests, because starting one takes long; each begins with /reset on an empty screen.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pexpect
import pytest
from chat_terminal import ALT_ENTER, ANSWER, CTRL_J, CTRL_R, CTRL_V, EDITOR, UP, Terminal
from PIL import Image

WL_PASTE = """#!/bin/sh
held="$(dirname "$0")/held"
case "$1" in
  --list-types) [ -f "$held.png" ] && echo image/png; [ -f "$held.txt" ] && echo 'text/plain;charset=utf-8'; true ;;
  *) case "$*" in *image/png) cat "$held.png" ;; *) cat "$held.txt" ;; esac ;;
esac
"""
WL_COPY = """#!/bin/sh
cat > "$(dirname "$0")/copied"
"""
TYPIST = """#!/bin/sh
printf '第一行\\n第二行\\n' > "$1"
"""


class Desk:
    """A folder with pictures, and a clipboard that is a folder of programs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        for name, text in (("wl-paste", WL_PASTE), ("wl-copy", WL_COPY), ("typist", TYPIST)):
            (self.bin / name).write_text(text, encoding="utf-8")
            (self.bin / name).chmod(stat.S_IRWXU)
        Image.new("RGB", (60, 40), (200, 30, 30)).save(folder / "红色 方块.png")
        Image.new("RGB", (300, 200), (20, 40, 220)).save(folder / "blue.png")
        os.utime(folder / "红色 方块.png", (1, 1))
        (folder / "notes.txt").touch()

    def hold(self, text: str | None = None, picture: tuple[int, int] | None = None) -> None:
        """What the clipboard has now."""
        for name in ("held.txt", "held.png"):
            (self.bin / name).unlink(missing_ok=True)
        if text is not None:
            (self.bin / "held.txt").write_text(text, encoding="utf-8")
        if picture is not None:
            Image.new("RGB", picture, (9, 9, 9)).save(self.bin / "held.png")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def chat(desk: Desk, tiny_folder: Path) -> Iterator[Terminal]:
    """A chat that all tests share."""
    root = Path(__file__).parents[1]
    environment = {
        "PATH": f"{desk.bin}:{os.environ['PATH']}", "HOME": str(desk.folder), "PYTHONPATH": str(root),
        "XDG_STATE_HOME": str(desk.folder / "state"), "XDG_DATA_HOME": str(desk.folder / "data"),
        "BELLEVL_LANG": "zh", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
        "WAYLAND_DISPLAY": "wayland-0", "VISUAL": str(desk.bin / "typist"), "EDITOR": "false",
    }  # fmt: skip
    with Terminal(environment, "--model", tiny_folder, "--greedy", "--max-tokens", "20", cwd=desk.folder) as one:
        one.ready(seconds=240)
        yield one
        one.send("\x04")
        assert one.end() == 0


@pytest.fixture
def terminal(chat: Terminal, desk: Desk) -> Terminal:
    """The chat with nothing in it."""
    desk.hold()
    assert "都已清空" in chat.does("/reset", "都已清空")
    chat.wipe()
    return chat


def asked(terminal: Terminal) -> str:
    """The last question: /edit brings it to the line, from where it is taken."""
    terminal.wipe()
    terminal.enter("/edit")
    screen = terminal.wait(r"(?ms)^问> /edit$.*^问> ?\S.*上下文 \d+/\d+")
    line = re.split(r"(?m)^问> ?", screen)[-1]
    terminal.send("\x03")
    terminal.ready()
    return "\n".join(part.strip(" …") for part in line.splitlines() if part.strip() and "上下文 " not in part)


def test_keys_for_more_lines(terminal: Terminal) -> None:
    """Alt-Enter and Ctrl-J add a line, Enter sends all of them as one question."""
    terminal.send("第一行" + ALT_ENTER + "第二行" + CTRL_J + "第三行")
    terminal.wait(r"(?s)第一行.*第二行.*第三行")
    terminal.enter("")
    terminal.wait(ANSWER)
    terminal.ready()
    assert asked(terminal) == "第一行\n第二行\n第三行"


def test_a_block_in_triple_quotes_is_one_question(terminal: Terminal) -> None:
    '''Between """ Enter adds a line; the closing quotes send; what is inside is a question, whatever it looks like.'''
    terminal.enter('"""/img 没有.png')
    terminal.wait("没有.png")
    terminal.enter('第二行"""')
    terminal.wait(ANSWER)
    assert "错误" not in terminal.ready()
    assert asked(terminal) == "/img 没有.png\n第二行"


def test_pasted_lines_stay_one_message(terminal: Terminal) -> None:
    """Pasted text with line ends is not sent by itself, and is one question when it is."""
    terminal.paste("粘贴一\r粘贴二\r\n粘贴三")
    screen = terminal.wait(r"(?s)粘贴一.*粘贴二.*粘贴三")
    assert not re.search(ANSWER, screen)
    terminal.enter("")
    terminal.wait(ANSWER)
    terminal.ready()
    assert asked(terminal) == "粘贴一\n粘贴二\n粘贴三"


LEFT, HOME, ERASE_LINE = "\x1b[D", "\x01", "\x15"


def at_cursor(terminal: Terminal) -> tuple[str, int]:
    """The character under the real cursor, and its column."""
    cursor = terminal.screen.cursor
    return terminal.screen.buffer[cursor.y][cursor.x].data, cursor.x


def settles(terminal: Terminal, character: str, column: int) -> None:
    """Reads until the cursor stands on `character` in `column`: there an input method shows its window."""
    end = time.monotonic() + 60
    while at_cursor(terminal) != (character, column):
        assert time.monotonic() < end, f"{at_cursor(terminal)} instead of {(character, column)}:\n{terminal.text()}"
        with suppress(pexpect.TIMEOUT):
            terminal.feed(terminal.child.read_nonblocking(4096, timeout=0.05))


def test_the_real_cursor_is_at_the_edit_point(terminal: Terminal) -> None:
    """Among wide characters the cursor stands on the one that is edited, also after an insertion in the middle."""
    terminal.send("中文输入abc")
    settles(terminal, " ", 4 + 2 * 4 + 3)
    terminal.send(LEFT * 4)
    settles(terminal, "入", 4 + 2 * 3)
    terminal.send("法")
    settles(terminal, "入", 4 + 2 * 4)
    assert "中文输法入abc" in terminal.ready("中文输法入abc")
    terminal.send("\x7f" + HOME)
    settles(terminal, "中", 4)
    terminal.send("\x03")


@pytest.mark.parametrize("begin", ["", "a"])
def test_the_real_cursor_is_at_the_edit_point_of_a_wrapped_line(terminal: Terminal, begin: str) -> None:
    """On the second row of a long line, back on the first, and where a wide character did not fit into the last column
    the cursor stands on the character that is edited."""
    text = begin + "".join(chr(0x4E00 + number) for number in range(80))
    first_row = (120 - 4 - len(begin)) // 2 + len(begin)  # characters on it; each row begins behind four columns
    terminal.send(text)
    settles(terminal, " ", 4 + 2 * (len(text) - first_row))
    row = terminal.screen.cursor.y
    terminal.send(LEFT * 10)
    settles(terminal, text[-10], 4 + 2 * (len(text) - 10 - first_row))
    terminal.send("字")
    settles(terminal, text[-10], 4 + 2 * (len(text) - 9 - first_row))
    assert terminal.screen.cursor.y == row
    terminal.send(LEFT * 40)
    place = len(text) + 1 - 50
    settles(terminal, text[place], 4 + 2 * place - len(begin))
    assert terminal.screen.cursor.y == row - 1
    terminal.send("\x03")
    terminal.ready()


def test_an_input_method_s_characters_are_no_paste(terminal: Terminal, desk: Desk) -> None:
    """Many characters at once are typed text as one is: not sent, and a picture's path among them is not taken for one
    that was dropped; Enter sends what stands there."""
    terminal.send("你好世界，" + str(desk.folder / "blue.png"))
    screen = terminal.ready(f"你好世界，{re.escape(str(desk.folder))}/blue.png")
    assert "图片 [1]" not in screen and not re.search(ANSWER, screen)
    terminal.send(ERASE_LINE + "你好世界\r")
    terminal.wait(ANSWER)
    terminal.ready()
    assert asked(terminal) == "你好世界"


def test_a_dropped_picture_is_attached_at_once(terminal: Terminal, desk: Desk) -> None:
    """A path that is dragged here, quoted, escaped or as file://, is attached; what was typed stays on the line."""
    path = desk.folder / "红色 方块.png"
    terminal.send("这是什么")
    terminal.wait("这是什么")
    terminal.paste(f"'{path}'")
    terminal.wait(r"图片 \[1\] 红色 方块\.png 60×40")
    assert "这是什么" in terminal.ready("这是什么")
    terminal.enter("")
    terminal.wait(ANSWER)
    terminal.ready()
    terminal.paste(str(path).replace(" ", "\\ ") + " ")
    terminal.wait(r"图片 \[2\] 红色")
    terminal.paste(f"file://{path}")
    terminal.wait(r"图片 \[3\] 红色")
    terminal.ready()
    assert "1  红色 方块.png (1 轮)" in terminal.does("/imgs", "3\\*")


def test_a_pasted_path_behind_a_command_is_its_path(terminal: Terminal, desk: Desk) -> None:
    """Behind /img a dropped path stays on the line; a bare name among words is a word."""
    terminal.send("/img ")
    terminal.paste(str(desk.folder / "blue.png"))
    assert "图片 [" not in terminal.wait(r"blue\.png")
    terminal.send(" 什么颜色\r")
    assert "图片 [1] blue.png 300×200" in terminal.wait(ANSWER)
    terminal.ready()
    terminal.send("看看 ")
    terminal.paste("blue.png")
    terminal.wait(r"看看 blue\.png")
    terminal.send("\x03")
    terminal.ready()


def test_a_typed_path_is_attached(terminal: Terminal) -> None:
    """A line that is only a picture's path asks nothing."""
    said = terminal.does("'红色 方块.png'", r"图片 \[1\]")
    assert not re.search(ANSWER, said)


def test_ctrl_v_pastes_a_picture_or_text(terminal: Terminal, desk: Desk) -> None:
    """Ctrl-V attaches the clipboard's picture and keeps the line; text goes to the line; /paste does both, too."""
    desk.hold(text="剪贴板的字", picture=(128, 72))
    terminal.send("描述一下" + CTRL_V)
    assert "128×72" in terminal.wait(r"图片 \[1\] 剪贴板")
    terminal.ready("描述一下")
    terminal.enter("")
    terminal.wait(ANSWER)
    terminal.ready()
    desk.hold(text="剪贴板的字")
    terminal.send(CTRL_V)
    terminal.ready("剪贴板的字")
    terminal.send("\x03")
    terminal.ready()
    terminal.enter("/粘贴")
    terminal.ready("剪贴板的字")
    terminal.send("\x03")
    terminal.ready()
    desk.hold(picture=(64, 64))
    assert "64×64" in terminal.does("/paste", r"图片 \[2\]")
    desk.hold()
    assert "剪贴板里没有图片" in terminal.does("/paste", "错误")


def test_the_editor_brings_lines_back(terminal: Terminal) -> None:
    """Ctrl-X Ctrl-E opens $VISUAL (before $EDITOR); what it wrote stands on the line and is not sent by itself."""
    terminal.send("开头" + EDITOR)
    screen = terminal.wait(r"(?s)第一行.*第二行")
    assert not re.search(ANSWER, screen)
    terminal.enter("")
    terminal.wait(ANSWER)
    terminal.ready()
    assert asked(terminal) == "第一行\n第二行"


def test_tab_completes_commands_and_pictures(terminal: Terminal) -> None:
    """/i Tab offers /img; behind it only folders and pictures, newest first, with their sizes."""
    terminal.send("/tok\t")
    terminal.ready("/tokens")
    terminal.send("\x03")
    terminal.ready()
    terminal.send("/img \t")
    screen = terminal.wait("方块.png")
    assert "300×200" in screen and "notes.txt" not in screen
    assert screen.index("blue.png") < screen.index("红色 方块.png")
    terminal.send("\x03")
    terminal.ready()
    terminal.send("/img 红\t")
    terminal.ready("/img 红色 方块.png")
    terminal.send("\r")
    assert "图片 [1] 红色 方块.png" in terminal.wait(r"图片 \[1\]")
    terminal.ready()


def test_lines_come_back(terminal: Terminal, desk: Desk) -> None:
    """The last line comes back with Up, an older one with Ctrl-R; the file is private; a leading space keeps out."""
    terminal.answer("特别的问题")
    terminal.answer(" 悄悄的问题")
    terminal.answer("另一个问题")
    terminal.send(UP)
    terminal.ready("另一个问题")
    terminal.send("\x03")
    terminal.ready()
    terminal.send(CTRL_R + "特别")
    terminal.wait("特别的问题")
    terminal.enter("")
    terminal.wait(r"问> 特别的问题")
    terminal.send("\x03")
    terminal.ready()
    history = desk.folder / "state" / "bellevl" / "history"
    kept = history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o777 == 0o600
    assert "特别的问题" in kept and "悄悄的问题" not in kept


def test_copy_hands_over_what_was_read(terminal: Terminal, desk: Desk) -> None:
    """/copy gives the answer to wl-copy and says how many characters it has."""
    answer = terminal.answer("问")
    assert f"已复制 {len(answer)} 字 (wl-copy)" in terminal.does("/复制", "已复制")
    assert (desk.bin / "copied").read_text(encoding="utf-8") == answer


def test_copy_falls_back_to_the_terminal(terminal: Terminal, desk: Desk) -> None:
    """Where the program fails the terminal is asked to take the text (OSC 52)."""
    answer = terminal.answer("问")
    tool = desk.bin / "wl-copy"
    tool.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    try:
        assert "(OSC 52)" in terminal.does("/copy", "已复制")
    finally:
        tool.write_text(WL_COPY, encoding="utf-8")
    assert b"\x1b]52;c;" + base64.b64encode(answer.encode()) + b"\x07" in terminal.raw


def test_the_line_below_says_what_there_is(terminal: Terminal) -> None:
    """Picture, window and speed stand below the prompt."""
    terminal.does("/img blue.png 问", ANSWER)
    assert re.search(r"blue\.png  上下文 \d+/2048  \d+ 字/秒", terminal.wait("字/秒"))


def test_help_fits_the_screen(terminal: Terminal) -> None:
    """/help is at most 24 lines; three examples stand behind /help img; a full-width slash is as good."""
    assert len(terminal.does("/help", "退出").splitlines()) <= 24
    assert terminal.does("／帮助　图", "也可以写").count("\n  /img") == 3


def test_typing_ahead_is_kept_for_the_next_line(terminal: Terminal) -> None:
    """A line typed while an answer runs is asked next, its Enter included, and stands in no answer."""
    terminal.does("/set max_tokens 400", "400")
    terminal.enter("一")
    terminal.send("/tokens\r")
    screen = terminal.wait(r"(?s)问> /tokens\s*\n上下文 \d+/\d+ token")
    assert screen.index("未完") < screen.index("/tokens")
    terminal.ready()
