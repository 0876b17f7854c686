"""What a line of the chat means, and the table of its commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from rich.cells import cell_len

from bellevl_cli.chat import slash as commands
from bellevl_cli.chat.completing import ChatCompleter
from bellevl_cli.chat.registry import GROUPS
from bellevl_cli.chat.slash import COMMANDS, Line, is_open_block, parse
from bellevl_cli.pictures.asked import is_picture_path, split_picture


class Recorder:
    """A chat that writes down what commands do to it: (method, first argument)."""

    columns = 80

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.threads = self.answers = self.chat = self.lines = self

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self.done.append((name, str(given[0]) if given else ""))

    def find(self, number: int) -> None:
        """No thread has a number."""

    @property
    def turns(self) -> list[Any]:
        return []


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
    ("text", "path", "question"),
    [
        ("/img cat.png", "cat.png", ""),
        ("/img cat.png 这是什么", "cat.png", "这是什么"),
        ("/image cat.png", "cat.png", ""),
        ("/图 我的 狗.png 什么 颜色", "我的 狗.png", "什么 颜色"),
        ("／图：cat.png", "cat.png", ""),
        ("/图\u3000cat.png", "cat.png", ""),
        ('/img "我的 狗.png" 颜色', '"我的 狗.png"', "颜色"),
        ("/img “我的 狗.png”", "“我的 狗.png”", ""),
        ("/img pics/none.png 是什么", "pics/none.png", "是什么"),
        ("/img 我的 照片.jpg 什么 颜色", "我的 照片.jpg", "什么 颜色"),
    ],
)
def test_a_picture_and_a_question_are_told_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, path: str, question: str
) -> None:
    """/img, its aliases and full-width forms take a path, spaces and quotes and all, and what is behind it."""
    recorder, given = Recorder(), []
    monkeypatch.setattr(recorder, "attach_and_ask", lambda *words: given.append(words), raising=False)
    commands.run(recorder, parse(text))
    assert given == [(path, question)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/exit", "exit"),
        ("/bye", "exit"),
        ("/QUIT", "exit"),
        ("／退出", "exit"),
        ("／ｃｌｅａｒ", "clear"),
        ("/清空", "clear"),
        ("/重答", "retry"),
        ("/继续", "continue"),
        ("/帮助", "help"),
        ("/?", "help"),
        ("/图", "img"),
        ("/regen", "retry"),
    ],
)
def test_aliases_lead_to_their_command(folder: Path, text: str, name: str) -> None:
    """Aliases, capitals and full-width letters are the same command."""
    row = commands.find(parse(text).name)
    assert row is not None and row.name == name


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
        ('"""/img cat.png"""', Line("question", text="/img cat.png")),
        ('"""\n一\n二\n"""', Line("question", text="一\n二")),
        ('"""没有结束', Line("question", text="没有结束")),
        ('""""""', Line("empty")),
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
    [(kind, text)] = does("/清除")
    assert kind == "tell" and "/清空" in text
    [(kind, text)] = does("/" + "长" * 100_000)
    assert kind == "tell" and len(text) < 100


@pytest.mark.parametrize("language", ["zh", "en"])
def test_help_shows_the_whole_table(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    """/help has an example and a summary of every command, in 24 lines of 80 columns, in either language; a slash
    alone is /help."""
    monkeypatch.setenv("BELLEVL_LANG", language)
    [(kind, text)] = does("/help")
    lines = text.splitlines()
    assert kind == "tell" and len(lines) <= 24 and max(map(cell_len, lines)) <= 80
    for row in COMMANDS.values():
        assert row.examples[0] in text and row.summary in text
    assert does("/") == does("／") == [(kind, text)]


def test_help_is_one_column_where_the_terminal_is_narrow(folder: Path) -> None:
    """At 40 columns each command has a line of its own, but for the last line all fit."""
    lines = commands.help_lines(40)
    assert len(lines) == len(COMMANDS) + len(GROUPS) + 1
    assert max(map(cell_len, lines[:-1])) <= 40


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_command_explains_itself(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    """/help NAME has the usage, the aliases, and examples that are commands of this name; /help img has three."""
    monkeypatch.setenv("BELLEVL_LANG", language)
    for row in COMMANDS.values():
        [(_, text)] = does(f"/help {row.name}")
        assert row.usage in text and all(f"/{alias}" in text for alias in row.aliases)
        for example in row.examples:
            line = parse(example)
            assert f"  {example}" in text and (line.kind, line.name) == ("command", row.name)
    assert len(COMMANDS["img"].examples) == 3
    assert does("/help /图") == does("/help img")


def test_the_documents_have_the_table() -> None:
    """docs/reference has the table of commands as `slash.markdown` writes it, in both languages."""
    for language, name in (("zh", "reference.zh-CN.md"), ("en", "reference.md")):
        text = (Path(__file__).parents[1] / "docs" / name).read_text(encoding="utf-8")
        assert commands.markdown(language).rstrip() in text


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
    assert completions("/im") == ["img", "imgs"]
    assert completions("/清") == ["清空"]
    assert completions("/help im") == ["img", "imgs"]
    assert completions("/set temp") == ["temperature"]
    assert completions("/crop 左") == ["左上", "左下", "左"]
    assert completions("/export r") == [".html", ".md"]
    assert completions("这是") == []


def test_completion_offers_pictures_and_folders(folder: Path) -> None:
    """Behind /img folders and pictures are offered, newest first, with a picture's size; other files are not."""
    (folder / "notes.txt").touch()
    (folder / "more").mkdir()
    (folder / "broken.png").write_bytes(b"no picture")
    for age, name in enumerate(("cat.png", "more", "我的 狗.png", "broken.png")):
        os.utime(folder / name, (10**9 - age, 10**9 - age))
    found = list(ChatCompleter().get_completions(Document("/img ", 5), CompleteEvent()))
    assert [c.text for c in found] == ["cat.png", "more/", "我的 狗.png", "broken.png"]
    assert found[0].display_meta_text.startswith("4×4 ") and found[3].display_meta_text == "10 B"
    assert completions("/img CA") == ["cat.png"] and completions("/图 我的 ") == ["我的 狗.png"]
    assert completions('/img "我') == ['我的 狗.png"']
    assert completions("/img nothing/") == completions("/img x\n") == []


def test_a_block_is_open_until_its_closing_quotes() -> None:
    """Three quotes begin a block, three more at the end close it; quotes elsewhere are text."""
    assert is_open_block('"""一') and is_open_block('"""') and is_open_block('"""一"""二')
    assert not is_open_block('"""一"""') and not is_open_block('一"""') and not is_open_block('""""""')


def test_the_longest_existing_path_wins(folder: Path) -> None:
    """A path may hold spaces; without a file the first word is taken as the path."""
    assert split_picture("我的 狗.png 什么颜色") == ("我的 狗.png", "什么颜色")
    assert split_picture("missing.png 什么颜色") == ("missing.png", "什么颜色")
    assert split_picture("我的\\ 猫.png 什么") == ("我的\\ 猫.png", "什么")


@pytest.mark.parametrize("text", ["", " ", "a\nb", "x" * 5000, "\0", "."])
def test_what_is_no_path_is_no_picture(folder: Path, text: str) -> None:
    """Empty, long and odd lines, and folders, are not taken for a picture."""
    assert not is_picture_path(text)
