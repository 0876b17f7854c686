"""The log's file: where it is, its tables, and how an older one becomes a newer one.

Version N is reached by the first N of `STEPS`; the file itself says which one it has (PRAGMA user_version). Knows SQL
and files, nothing of pictures or answers.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path

from bellevl.errors import LogError

from ..settings import PROGRAM, private_file

#: Seconds that one terminal waits for another's write to end.
BUSY_SECONDS = 3.0

#: What each version adds to the one before. A released step is never changed.
STEPS: tuple[str, ...] = (
    """
    CREATE TABLE threads (
        id TEXT PRIMARY KEY,
        name TEXT UNIQUE,
        picture_name TEXT, picture_path BLOB, picture_sha256 TEXT, picture_width INTEGER, picture_height INTEGER,
        picture_area TEXT, stored_copy TEXT,
        model TEXT NOT NULL, system TEXT,
        created REAL NOT NULL, used REAL NOT NULL
    );
    CREATE INDEX threads_used ON threads (used);
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        thread TEXT NOT NULL REFERENCES threads (id) ON DELETE CASCADE,
        replaced INTEGER NOT NULL DEFAULT 0,
        asked REAL NOT NULL,
        question TEXT NOT NULL,
        answer TEXT NOT NULL DEFAULT '',
        finish_reason TEXT,
        params TEXT NOT NULL DEFAULT '{}', usage TEXT NOT NULL DEFAULT '{}', timings TEXT NOT NULL DEFAULT '{}',
        boxes TEXT NOT NULL DEFAULT '[]',
        indexed INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX turns_thread ON turns (thread);
    CREATE INDEX turns_not_indexed ON turns (id) WHERE indexed = 0;
    """,
)


def data_folder() -> Path:
    """Where the log is, whether it exists or not. Raises OSError where there is no place for it."""
    from platformdirs import user_data_path

    try:
        folder = user_data_path(PROGRAM, appauthor=False)
    except RuntimeError:  # neither a home nor XDG_DATA_HOME says where
        folder = Path("~")
    if not folder.is_absolute():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    return folder


def make_data_folder() -> Path:
    """The folder, made for this user alone. Raises OSError."""
    folder = data_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def connect(path: Path) -> sqlite3.Connection:
    """The log in `path`, made or brought up to date.

    Raises LogError for a file that a newer program wrote, sqlite3.Error and OSError for one that cannot be used.
    """
    if not path.exists():
        private_file(path)
    connection = _open(str(path))
    try:
        _settle(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """As `connect`; a file in a folder that may not be written is read as it is."""
    try:
        if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
            path.chmod(0o600)
            return connect(path)
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
    connection = _open(f"{path.resolve().as_uri()}?immutable=1")
    version = _version(connection)
    if version != len(STEPS):  # older tables are brought up to date by the next answer that is logged
        connection.close()
        raise LogError("log.version", path=path, found=version, known=len(STEPS))
    return connection


def _open(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=name.startswith("file:")
    )
    connection.row_factory = sqlite3.Row
    return connection


def _settle(connection: sqlite3.Connection, path: Path) -> None:
    """Several readers beside a writer (WAL), no words left behind where something was deleted, tables up to date."""
    _with_patience(connection, "PRAGMA journal_mode = WAL")
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")
    version = _version(connection)
    if version > len(STEPS):
        raise LogError("log.version", path=path, found=version, known=len(STEPS))
    if version < len(STEPS):
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    """The steps that are missing, all or none. Another terminal may have been faster: the version is read again."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[_version(connection) :]:
            for statement in filter(str.strip, step.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _with_patience(connection: sqlite3.Connection, statement: str) -> None:
    """Changing to WAL needs the file alone, and SQLite does not wait for that by itself."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.02)
