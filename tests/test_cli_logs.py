"""`bellevl logs` and `bellevl export` as programs: what they print, what they write, and what they refuse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pexpect
import pytest
from conftest import Bellevl, program
from PIL import Image

from bellevl.errors import LogError
from bellevl.image import open_picture
from bellevl_cli import settings
from bellevl_cli.log import StoredThread, StoredTurn, open_log
from bellevl_cli.log.exporting import export
from bellevl_cli.log.store import KeptLog
from bellevl_cli.pictures.asked import open_asked

NASTY = '<script>alert(1)</script> & "quoted" ![x](http://e/x.png) \x1b]52;c;aGk=\x07 `code` # 题\n1. 一\n- 二'
BOXES = "<ref>猫<b></ref><box>(100,200),(500,800)</box>在<ref>窗台</ref><box>(0,900),(1000,1000)</box>上"


@pytest.fixture
def log(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[KeptLog]:
    """The log of the programs that this test starts."""
    monkeypatch.delenv("BELLEVL_NO_LOG", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(Path(environment["HOME"]) / ".local" / "share"))
    monkeypatch.setenv("BELLEVL_CONFIG", os.devnull)
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    settings.forget_config()
    opened = open_log(said=pytest.fail)
    assert isinstance(opened, KeptLog)
    yield opened
    opened.close()
    settings.forget_config()


@pytest.fixture
def threads(log: KeptLog, picture: Path) -> list[str]:
    """Two dialogues: one about a picture with a nasty question and boxes, one without a picture."""
    first = log.start(open_asked(str(picture)), "nano", name="方块 报告")
    for question, answer, reason in ((NASTY, "红色", "stop"), ("框出来", BOXES, "length"), ("继续", "还没", None)):
        turn = log.turn(first, question)
        turn.push(answer)
        if reason is not None:
            turn.end(answer, reason)
    second = log.start(None, "nano")
    with log.turn(second, "你好") as turn:
        turn.end("你好！", "stop")
    return [first, second]


def test_an_empty_log_is_no_error(bellevl: Bellevl) -> None:
    """Without a log: nothing on stdout, a word on stderr, exit 0; showing one exits 1."""
    done = bellevl("logs")
    assert (done.returncode, done.stdout) == (0, b"") and "还没有记录" in done.stderr.decode()
    assert json.loads(bellevl("logs", "list", "--json").stdout) == []
    assert bellevl("logs", "show").returncode == 1


def test_dialogues_are_listed_newest_first(bellevl: Bellevl, threads: list[str], picture: Path) -> None:
    """A line each: id, time, picture and name, turns, the latest question; nothing in it steers a terminal."""
    done = bellevl("logs")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and [line.split()[0] for line in lines] == threads[::-1]
    assert "方块 报告" in lines[1] and picture.name in lines[1] and "3 轮" in lines[1] and "继续" in lines[1]
    assert "log.db" in done.stderr.decode()
    assert len(bellevl("logs", "-n", "1").stdout.splitlines()) == 1
    listed = json.loads(bellevl("logs", "list", "--json").stdout)
    assert [(line["id"], line["turns"]) for line in listed] == [(threads[1], 1), (threads[0], 3)]


def test_a_search_shows_where_it_found_the_words(bellevl: Bellevl, threads: list[str]) -> None:
    """Each turn found: its dialogue, its question, and the answer without markup around the word."""
    lines = bellevl("logs", "-q", "窗台").stdout.decode().splitlines()
    assert len(lines) == 2 and lines[0].startswith(threads[0]) and "框出来" in lines[0]
    assert "猫<b>[1]在窗台[2]上" in lines[1]
    nothing = bellevl("logs", "list", "-q", "没有这样的词")
    assert (nothing.returncode, nothing.stdout) == (0, b"") and "没有找到" in nothing.stderr.decode()


def test_a_dialogue_is_shown_whole(bellevl: Bellevl, threads: list[str], picture: Path) -> None:
    """By name, id or without either the latest; escape sequences are gone; JSON has everything."""
    text = bellevl("logs", "show", "方块 报告").stdout.decode()
    assert "红色" in text and "猫<b>[1]在窗台[2]上" in text and str(picture) in text and "\x1b" not in text
    assert "已到长度上限" in text and "没有写完" in text
    record = json.loads(bellevl("logs", "show", threads[0][:3], "--json").stdout)
    assert record["image"]["path"] == str(picture) and record["turns"][1]["answer"] == BOXES
    assert "你好！" in bellevl("logs", "show").stdout.decode()


def test_dialogues_are_removed_all_or_none(bellevl: Bellevl, log: KeptLog, threads: list[str]) -> None:
    """A wrong id removes nothing and exits 1; right ones are gone for good."""
    wrong = bellevl("logs", "rm", threads[0], "zz")
    assert wrong.returncode == 1 and "zz" in wrong.stderr.decode() and len(log.threads()) == 2
    done = bellevl("logs", "rm", "方块 报告", threads[1])
    assert done.returncode == 0 and log.threads() == ()


def test_pruning_asks(bellevl: Bellevl, log: KeptLog, threads: list[str], environment: dict[str, str]) -> None:
    """Where nobody can be asked it exits 2 and keeps everything; --yes and a typed yes remove, anything else not."""
    log.connection.execute("UPDATE threads SET used = used - 40 * 86400 WHERE id = ?", (threads[0],))
    assert bellevl("logs", "prune", "50d").returncode == 0
    refused = bellevl("logs", "prune", "30d")
    assert refused.returncode == 2 and "--yes" in refused.stderr.decode() and len(log.threads()) == 2
    assert bellevl("logs", "prune", "soon", "--yes").returncode == 2
    for typed, left in (("n", 2), ("", 2), ("y", 1)):
        child = pexpect.spawn(program()[0], [*program()[1:], "logs", "prune", "30d"], env=environment, timeout=60)
        child.expect("y/N")
        child.sendline(typed)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0 and len(log.threads()) == left
    log.connection.execute("UPDATE threads SET used = used - 40 * 86400")
    assert bellevl("logs", "prune", "30天", "--yes").returncode == 0 and log.threads() == ()


def test_the_log_is_switched_off_and_on(bellevl: Bellevl, log: KeptLog) -> None:
    """`logs off` keeps what there is; `logs` says which way it stands, and a variable that says otherwise."""
    assert "已关闭" in bellevl("logs", "off").stderr.decode() and not open_log().on
    assert "已关闭" in bellevl("logs").stderr.decode()
    on = bellevl("logs", "on", env={"BELLEVL_NO_LOG": "1"}).stderr.decode()
    assert "已打开" in on and "BELLEVL_NO_LOG" in on and open_log().on


def test_wrong_use_is_told_in_one_line(bellevl: Bellevl, threads: list[str]) -> None:
    """-n below 1 and an ending that is no report's exit 2."""
    for arguments in (("logs", "-n", "0"), ("export", threads[0], "-o", "r.pdf"), ("logs", "rm")):
        done = bellevl(*arguments)
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1


class Page(HTMLParser):
    """What a browser would do with a report: its tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_is_one_file_that_runs_and_fetches_nothing(
    bellevl: Bellevl, threads: list[str], tmp_path: Path
) -> None:
    """No script, no address but the picture's own data, every text as it was, boxes drawn over the picture."""
    done = bellevl("export", "方块 报告", "-o", tmp_path / "报告 1.html")
    assert done.returncode == 0 and done.stdout.decode().strip() == str(tmp_path / "报告 1.html")
    source = (tmp_path / "报告 1.html").read_text(encoding="utf-8")
    page = Page(source)
    assert "script" not in page.tags and not [n for n, _ in page.attributes if n.startswith("on")]
    addresses = [value for name, value in page.attributes if name in ("href", "src")]
    assert all(a.startswith("data:image/png;base64,") or a == "#picture-1" for a in addresses) and len(addresses) == 2
    assert '<script>alert(1)</script> & "quoted" ![x](http://e/x.png)' in page.text and "\x1b" not in source
    assert "猫<b>[1]在窗台[2]上" in page.text and "红色" in page.text and "没有写完" in page.text
    assert "default-src 'none'" in dict(page.attributes)["content"] or "Content-Security-Policy" in source
    drawn = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", source, re.DOTALL)]
    assert len(drawn) == 2
    frame = drawn[1].find("rect")
    assert frame is not None  # 60 × 40: x 100‰, y 200‰, to 500‰ and 800‰
    assert [float(frame.attrib[name]) for name in ("x", "y", "width", "height")] == [6.0, 8.0, 24.0, 24.0]
    for label in drawn[1].findall("text"):
        assert 0 <= float(label.attrib["x"]) < 60 and 0 < float(label.attrib["y"]) <= 40


def test_markdown_is_a_folder(bellevl: Bellevl, threads: list[str], tmp_path: Path) -> None:
    """The text and its pictures, boxes drawn in, nothing in it that Markdown or HTML would take for its own."""
    done = bellevl("export", "方块 报告", "-o", tmp_path / "报告.md")
    text = (tmp_path / "报告" / "报告.md").read_text(encoding="utf-8")
    assert done.returncode == 0 and done.stdout.decode().strip() == str(tmp_path / "报告" / "报告.md")
    assert "<script" not in text.replace("\\<", "") and "![x]" not in text and "\x1b" not in text
    shown = re.findall(r"(?<!\\)!\[.*?[^\\]\]\((.*?)\)", text)
    assert shown == ["picture-1.png", "picture-1-boxes-2.png"]
    plain, boxes = (Image.open(tmp_path / "报告" / name) for name in shown)
    assert plain.size == boxes.size == (60, 40)
    assert plain.tobytes() != boxes.convert(plain.mode).tobytes()


def test_a_report_without_its_picture_says_so(log: KeptLog, tmp_path: Path) -> None:
    """A picture that is gone or another one by now is not shown; the dialogue is there all the same."""
    file = tmp_path / "x.png"
    Image.new("RGB", (8, 6), "red").save(file)
    thread = log.start(open_asked(str(file)), "m")
    with log.turn(thread, "q") as turn:
        turn.end(BOXES, "stop")
    Image.new("RGB", (8, 6), "blue").save(file)
    source = export([log.thread(thread)], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "已不是那次对话的图片" in source and "data:" not in source.split("</head>")[1] and "窗台" in source


def test_a_report_carries_nothing_but_pixels(tmp_path: Path) -> None:
    """What a camera wrote into the file (place, owner) is not in the report; a huge photo is made smaller."""
    file = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x013B] = "Zhang San, Beijing"
    Image.effect_noise((2400, 1800), 60).convert("RGB").save(file, exif=exif)
    assert b"Zhang San" in file.read_bytes()
    thread = StoredThread("x", picture_name="photo.jpg", picture_sha256="0" * 64, turns=(StoredTurn("q", "a", "stop"),))
    path = export([thread], tmp_path / "r.md", {"x": open_picture(file)})
    data = (path.parent / "picture-1.jpg").read_bytes()
    assert b"Zhang" not in data and Image.open(path.parent / "picture-1.jpg").size == (1600, 1200)


def test_several_dialogues_make_one_report(tmp_path: Path) -> None:
    """A chat with several pictures is one file with all of them; a chat that was not logged can be exported, too."""
    pictures = {id: open_picture(Image.new("RGB", (30, 20), colour)) for id, colour in (("a", "red"), ("b", "blue"))}
    threads = [
        StoredThread(id, picture_name=f"{id}.png", picture_sha256="-", turns=(StoredTurn(f"问 {id}", "答", "stop"),))
        for id in pictures
    ]
    source = export([*threads, StoredThread("c")], tmp_path / "r.html", pictures).read_text(encoding="utf-8")
    assert source.count("data:image/png") == 2 and source.count("<section") == 3
    assert "问 a" in source and "问 b" in source


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A folder that is not there is an error of the system, and a wrong ending a wrong use."""
    with pytest.raises(OSError, match="No such file"):
        export([StoredThread("x")], tmp_path / "none" / "r.html")
    with pytest.raises(LogError):
        export([StoredThread("x")], tmp_path / "r.txt")
    assert list(tmp_path.iterdir()) == []


def test_logs_into_a_closed_pipe_ends_quietly(threads: list[str], environment: dict[str, str]) -> None:
    """`bellevl logs | head -1` has no traceback."""
    command = f"{' '.join(program())} logs show '方块 报告' | head -1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60, check=True)
    assert b"Traceback" not in done.stderr and done.stdout.count(b"\n") == 1
