"""What a line of the chat means, and the table of its commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from rich.cells import cell_len

from bellevl_cli.chat import slash as commands
from bellevl_cli.chat.lines import ChatCompleter
from bellevl_cli.chat.slash import COMMANDS, Line, parse
from bellevl_cli.pictures.asked import is_picture_path, split_picture


class Recorder:
    """A chat that writes down what commands do to it."""

    def __init__(self, opens: bool = True) -> None:
        self.done: list[tuple[str, str]] = []
        self.opens = opens

    def attach(self, path: str) -> bool:
        self.done.append(("attach", path))
        return self.opens

    def ask(self, question: str) -> None:
        self.done.append(("ask", question))

    def retry(self) -> None:
        self.done.append(("retry", ""))

    def clear(self) -> None:
        self.done.append(("clear", ""))

    def leave(self) -> None:
        self.done.append(("leave", ""))

    def tell(self, text: str) -> None:
        self.done.append(("tell", text))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two pictures, one with a space in its name; the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    for name in ("cat.png", "我的 狗.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes").touch()
    return tmp_path


def does(text: str) -> list[tuple[str, str]]:
    recorder = Recorder()
    commands.run(recorder, parse(text))
    return recorder.done


@pytest.mark.parametrize(
    ("text", "done"),
    [
        ("/img cat.png", [("attach", "cat.png")]),
        ("/img cat.png 这是什么", [("attach", "cat.png"), ("ask", "这是什么")]),
        ("/image cat.png", [("attach", "cat.png")]),
        ("/图 我的 狗.png 什么 颜色", [("attach", "我的 狗.png"), ("ask", "什么 颜色")]),
        ("／图：cat.png", [("attach", "cat.png")]),
        ("/图\u3000cat.png", [("attach", "cat.png")]),
        ('/img "我的 狗.png" 颜色', [("attach", '"我的 狗.png"'), ("ask", "颜色")]),
        ("/img “我的 狗.png”", [("attach", "“我的 狗.png”")]),
        ("/clear", [("clear", "")]),
        ("/清空", [("clear", "")]),
        ("/retry", [("retry", "")]),
        ("/重答", [("retry", "")]),
        ("/exit", [("leave", "")]),
        ("/bye", [("leave", "")]),
        ("/QUIT", [("leave", "")]),
        ("／退出", [("leave", "")]),
        ("／ｃｌｅａｒ", [("clear", "")]),
        ("/img pics/none.png 是什么", [("attach", "pics/none.png"), ("ask", "是什么")]),
        ("/img 我的 照片.jpg 什么 颜色", [("attach", "我的 照片.jpg"), ("ask", "什么 颜色")]),
    ],
)
def test_commands_do_what_they_say(folder: Path, text: str, done: list[tuple[str, str]]) -> None:
    """Each command, its aliases and their full-width forms do one thing."""
    assert does(text) == done


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", Line("empty")),
        ("  \u3000 ", Line("empty")),
        ("这是什么", Line("question", text="这是什么")),
        ("//etc 是什么目录", Line("question", text="/etc 是什么目录")),
        ("／／是什么", Line("question", text="/是什么")),
        ("cat.png", Line("picture", name="cat.png")),
        ("'我的 狗.png'", Line("picture", name="'我的 狗.png'")),
        ("我的\\ 狗.png", Line("picture", name="我的\\ 狗.png")),
        ("cat.png 里有什么", Line("question", text="cat.png 里有什么")),
        ("none.png", Line("question", text="none.png")),
        ("notes", Line("question", text="notes")),
        ("./notes", Line("picture", name="./notes")),
        ("/no/such/a b.png 是什么", Line("picture", name="/no/such/a b.png", text="是什么")),
        ("/no/such/folder 是什么", Line("command", name="no/such/folder", text="是什么")),
    ],
)
def test_a_line_is_a_question_a_picture_or_nothing(folder: Path, text: str, line: Line) -> None:
    """Only a whole line that names an existing picture is one; two slashes ask what begins with one."""
    assert parse(text) == line


def test_a_dropped_path_from_the_root_is_a_picture(folder: Path) -> None:
    """A full path begins with a slash and is no command, with a question behind it or without."""
    path = folder / "cat.png"
    assert parse(str(path)) == Line("picture", name=str(path))
    assert parse(f"{path} 是什么") == Line("picture", name=str(path), text="是什么")
    assert parse(f"file://{path}") == Line("picture", name=f"file://{path}")


def test_an_unknown_command_names_the_nearest(folder: Path) -> None:
    """/ima is not sent to the model; /img is offered."""
    [(kind, text)] = does("/claer")
    assert kind == "tell" and "/clear" in text and "//" in text
    [(kind, text)] = does("/" + "长" * 100_000)
    assert kind == "tell" and len(text) < 100


def test_a_picture_that_does_not_open_is_not_asked_about(folder: Path) -> None:
    """When /img fails, its question is not asked about the old picture."""
    recorder = Recorder(opens=False)
    commands.run(recorder, parse("/img cat.png 这是什么"))
    assert recorder.done == [("attach", "cat.png")]


def test_help_shows_the_whole_table(folder: Path) -> None:
    """/help names every command and every alias and fits a screen."""
    [(kind, text)] = does("/help")
    assert kind == "tell" and len(text.splitlines()) <= 24
    for row in COMMANDS.values():
        assert row.usage in text and row.summary in text
        assert all(f"/{alias}" in text for alias in row.aliases)
    assert does("/") == does("／") == [(kind, text)]
    [(_, one)] = does("/help img")
    assert one.splitlines() == [line for line in text.splitlines() if "/img" in line]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_help_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    """No line of /help is broken on the usual terminal, in either language."""
    monkeypatch.setenv("BELLEVL_LANG", language)
    assert max(cell_len(commands.help_line(row)) for row in COMMANDS.values()) <= 80


def test_no_two_commands_share_a_name() -> None:
    """A name or alias leads to one command, and each command has a Chinese one."""
    names = commands.all_names()
    assert len(names) == len(set(names))
    assert all(any(ord(alias[0]) > 0x4E00 for alias in row.aliases) for row in COMMANDS.values())


def completions(text: str) -> list[str]:
    return [c.text for c in ChatCompleter().get_completions(Document(text, len(text)), CompleteEvent())]


def test_completion_reads_the_same_table(folder: Path) -> None:
    """A slash offers every command; a beginning only those that begin so; a question nothing."""
    assert completions("/") == list(COMMANDS)
    assert completions("/im") == ["img"]
    assert completions("/清") == ["清空"]
    assert completions("这是") == []


def test_completion_offers_pictures_and_folders(folder: Path) -> None:
    """Behind /img folders and pictures are offered, other files are not."""
    (folder / "notes.txt").touch()
    (folder / "more").mkdir()
    assert sorted(completions("/img ")) == ["cat.png", "more", "我的 狗.png"]
    assert completions("/img ca") == ["t.png"]


def test_the_longest_existing_path_wins(folder: Path) -> None:
    """A path may hold spaces; without a file the first word is taken as the path."""
    assert split_picture("我的 狗.png 什么颜色") == ("我的 狗.png", "什么颜色")
    assert split_picture("missing.png 什么颜色") == ("missing.png", "什么颜色")
    assert split_picture("我的\\ 猫.png 什么") == ("我的\\ 猫.png", "什么")


@pytest.mark.parametrize("text", ["", " ", "a\nb", "x" * 5000, "\0", "."])
def test_what_is_no_path_is_no_picture(folder: Path, text: str) -> None:
    """Empty, long and odd lines, and folders, are not taken for a picture."""
    assert not is_picture_path(text)
