"""`bellevl logs`: what is logged, for a person and as JSON. Loads no model."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import asdict
from typing import Any

from bellevl.grounding import read_grounding

from .. import guard
from ..exits import UsageError
from ..screen.clean import clean, clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..settings import config_value, switched_on
from ..words import say
from . import LOG_NAME, open_kept, switch, switched_off
from .reading import fold
from .records import Found, StoredThread, StoredTurn, ThreadLine
from .schema import data_folder
from .store import KeptLog

#: How many are listed where nothing is said.
DEFAULT_NUMBER = 20

#: Characters of an answer around a word that was found, on each side.
AROUND = 30


def run_list(words: str | None, number: int | None, as_json: bool, renderer: Renderer | None = None) -> None:
    """Threads, or the turns with `words`. Raises LogError."""
    guard.install()
    renderer = renderer or Renderer()
    number = DEFAULT_NUMBER if number is None else number
    if number < 1:
        raise UsageError(say("logs.number", value=number))
    with open_kept() as log:
        found = [] if words is None else log.search(typed_text(words), number + 1)
        threads = log.threads(number + 1) if words is None else []
    records: list[dict[str, Any]] = [*map(_found_record, found), *map(_line_record, threads)]
    if as_json:
        renderer.line(json_line(records[:number]))
        return
    if words is None:
        _say_state(renderer)
    _show_threads(threads[:number], renderer)
    for turn in found[:number]:
        _show_found(turn, typed_text(words or ""), renderer)
    if len(records) > number:
        renderer.say("logs.more", n=number)
    if words is not None and not found:
        renderer.say("logs.none_found", words=clean_line(typed_text(words)))
    elif not records:
        renderer.say("logs.none")


def run_show(which: str | None, as_json: bool, renderer: Renderer | None = None) -> None:
    """One thread, whole. Raises LogError."""
    guard.install()
    renderer = renderer or Renderer()
    with open_kept() as log:
        thread = log.thread(None if which is None else typed_text(which))
    if as_json:
        renderer.line(json_line(thread_record(thread)))
        return
    for line in table_lines(_head(thread)):
        renderer.line(line)
    for turn in thread.turns:
        _show_turn(turn, renderer)


def run_remove(names: list[str], renderer: Renderer | None = None) -> None:
    """Removes threads; where one of `names` is none, nothing is removed. Raises LogError."""
    from .removing import remove

    guard.install()
    with open_kept() as log:
        ids = list(dict.fromkeys(log.thread(typed_text(name)).id for name in names))
        assert isinstance(log, KeptLog)
        remove(log.connection, log.folder, ids)
    (renderer or Renderer()).say("logs.removed", n=len(ids))


def run_prune(age: str, yes: bool, renderer: Renderer | None = None) -> None:
    """Removes threads not used for `age`, after asking. Raises LogError, UsageError."""
    from .removing import age_seconds, older_than, remove

    guard.install()
    renderer = renderer or Renderer()
    seconds = age_seconds(typed_text(age))
    if seconds is None:
        raise UsageError(say("logs.age", value=clean_line(typed_text(age))))
    with open_kept() as log:
        ids = older_than(log.connection, time.time() - seconds) if isinstance(log, KeptLog) else []
        if not ids or not isinstance(log, KeptLog):
            renderer.say("logs.nothing_older", age=age)
        elif yes or _confirmed(len(ids), age):
            remove(log.connection, log.folder, ids)
            renderer.say("logs.removed", n=len(ids))
        else:
            renderer.say("logs.kept")


def run_switch(on: bool, renderer: Renderer | None = None) -> None:
    """`logs on` and `logs off`. Raises OSError."""
    guard.install()
    switch(on)
    _say_state(renderer or Renderer())


def _confirmed(count: int, age: str) -> bool:
    """Asks at the terminal; elsewhere nobody could answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(say("logs.prune_yes", n=count))
    sys.stderr.write(say("logs.prune_ask", n=count, age=age))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是", "好", "ｙ")


def _say_state(renderer: Renderer) -> None:
    """Whether the log is on, where it is, and what keeps it off all the same."""
    off, path = switched_off(), clean_line(typed_text(str(data_folder() / LOG_NAME)))
    renderer.say("logs.is_off" if off else "logs.is_on", path=path)
    if not off and switched_on("BELLEVL_NO_LOG"):
        renderer.say("logs.variable")
    elif not off and not config_value("log"):
        renderer.say("logs.config")


def _show_threads(threads: Any, renderer: Renderer) -> None:
    rows = [(t.id, _when(t.used), _titled(t), say("logs.turns", n=t.turns), clean_line(t.question)) for t in threads]
    for line in table_lines(rows):
        renderer.line(_fitting(line, renderer))


def _show_found(found: Found, words: str, renderer: Renderer) -> None:
    """Where it stands, the question, and the answer around the first word that is in it."""
    turn = found.turn
    line = "  ".join((found.thread.id, _when(turn.asked), _titled(found.thread), clean_line(turn.question)))
    renderer.line(_fitting(line, renderer))
    mark = say("logs.answer_mark")
    renderer.line(f"    {mark}: {snippet(read_grounding(turn.answer).text, words)}")


def snippet(text: str, words: str) -> str:
    """One line of `text` around the first of `words` that is in it, else its beginning."""
    line = clean_line(text)
    at = next((i for word in fold(words).split() if (i := fold(line).find(word)) >= 0), 0)
    start, end = max(0, at - AROUND), at + 2 * AROUND
    return f"{'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"


def _head(thread: StoredThread) -> list[tuple[str, str]]:
    rows = [(say("logs.dialogue"), f"{thread.id} {clean_line(thread.name or '')}".strip())]
    if thread.has_picture:
        width, height = thread.picture_size or (0, 0)
        path = "" if thread.picture_path is None else f"  {clean_line(typed_text(str(thread.picture_path)))}"
        rows.append((say("logs.picture"), f"{clean_line(thread.picture_name or '-')} {width}×{height}{path}"))
    rows.append((say("logs.model"), clean_line(thread.model)))
    if thread.own_system:
        rows.append((say("logs.system"), clean_line(thread.own_system)))
    return [*rows, (say("logs.begun"), time.strftime("%Y-%m-%d %H:%M", time.localtime(thread.created)))]


def _show_turn(turn: StoredTurn, renderer: Renderer) -> None:
    renderer.line("")
    asked, answered = say("logs.question_mark"), say("logs.answer_mark")
    renderer.line(f"{asked}: {clean(turn.question)}")
    renderer.line(f"{answered}: {clean(read_grounding(turn.answer).text)}")
    if ending := how_it_ended(turn):
        renderer.line(f"   {ending}")


def how_it_ended(turn: StoredTurn) -> str:
    """What is said behind an answer that is not whole; "" behind one that is."""
    ends = {"stop": "", "length": say("logs.length"), "interrupted": say("logs.interrupted")}
    return ends.get(turn.finish_reason or "", say("logs.unfinished"))


def thread_record(thread: StoredThread) -> dict[str, Any]:
    """What `logs show --json` prints. Keys stay as they are; new ones may come."""
    return {
        "id": thread.id,
        "name": thread.name,
        "image": _image_record(thread),
        "model": thread.model,
        "system": thread.system,
        "created": thread.created,
        "used": thread.used,
        "turns": [{**asdict(turn), "boxes": list(turn.boxes)} for turn in thread.turns],
    }


def _image_record(thread: StoredThread) -> dict[str, Any] | None:
    if not thread.has_picture:
        return None
    paths = (thread.picture_path, thread.stored_copy)
    path, copy = (None if p is None else typed_text(str(p)) for p in paths)
    size = None if thread.picture_size is None else list(thread.picture_size)
    return {
        "name": thread.picture_name,
        "path": path,
        "sha256": thread.picture_sha256,
        "size": size,
        "area": None if thread.picture_area is None else list(thread.picture_area),
        "stored_copy": copy,
    }


def _line_record(line: ThreadLine) -> dict[str, Any]:
    return asdict(line)


def _found_record(found: Found) -> dict[str, Any]:
    return {
        **asdict(found.thread),
        "asked": found.turn.asked,
        "question": found.turn.question,
        "answer": found.turn.answer,
    }


def _titled(line: ThreadLine) -> str:
    """A thread's name and picture, as a list shows them."""
    picture = clean_line(line.picture_name) if line.picture_name else say("logs.no_picture")
    return f"{clean_line(line.name)} · {picture}" if line.name else picture


def _when(seconds: float) -> str:
    """The local time: of today the hour, of this year the day, too."""
    then, now = time.localtime(seconds), time.localtime()
    if then[:3] == now[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%m-%d %H:%M" if then[0] == now[0] else "%Y-%m-%d", then)


def _fitting(line: str, renderer: Renderer) -> str:
    """A line of a list as wide as the terminal at most; whole where it goes to a file."""
    if not renderer.out.isatty() or os.environ.get("TERM") == "dumb":
        return line
    from rich.cells import cell_len, set_cell_size

    columns = shutil.get_terminal_size().columns - 1
    return line if cell_len(line) <= columns else set_cell_size(line, columns - 1).rstrip() + "…"
