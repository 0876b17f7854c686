"""The log: what is kept, when it is in the file, what is found again, and that it never stands in an answer's way."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from bellevl.errors import LogError, PictureError
from bellevl.prompt import DEFAULT_SYSTEM
from bellevl_cli import settings
from bellevl_cli.log import Log, LoggedTurn, open_kept, open_log, reading, reopen, schema, switch
from bellevl_cli.log.records import USUAL_SYSTEM
from bellevl_cli.log.removing import age_seconds, older_than, remove
from bellevl_cli.log.store import FLUSH_SECONDS, KeptLog
from bellevl_cli.pictures.asked import AskedPicture, open_asked
from bellevl_cli.pictures.crop import crop_asked


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's log is; nothing is configured."""
    monkeypatch.delenv("BELLEVL_NO_LOG", raising=False)
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("BELLEVL_CONFIG", str(tmp_path / "config.toml"))
    settings.forget_config()
    yield tmp_path / "bellevl"
    settings.forget_config()


@pytest.fixture
def log(home: Path) -> Iterator[KeptLog]:
    """A log that is on, and says nothing."""
    opened = open_log(said=pytest.fail)
    assert isinstance(opened, KeptLog)
    yield opened
    opened.close()


def store_images() -> None:
    """Turns the setting on in this test's configuration."""
    Path(os.environ["BELLEVL_CONFIG"]).write_text("store_images = true\n", encoding="utf-8")
    settings.forget_config()


def answered(log: Log, thread: str, question: str, answer: str) -> None:
    with log.turn(thread, question) as turn:
        turn.end(answer, "stop")


def test_the_question_is_in_the_file_before_the_answer(log: KeptLog, picture: Path) -> None:
    """Another program reads the question while the model still thinks, and later everything about the answer."""
    thread = log.start(open_asked(str(picture)), "nano", "简短回答")
    turn = log.turn(thread, "这是什么？", {"seed": 7})
    stored = open_kept().thread(thread)
    assert [(t.question, t.answer, t.finish_reason) for t in stored.turns] == [("这是什么？", "", None)]
    boxes = [{"label": "狗", "xyxy_1000": [1, 2, 3, 4]}]
    turn.end("红色方块", "stop", {"completion_tokens": 4}, {"load_seconds": 1.5}, boxes)
    stored = open_kept().thread(thread)
    assert stored.picture_path == picture and stored.picture_name == picture.name
    assert (stored.model, stored.system, stored.picture_size) == ("nano", "简短回答", (60, 40))
    last = stored.turns[0]
    assert (last.answer, last.finish_reason, last.params) == ("红色方块", "stop", {"seed": 7})
    assert (last.usage, last.timings) == ({"completion_tokens": 4}, {"load_seconds": 1.5}) and list(last.boxes) == boxes


def test_text_is_written_at_most_once_a_second(log: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand pieces in one second are one write, not a thousand."""
    writes = []
    original = log._run
    monkeypatch.setattr(log, "_run", lambda *statement: writes.append(statement) or original(*statement))
    turn = log.turn(log.start(None, "m"), "q")
    for n in range(1000):
        turn.push("字" * n)
    assert len(writes) == 2  # start and the first piece: the question goes together with its thread's time


TYPIST = """
import sys, time
from bellevl_cli.log import open_log
log = open_log()
turn = log.turn(log.start(None, "m"), "问题")
began, n = time.monotonic(), 0
while time.monotonic() - began < 60:
    n += 1
    turn.push("字" * n)
    print(n, flush=True)
    time.sleep(0.01)
"""


def test_kill_9_loses_at_most_a_second(home: Path) -> None:
    """A program killed in the midst of an answer has logged all but what came within the last second."""
    child = subprocess.Popen([sys.executable, "-c", TYPIST], stdout=subprocess.PIPE, env={**os.environ, **PATHS})
    assert child.stdout is not None
    came = []
    while not came or came[-1][1] - came[0][1] < 2.7:
        came.append((int(child.stdout.readline()), time.monotonic()))
    child.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    came += [(int(line), killed) for line in child.stdout]
    child.wait()
    turn = open_kept().thread().turns[0]
    older = [n for n, moment in came if moment < killed - FLUSH_SECONDS - 0.3]
    assert turn.question == "问题" and turn.finish_reason is None
    assert len(turn.answer) >= max(older) > 20
    answered(open_log(), open_kept().thread().id, "还在吗", "在")  # and the file is whole
    assert open_kept().thread().turns[-1].answer == "在"


PATHS = {"PYTHONPATH": str(ROOT)}

WRITER = """
import sys
from bellevl_cli.log import open_log
log = open_log(said=lambda text: sys.exit(text))
thread = log.start(None, "m", name=sys.argv[1])
for n in range(40):
    with log.turn(thread, f"{sys.argv[1]} {n}") as turn:
        turn.push("答"); turn.end(f"答 {n}", "stop")
log.close()
"""


def test_terminals_write_at_once(home: Path) -> None:
    """Four programs that make and write one log at the same moment lose nothing."""
    commands = [[sys.executable, "-c", WRITER, f"终端{n}"] for n in range(4)]
    children = [subprocess.Popen(c, env={**os.environ, **PATHS}, stderr=subprocess.PIPE) for c in commands]
    said = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    log = open_kept()
    for n in range(4):
        assert [t.answer for t in log.thread(f"终端{n}").turns] == [f"答 {k}" for k in range(40)]


def test_the_log_is_for_this_user_alone(log: KeptLog, home: Path) -> None:
    """Folder 0700, every file in it 0600, whatever the umask."""
    answered(log, log.start(None, "m"), "q", "a")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()} == {0o600}
    assert len(list(home.iterdir())) >= 2  # the write-ahead file is one of them


@pytest.mark.parametrize("how", ["option", "variable", "off", "config"])
def test_it_can_be_switched_off(home: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """--no-log, BELLEVL_NO_LOG, `logs off` and the configuration: ids and handles as ever, and no log."""
    if how == "variable":
        monkeypatch.setenv("BELLEVL_NO_LOG", "1")
    elif how == "off":
        switch(False)
    elif how == "config":
        Path(os.environ["BELLEVL_CONFIG"]).write_text("log = false", encoding="utf-8")
    log = open_log(enabled=how != "option", said=pytest.fail)
    answered(log, log.start(None, "m", name="n"), "q", "a")
    log.replace_last("x")
    log.drop_last("x")
    assert not log.on and not (home / "log.db").exists() and log.threads() == ()
    with pytest.raises(LogError):
        log.thread()
    if how == "off":
        switch(True)
        assert open_log().on


def interrupted(turn: LoggedTurn) -> None:
    """An answer that Ctrl-C ends after its second piece."""
    with turn:
        turn.push("一半")
        turn.push("一半多一点")
        raise KeyboardInterrupt


def test_an_answer_left_alone_was_interrupted(log: KeptLog) -> None:
    """Whatever ends an answer before its end, what came of it is kept and marked."""
    thread = log.start(None, "m")
    with pytest.raises(KeyboardInterrupt):
        interrupted(log.turn(thread, "q"))
    last = log.thread(thread).turns[-1]
    assert (last.answer, last.finish_reason) == ("一半多一点", "interrupted")


def test_retry_undo_and_continue(log: KeptLog) -> None:
    """A new answer takes the old one's place, a turn taken back is gone, one that goes on is one turn."""
    thread = log.start(None, "m")
    answered(log, thread, "一", "旧")
    log.replace_last(thread)
    assert [t.answer for t in log.thread(thread).turns] == ["旧"]  # until there is a new one
    answered(log, thread, "一", "新")
    answered(log, thread, "二", "多余的话")
    log.drop_last(thread)
    assert [t.answer for t in log.thread(thread).turns] == ["新"]
    with log.continue_last(thread) as turn:
        turn.end("新的更长", "stop")
    assert [t.answer for t in log.thread(thread).turns] == ["新的更长"]
    assert [found.turn.answer for found in log.search("旧")] == [] and log.search("多余的话") == ()
    assert log.threads()[0].turns == 1


TEXTS = [
    ("这是什么动物？", "一只橘色的猫，趴在窗台上。"),
    ("图中的文字", '价格 100% OFF, call *now* "AND" it\'s <b>_x_</b>'),
    ("Ｆｕｌｌ width?", "Grüße, STRASSE"),
    ("问", "答"),
]
SEARCHES = {
    "橘色的猫": [0],
    "猫": [0],
    "窗台": [0],
    "动物 橘色": [0],
    "动物 价格": [],
    "什么动物 窗": [0],
    "100%": [1],
    "%": [1],
    "*now*": [1],
    '"AND"': [1],
    "it's": [1],
    "_x_": [1],
    "a_l": [],
    "NEAR(": [],
    "full WIDTH": [2],
    "ＧＲÜ": [2],
    "straße": [2],
    "grüße": [2],
    "答": [3],
    "答案": [],
    "方块": [3, 2, 1, 0],
    "红色 方块": [3, 2, 1, 0],
    "红色 橘色": [0],
    "发票": [3, 2, 1, 0],
    "   ": [],
    "": [],
    "-": [],
}


@pytest.mark.parametrize("trigrams", [True, False], ids=["index", "no index"])
def test_search_finds_words_of_any_language(
    log: KeptLog, picture: Path, monkeypatch: pytest.MonkeyPatch, trigrams: bool
) -> None:
    """Every word must occur, in question, answer, picture's or thread's name; the index makes no difference to it."""
    if not trigrams:
        monkeypatch.setattr(reading, "_bring_index_up_to_date", lambda connection: False)
    thread = log.start(open_asked(str(picture)), "m", name="发票")
    for question, answer in TEXTS:
        answered(log, thread, question, answer)
    order = {question: n for n, (question, _) in enumerate(TEXTS)}
    found = {words: [order[f.turn.question] for f in log.search(words)] for words in SEARCHES}
    assert found == SEARCHES
    assert len(log.search("方块", 2)) == 2
    assert reading.has_index(log.connection) == trigrams


def test_search_knows_what_changed_since_it_was_indexed(log: KeptLog) -> None:
    """An answer that is found under its beginning is found under its end, too, once that was written."""
    thread = log.start(None, "m")
    turn = log.turn(thread, "问题一")
    turn.push("早上的太阳")
    assert len(log.search("早上的")) == 1
    turn.end("晚上的月亮", "stop")
    assert log.search("早上的") == () and len(log.search("晚上的")) == 1


def test_threads_are_found_by_id_beginning_and_name(log: KeptLog) -> None:
    """A thread's id, the beginning of it if no other begins so, or its name; a wrong one is told with a near name."""
    first, second = log.start(None, "m", name="发票 三月"), log.start(None, "m")
    log.connection.execute("UPDATE threads SET id = 'ab12' WHERE id = ?", (first,))
    log.connection.execute("UPDATE threads SET id = 'ab34' WHERE id = ?", (second,))
    assert log.thread("ab1").id == log.thread("AB12").id == log.thread(" 发票 三月 ").id == "ab12"
    wrongs = [("ab", "log.ambiguous"), ("%", "log.missing"), ("", "log.missing"), ("发票 二月", "log.missing")]
    for wrong, message in wrongs:
        with pytest.raises(LogError) as caught:
            log.thread(wrong)
        assert caught.value.message == message
    assert "发票 三月" in str(caught.value.facts["near"])
    with pytest.raises(LogError) as caught:
        log.name("ab34", "发票 三月")
    assert caught.value.message == "log.taken"
    log.name("ab12", "发票 三月")
    assert [line.id for line in log.threads(1)] == ["ab34"]


def test_texts_no_file_can_hold_are_kept_as_well_as_can_be(log: KeptLog) -> None:
    """Half characters and NUL are replaced, and stop neither the log nor the answer."""
    thread = log.start(None, "m\udcff", "\0")
    answered(log, thread, "a\udcff\0b", "\ud800答")
    turn = log.thread(thread).turns[0]
    assert turn.question == "a?\N{REPLACEMENT CHARACTER}b" and turn.answer == "?答"
    assert len(log.search("b")) == 1


def test_a_full_disk_ends_the_log_and_not_the_answer(home: Path) -> None:
    """When the file cannot grow, writing goes on without an error; it is said once, and not in an answer's midst."""
    said: list[str] = []
    log = open_log(said=said.append)
    assert isinstance(log, KeptLog)
    thread = log.start(None, "m")
    turn = log.turn(thread, "第一问")
    pages = log.connection.execute("PRAGMA page_count").fetchone()[0]
    log.connection.execute(f"PRAGMA max_page_count = {pages}")
    turn.push("很长的回答" * 10_000)
    turn.end("很长的回答" * 10_000, "stop")
    assert said == [] and not log.on
    answered(log, thread, "第二问", "答")
    log.close()
    assert len(said) == 1 and "磁盘已满" in said[0]
    assert [t.question for t in open_kept().thread(thread).turns] == ["第一问"]


def test_a_place_that_cannot_be_written_is_said_once(home: Path) -> None:
    """No folder, no log: one line, and everything else as ever."""
    home.write_text("a file where the folder should be")
    said: list[str] = []
    log = open_log(said=said.append)
    answered(log, log.start(None, "m"), "q", "a")
    log.close()
    assert len(said) == 1 and "不再记录" in said[0]
    with pytest.raises(LogError):
        open_kept().thread()


def test_a_damaged_log_is_told(home: Path) -> None:
    """A file that is no database is never written to; answers go on, `logs` names it."""
    home.mkdir()
    (home / "log.db").write_bytes(b"not a database at all" * 100)
    said: list[str] = []
    assert not open_log(said=said.append).on and "不是数据库" in said[0]
    with pytest.raises(LogError) as caught:
        open_kept()
    assert caught.value.message == "log.damaged"
    assert (home / "log.db").read_bytes() == b"not a database at all" * 100


def test_an_older_log_becomes_a_newer_one(log: KeptLog, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version's step is added to a file that lacks it, what it holds stays; the older program leaves it alone."""
    thread = log.start(None, "m")
    answered(log, thread, "旧问题", "旧回答")
    with monkeypatch.context() as newer:
        newer.setattr(schema, "STEPS", (*schema.STEPS, "ALTER TABLE turns ADD COLUMN mark TEXT NOT NULL DEFAULT 'x'"))
        with open_log(said=pytest.fail) as later:
            assert isinstance(later, KeptLog)
            assert later.connection.execute("SELECT mark FROM turns").fetchone()[0] == "x"
            assert later.thread(thread).turns[0].answer == "旧回答"
            answered(later, thread, "新问题", "新回答")
    said: list[str] = []
    assert not open_log(said=said.append).on and "版本" in said[0]
    with pytest.raises(LogError) as caught:
        open_kept()
    assert caught.value.message == "log.version"


def test_a_step_that_fails_leaves_the_log_as_it_was(log: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is done whole or not at all."""
    step = "ALTER TABLE turns ADD COLUMN mark TEXT; INSERT INTO nowhere VALUES (1)"
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, step))
    said: list[str] = []
    assert not open_log(said=said.append).on and said
    columns = [row["name"] for row in log.connection.execute("PRAGMA table_info(turns)")]
    assert "mark" not in columns and log.connection.execute("PRAGMA user_version").fetchone()[0] == 1


def test_a_log_in_a_folder_that_may_not_be_written_is_read(home: Path, log: KeptLog, tmp_path: Path) -> None:
    """`logs` reads a log on a read-only disk."""
    thread = log.start(None, "m")
    answered(log, thread, "q", "a")
    log.close()
    with pytest.MonkeyPatch.context() as readonly:
        readonly.setattr(os, "access", lambda path, mode: False)
        assert open_kept().thread(thread).turns[0].answer == "a"
        assert len(open_kept().search("q")) == 1


def logged_picture(log: Log, asked: AskedPicture) -> str:
    thread = log.start(asked, "m")
    answered(log, thread, "q", "a")
    return thread


def test_a_picture_is_opened_again_and_checked(log: KeptLog, tmp_path: Path) -> None:
    """The same bytes open; changed or gone ones are refused, each in its own words."""
    file = tmp_path / "图 '1'.png"
    Image.new("RGB", (8, 6), "red").save(file)
    stored = log.thread(logged_picture(log, open_asked(str(file))))
    again = reopen(stored, pytest.fail)
    assert again is not None and again.picture.size == (8, 6)
    Image.new("RGB", (8, 6), "blue").save(file)
    with pytest.raises(PictureError) as caught:
        reopen(stored, pytest.fail)
    assert caught.value.message == "picture.changed"
    file.unlink()
    with pytest.raises(PictureError) as caught:
        reopen(stored, pytest.fail)
    assert caught.value.message == "picture.gone"
    assert reopen(log.thread(log.start(None, "m")), pytest.fail) is None


def test_a_piece_of_a_picture_is_opened_again_as_that_piece(log: KeptLog, picture: Path) -> None:
    """A dialogue about a part of a picture goes on about that part; the log knows the whole and the place."""
    piece = crop_asked(open_asked(str(picture)), "10,5,30,25")
    stored = log.thread(logged_picture(log, piece))
    assert (stored.picture_size, stored.picture_area, stored.picture_path) == ((60, 40), (10, 5, 30, 25), picture)
    again = reopen(stored, pytest.fail)
    assert again is not None and again.picture.size == (20, 20) and again.uncut.size == (60, 40)
    assert (again.area, again.sha256) == (piece.area, piece.sha256)


def test_a_stored_copy_takes_a_lost_picture_s_place(home: Path, tmp_path: Path) -> None:
    """With store_images the picture comes out of the log when it was changed or deleted, and that is said."""
    store_images()
    file = tmp_path / "照片.JPG"
    Image.new("RGB", (8, 6), "red").save(file)
    log = open_log(said=pytest.fail)
    asked = open_asked(str(file))
    threads = [logged_picture(log, asked), logged_picture(log, asked)]
    Image.new("RGB", (9, 9), "blue").save(file)
    said: list[str] = []
    for gone in (False, True):
        if gone:
            file.unlink()
        again = reopen(log.thread(threads[0]), said.append)
        assert again is not None and again.picture.size == (8, 6)
        assert (again.name, again.sha256) == ("照片.JPG", asked.sha256)
    assert "已被改动" in said[0] and "已不在" in said[1]
    copies = list((home / reading.COPIES).iterdir())
    assert len(copies) == 1 and stat.S_IMODE(copies[0].stat().st_mode) == 0o600
    assert isinstance(log, KeptLog)
    remove(log.connection, log.folder, threads[:1])
    assert copies[0].exists()
    remove(log.connection, log.folder, threads[1:])
    assert not copies[0].exists()


def test_a_picture_through_a_pipe_is_kept_or_named(home: Path, picture: Path) -> None:
    """What came through a pipe can be had again from a copy only."""
    pixels = open_asked(str(picture)).picture
    piped = AskedPicture(replace(pixels, path=None), "-", "ab" * 32)
    log = open_log()
    with pytest.raises(PictureError) as caught:
        reopen(log.thread(logged_picture(log, piped)), pytest.fail)
    assert caught.value.message == "picture.not_kept"
    store_images()
    log = open_log()
    again = reopen(log.thread(logged_picture(log, piped)), pytest.fail)
    assert again is not None and again.picture.image.tobytes() == pixels.image.tobytes()


def test_nothing_readable_stays_of_what_was_removed(log: KeptLog, home: Path) -> None:
    """After removal the words are in none of the log's files, not in the search index either."""
    kept, secret = log.start(None, "m"), log.start(None, "m", name="secretname")
    answered(log, kept, "keepthis", "a")
    answered(log, secret, "secretquestion", "secretanswer" * 50)
    assert len(log.search("secretquestion")) == 1
    remove(log.connection, log.folder, [secret])
    everything = b"".join(file.read_bytes() for file in home.iterdir() if file.is_file())
    assert b"keepthis" in everything
    assert b"secret" not in everything and b"secretquestion"[:3] + b"ret" not in everything
    assert [line.id for line in log.threads()] == [kept]


def test_ages_are_read_and_old_threads_found(log: KeptLog) -> None:
    """30d, 12h, 2w and the same in Chinese; only threads not used for so long are old."""
    ages = {"30d": 30 * 86400, "12h": 43200, "2w": 14 * 86400, "3天": 3 * 86400, "1周": 604800, " 5D ": 432000}
    assert {text: age_seconds(text) for text in ages} == ages
    assert [age_seconds(text) for text in ("", "30", "d", "-1d", "1.5d", "1y", "9999999d")] == [None] * 7
    old, new = log.start(None, "m"), log.start(None, "m")
    log.connection.execute("UPDATE threads SET used = used - 100 WHERE id = ?", (old,))
    assert older_than(log.connection, time.time() - 50) == [old] and new


def test_sqlite_without_trigrams_still_writes_and_deletes(log: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose SQLite lacks the index uses a file that has one; what it wrote is indexed later."""
    thread = log.start(None, "m")
    answered(log, thread, "第一个问题", "a")
    assert len(log.search("第一个")) == 1
    with monkeypatch.context() as poorer:
        poorer.setattr(reading, "has_index", lambda connection: False)
        poorer.setattr(reading, "_bring_index_up_to_date", lambda connection: False)
        answered(log, thread, "第二个问题", "b")
        assert len(log.search("第二个")) == 1
        log.drop_last(thread)
        answered(log, thread, "第三个问题", "c")
    assert [f.turn.question for f in log.search("个问题")] == ["第三个问题", "第一个问题"]


def test_a_file_in_use_costs_one_write_not_the_log(log: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that holds the file too long is waited for, then the next write is tried again."""
    turn = log.turn(log.start(None, "m"), "q")
    log.connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(log.folder / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    turn.push("一")
    other.execute("ROLLBACK")
    turn.end("一二", "stop")
    assert log.on and log.thread().turns[0].answer == "一二"


def test_the_usual_system_prompt_is_the_model_s() -> None:
    """What a list leaves out as usual is what the model gets where nobody chose anything."""
    assert USUAL_SYSTEM == DEFAULT_SYSTEM
