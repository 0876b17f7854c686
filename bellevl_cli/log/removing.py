"""Removing dialogues for good: rows, words of the index, copies of pictures. Nothing readable stays in the file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from bellevl.errors import LogError

from .copies import drop_drawn, drop_unused
from .reading import has_index

_AGE = re.compile(r"(\d{1,6})\s*(h|d|w|小时|天|日|周)")
_SECONDS = {"h": 3600, "小时": 3600, "d": 86400, "天": 86400, "日": 86400, "w": 604800, "周": 604800}


def age_seconds(text: str) -> float | None:
    """ "30d", "12h", "2w" or the same in Chinese, as seconds; None for anything else."""
    found = _AGE.fullmatch(text.strip().lower())
    return None if found is None else float(int(found[1]) * _SECONDS[found[2]])


def older_than(connection: sqlite3.Connection, moment: float) -> list[str]:
    """Ids of threads not used since `moment` (seconds since 1970)."""
    return [row["id"] for row in connection.execute("SELECT id FROM threads WHERE used < ? ORDER BY used", (moment,))]


def remove(connection: sqlite3.Connection, folder: Path, ids: Sequence[str]) -> None:
    """Removes the threads `ids`, all or none. Raises LogError where the file cannot be written."""
    try:
        indexed = has_index(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for id in ids:
                _remove_one(connection, id, indexed)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        _sweep(connection, indexed)
        used = connection.execute("SELECT stored_copy FROM threads WHERE stored_copy IS NOT NULL").fetchall()
        drop_unused(folder, [row[0] for row in used])
        drop_drawn(folder, ids)
    except sqlite3.Error as error:
        raise LogError("log.damaged", path=folder, reason=str(error)) from error


def _remove_one(connection: sqlite3.Connection, id: str, indexed: bool) -> None:
    if indexed:
        connection.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM turns WHERE thread = ?)", (id,))
    connection.execute("DELETE FROM turns WHERE thread = ?", (id,))
    connection.execute("DELETE FROM threads WHERE id = ?", (id,))


def _sweep(connection: sqlite3.Connection, indexed: bool) -> None:
    """Old words leave the index's segments and the write-ahead file; another terminal may put the latter off."""
    if indexed:
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
