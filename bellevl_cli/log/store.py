"""The log of dialogues: every question is in the file before the model runs, its answer while it is written.

Writing never fails for the caller: a full disk or a folder that may not be written ends the log, not the answer, and
is said once, before the next answer or at the end, never in the midst of one. Reading raises LogError.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import reading
from .records import Found, StoredThread, StoredTurn, ThreadLine

if TYPE_CHECKING:
    from ..pictures.asked import AskedPicture

#: Text of an answer is written at most this often; more than this is not lost when the program is killed.
FLUSH_SECONDS = 1.0

#: What ends a log and not an answer.
TROUBLES = (sqlite3.Error, OSError, ValueError)

Said = Callable[[str], object]


class LoggedTurn:
    """One question in the log, and its answer as it comes. Left without `end`, it was interrupted."""

    def __init__(self, log: Log, row: int | None) -> None:
        self._log, self._row = log, row
        self._text, self._written = "", 0.0
        self._ended = False

    def __enter__(self) -> LoggedTurn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            self.end(self._text, "interrupted")

    def push(self, text: str) -> None:
        """The answer as far as it came, with its markup; written at most once a second."""
        self._text = text
        now = time.monotonic()
        if self._row is not None and now - self._written >= FLUSH_SECONDS:
            self._written = now
            self._log._run("UPDATE turns SET answer = ?, indexed = 0 WHERE id = ?", _text(text), self._row)

    def end(
        self,
        text: str,
        finish_reason: str | None,
        usage: Mapping[str, Any] | None = None,
        timings: Mapping[str, Any] | None = None,
        boxes: Iterable[Any] = (),
    ) -> None:
        """The whole answer, why it ended and what it took."""
        self._ended, self._text = True, text
        if self._row is None:
            return
        self._log._run(
            "UPDATE turns SET answer = ?, finish_reason = ?, usage = ?, timings = ?, boxes = ?, indexed = 0"
            " WHERE id = ?",
            _text(text), finish_reason, _json(usage or {}), _json(timings or {}), _json(list(boxes)), self._row,
        )  # fmt: skip


class Log:
    """A log that keeps nothing: `KeptLog` is the one that does. Ids and handles are given out all the same."""

    def __init__(self, said: Said | None = None) -> None:
        self._said = said
        self._trouble: str | None = None
        self._replacing: set[str] = set()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return False

    def start(
        self, picture: AskedPicture | None, model: str, system: str | None = None, name: str | None = None
    ) -> str:
        """A new thread; its id."""
        return secrets.token_hex(2)

    def turn(
        self, thread: str, question: str, params: Mapping[str, Any] | None = None, boxes: Iterable[Any] = ()
    ) -> LoggedTurn:
        """A question, written before the model is asked."""
        return LoggedTurn(self, None)

    def continue_last(self, thread: str) -> LoggedTurn:
        """The last turn once more: its answer goes on. What is pushed is the whole answer."""
        return LoggedTurn(self, None)

    def replace_last(self, thread: str) -> None:
        """The next turn of `thread` takes the last one's place (/retry). The old answer stays in the file."""

    def drop_last(self, thread: str) -> None:
        """The last turn was never asked (/undo)."""

    def name(self, thread: str, name: str) -> None:
        """Gives `thread` a name. Raises LogError for one that another thread has."""

    def thread(self, which: str | None = None) -> StoredThread:
        """By id, the beginning of an id, or name; None: the one used last. Raises LogError."""
        raise reading.missing(which, [])

    def threads(self, n: int | None = None) -> tuple[ThreadLine, ...]:
        """The `n` threads used last, newest first."""
        return ()

    def search(self, text: str, n: int | None = None) -> tuple[Found, ...]:
        """Turns that hold every word of `text`, newest first. Any language, any case, words of one character too."""
        return ()

    def close(self) -> None:
        """Ends the log; says what kept it from writing, if anything did and it was not said yet."""
        self._tell()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, statement: str, *values: Any) -> int | None:
        """Writes; the row that was added. None where nothing can be written."""
        return None

    def _tell(self) -> None:
        trouble, self._trouble = self._trouble, None
        if trouble and self._said is not None:
            self._said(trouble)


class KeptLog(Log):
    """The log in a file."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Path,
        said: Said | None = None,
        lost: Callable[[BaseException], str] = str,
        keep_picture: Callable[[AskedPicture], Path | None] | None = None,
    ) -> None:
        """`lost` makes a sentence of what kept the log from writing, `keep_picture` a copy of a picture."""
        super().__init__(said)
        self.connection = connection
        self.folder = folder
        self._lost = lost
        self._keep_picture = keep_picture
        self._failed = False

    @property
    def on(self) -> bool:
        return not self._failed

    def start(
        self, picture: AskedPicture | None, model: str, system: str | None = None, name: str | None = None
    ) -> str:
        self._tell()
        now = time.time()
        copy = self._copy(picture)
        values = (
            *_picture_columns(picture),
            None if copy is None else copy.name,
            _text(model),
            _text(system),
            now,
            now,
        )
        for length in range(2, 9):  # two bytes are enough for most people; a taken id makes the next one longer
            id = secrets.token_hex(length)
            row = self._run(
                "INSERT OR IGNORE INTO threads (id, picture_name, picture_path, picture_sha256, picture_width,"
                " picture_height, picture_area, stored_copy, model, system, created, used)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                id, *values,
            )  # fmt: skip
            if row is None or self.connection.execute("SELECT changes()").fetchone()[0]:
                break
        if name is not None:
            self.name(id, name)
        return id

    def turn(
        self, thread: str, question: str, params: Mapping[str, Any] | None = None, boxes: Iterable[Any] = ()
    ) -> LoggedTurn:
        self._tell()
        now = time.time()
        replaced = self._last(thread) if thread in self._replacing else None
        row = self._together(
            ("UPDATE turns SET replaced = 1 WHERE id = ?", (replaced,)),
            ("UPDATE threads SET used = ? WHERE id = ?", (now, thread)),
            (
                "INSERT INTO turns (thread, asked, question, params, boxes) VALUES (?, ?, ?, ?, ?)",
                (thread, now, _text(question), _json(params or {}), _json(list(boxes))),
            ),
        )
        self._replacing.discard(thread)
        return LoggedTurn(self, row)

    def continue_last(self, thread: str) -> LoggedTurn:
        self._tell()
        return LoggedTurn(self, self._last(thread))

    def replace_last(self, thread: str) -> None:
        self._replacing.add(thread)

    def drop_last(self, thread: str) -> None:
        if (row := self._last(thread)) is not None:
            if reading.has_index(self.connection):
                self._run("DELETE FROM words WHERE rowid = ?", row)
            self._run("DELETE FROM turns WHERE id = ?", row)

    def name(self, thread: str, name: str) -> None:
        taken = self._value("SELECT id FROM threads WHERE name = ?", _text(name))
        if taken not in (None, thread):
            raise reading.taken(name, str(taken))
        self._run("UPDATE threads SET name = ? WHERE id = ?", _text(name), thread)

    def thread(self, which: str | None = None) -> StoredThread:
        return reading.thread(self.connection, self.folder, which)

    def threads(self, n: int | None = None) -> tuple[ThreadLine, ...]:
        return reading.threads(self.connection, n)

    def search(self, text: str, n: int | None = None) -> tuple[Found, ...]:
        return reading.search(self.connection, text, n)

    def close(self) -> None:
        self.connection.close()
        self._failed = True
        super().close()

    def _copy(self, picture: AskedPicture | None) -> Path | None:
        """A copy of the picture, where copies are kept. That it cannot be made keeps nothing else from the log."""
        if picture is None or self._keep_picture is None:
            return None
        try:
            return self._keep_picture(picture)
        except TROUBLES as error:
            self._trouble = self._lost(error)
            return None

    def _last(self, thread: str) -> int | None:
        row = self._value("SELECT max(id) FROM turns WHERE thread = ? AND NOT replaced", thread)
        return None if row is None else int(row)

    def _value(self, statement: str, *values: Any) -> Any:
        """One value; None where there is none, or no log."""
        if self._failed:
            return None
        try:
            found = self.connection.execute(statement, values).fetchone()
        except TROUBLES as error:
            self._fail(error)
            return None
        return None if found is None else found[0]

    def _run(self, statement: str, *values: Any) -> int | None:
        return self._together((statement, values))

    def _together(self, *statements: tuple[str, tuple[Any, ...]]) -> int | None:
        """All of the statements or none; the row that the last one added."""
        if self._failed:
            return None
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in statements:
                    cursor = self.connection.execute(statement, values)
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            return cursor.lastrowid
        except TROUBLES as error:
            self._fail(error)
            return None

    def _fail(self, error: BaseException) -> None:
        """A terminal that holds the file too long costs one write; anything else ends the log."""
        self._failed = "locked" not in str(error)
        if self._failed and self._trouble is None:
            self._trouble = self._lost(error)


def _picture_columns(picture: AskedPicture | None) -> tuple[Any, ...]:
    """Name, path (bytes: a name need not be text), digest, width, height, and the piece that is asked about."""
    if picture is None:
        return (None,) * 6
    path = picture.uncut.path
    raw = None if path is None else os.fsencode(os.path.abspath(path))
    area = None if picture.area is None else _json(list(picture.area))
    return (_text(picture.name), raw, picture.sha256, *picture.uncut.size, area)


def _text(text: str | None) -> str | None:
    """Text as the file can hold it: no half characters, no NUL, which would end it for SQLite's functions."""
    if text is None:
        return None
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=str)


__all__ = ["FLUSH_SECONDS", "Found", "KeptLog", "Log", "LoggedTurn", "StoredThread", "StoredTurn", "ThreadLine"]
