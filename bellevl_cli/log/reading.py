"""Reading the log: threads, turns, and the search for words in any language.

Words of three characters and more are looked up in an index of trigrams (FTS5), which knows no spaces and so finds
Chinese; shorter ones, and all of them where this SQLite has no such index, are looked for text by text. The index is
brought up to date when it is asked, so that writing an answer costs nothing for it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bellevl.errors import LogError
from bellevl.picture_files import nearest_name

from .records import Found, StoredThread, StoredTurn, ThreadLine

#: The folder of pictures' copies, inside the log's own.
COPIES = "pictures"

#: The shortest word that an index of trigrams can find.
TRIGRAM = 3

_LINES = """
    SELECT threads.*, count(turns.id) AS turns,
        (SELECT question FROM turns WHERE thread = threads.id AND NOT replaced ORDER BY id DESC LIMIT 1) AS question
    FROM threads LEFT JOIN turns ON turns.thread = threads.id AND NOT turns.replaced
"""


def threads(connection: sqlite3.Connection, n: int | None) -> tuple[ThreadLine, ...]:
    """The `n` threads used last, newest first."""
    rows = _rows(connection, f"{_LINES} GROUP BY threads.id ORDER BY used DESC, threads.rowid DESC LIMIT ?", _limit(n))
    return tuple(map(_line, rows))


def thread(connection: sqlite3.Connection, folder: Path, which: str | None) -> StoredThread:
    """By id, name, or the beginning of an id; None: the one used last. Raises LogError."""
    row = _thread_row(connection, which)
    turns = _rows(connection, "SELECT * FROM turns WHERE thread = ? AND NOT replaced ORDER BY id", row["id"])
    path, copy = row["picture_path"], row["stored_copy"]
    return StoredThread(
        id=row["id"],
        name=row["name"],
        picture_name=row["picture_name"],
        picture_path=None if path is None else Path(os.fsdecode(path)),
        picture_sha256=row["picture_sha256"],
        picture_size=None if row["picture_width"] is None else (row["picture_width"], row["picture_height"]),
        picture_area=None if row["picture_area"] is None else tuple(json.loads(row["picture_area"])),
        stored_copy=None if copy is None else folder / COPIES / Path(copy).name,
        model=row["model"],
        system=row["system"],
        created=row["created"],
        used=row["used"],
        turns=tuple(map(_turn, turns)),
    )


def _thread_row(connection: sqlite3.Connection, which: str | None) -> sqlite3.Row:
    if which is None:
        found = _rows(connection, "SELECT * FROM threads ORDER BY used DESC, rowid DESC LIMIT 1")
    else:
        which = which.strip()
        found = _rows(connection, "SELECT * FROM threads WHERE id = ?", which.lower())
        found = found or _rows(connection, "SELECT * FROM threads WHERE name = ?", which)
        found = found or _rows(connection, "SELECT * FROM threads WHERE id GLOB ?", f"{_hex(which.lower())}*")
    if not found:
        raise missing(which, [n for row in _rows(connection, "SELECT id, name FROM threads") for n in row if n])
    if len(found) > 1:
        raise LogError("log.ambiguous", id=which, ids=", ".join(row["id"] for row in found[:5]))
    return found[0]


def missing(which: str | None, names: Sequence[str]) -> LogError:
    """There is no such thread, or none at all."""
    if which is None:
        return LogError("log.empty")
    near = nearest_name(which, list(names))
    return LogError("log.missing", id=which, near=f" ({near}?)" if near else "")


def taken(name: str, id: str) -> LogError:
    """Another thread is called so."""
    return LogError("log.taken", name=name, id=id)


def search(connection: sqlite3.Connection, text: str, n: int | None) -> tuple[Found, ...]:
    """Turns whose question, answer, picture's name or thread's name together hold every word of `text`."""
    words = fold(text).split()
    if not words:
        return ()
    connection.create_function("folded", 1, fold, deterministic=True)
    indexed = any(len(word) >= TRIGRAM for word in words) and _bring_index_up_to_date(connection)
    conditions, values = [], []
    for word in words:
        by_index = indexed and len(word) >= TRIGRAM
        conditions.append(_BY_INDEX if by_index else _BY_TEXT)
        values += [_phrase(word) if by_index else word, word]
    statement = f"{_TURNS} AND {' AND '.join(conditions)} ORDER BY turns.id DESC LIMIT ?"
    found = _rows(connection, statement, *values, _limit(n))
    return tuple(Found(_line_of(connection, row["thread"]), _turn(row)) for row in found)


_TURNS = "SELECT turns.* FROM turns JOIN threads ON threads.id = turns.thread WHERE NOT replaced"

#: The thread's own words, which change and are few, are never in the index.
_OF_THREAD = "instr(folded(coalesce(threads.name, '') || char(10) || coalesce(threads.picture_name, '')), ?)"
_BY_INDEX = " ".join(("(turns.id IN (SELECT rowid FROM words WHERE words MATCH ?) OR", _OF_THREAD, ")"))
_BY_TEXT = f"(instr(folded(turns.question || char(10) || turns.answer), ?) OR {_OF_THREAD})"


def fold(text: str) -> str:
    """What is the same for a search: upper and lower case, full and half width, one character or its parts."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text or "").casefold())


def _phrase(word: str) -> str:
    """A word as FTS5 takes it, whatever signs are in it."""
    quoted = word.replace('"', '""')
    return f'"{quoted}"'


def _bring_index_up_to_date(connection: sqlite3.Connection) -> bool:
    """Indexes turns that are new or changed; False where this SQLite has no trigrams or the file cannot be written."""
    try:
        connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(body, tokenize = 'trigram')")
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error:
        return False
    try:
        for row in connection.execute("SELECT id, question, answer FROM turns WHERE indexed = 0").fetchall():
            connection.execute("DELETE FROM words WHERE rowid = ?", (row["id"],))
            body = fold(f"{row['question']}\n{row['answer']}")
            connection.execute("INSERT INTO words (rowid, body) VALUES (?, ?)", (row["id"], body))
            connection.execute("UPDATE turns SET indexed = 1 WHERE id = ?", (row["id"],))
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        return False
    return True


def has_index(connection: sqlite3.Connection) -> bool:
    """Whether there is an index and this SQLite can read it."""
    try:
        connection.execute("SELECT rowid FROM words LIMIT 1")
    except sqlite3.Error:
        return False
    return True


def _line_of(connection: sqlite3.Connection, id: str) -> ThreadLine:
    return _line(_rows(connection, f"{_LINES} WHERE threads.id = ? GROUP BY threads.id", id)[0])


def _line(row: sqlite3.Row) -> ThreadLine:
    return ThreadLine(
        id=row["id"],
        name=row["name"],
        picture_name=row["picture_name"],
        model=row["model"],
        created=row["created"],
        used=row["used"],
        turns=row["turns"],
        question=row["question"] or "",
    )


def _turn(row: sqlite3.Row) -> StoredTurn:
    return StoredTurn(
        question=row["question"],
        answer=row["answer"],
        finish_reason=row["finish_reason"],
        asked=row["asked"],
        params=json.loads(row["params"]),
        usage=json.loads(row["usage"]),
        timings=json.loads(row["timings"]),
        boxes=tuple(json.loads(row["boxes"])),
    )


def _hex(text: str) -> str:
    """The beginning of an id; what cannot be one finds nothing."""
    return text if text and not set(text) - set("0123456789abcdef") else "-"


def _limit(n: int | None) -> int:
    return -1 if n is None else n


def _rows(connection: sqlite3.Connection, statement: str, *values: Any) -> list[sqlite3.Row]:
    """Raises LogError for a file that is damaged."""
    try:
        return connection.execute(statement, values).fetchall()
    except sqlite3.Error as error:
        raise LogError("log.damaged", path=_path(connection), reason=str(error)) from error


def _path(connection: sqlite3.Connection) -> str:
    try:
        return str(connection.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.Error:
        return "log.db"
