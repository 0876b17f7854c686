"""The results of a batch, one JSON object a line: written at once, read again by the next run of the same command.

A line is finished when it has no "error". Its key is the digest of all that decides an answer: the picture's bytes,
the question, the model and its settings. Knows no model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bellevl.errors import PictureError

from ..exits import UsageError
from ..screen.clean import json_line
from ..words import say
from .target import shown

Record = dict[str, Any]


def key_of(**facts: Any) -> str:
    """The digest of all that an answer depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """As `AskedPicture.sha256`, without decoding the picture. Raises PictureError."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise PictureError("picture.unreadable", path=path, reason=error.strerror or error) from error
    return digest.hexdigest()


class Ledger:
    """Results so far, and where further ones go. Without a file they are written to `out` and forgotten."""

    def __init__(self, path: Path | None, out: IO[str] | None = None) -> None:
        """Raises UsageError for a file that holds something else or that another process writes."""
        self.path = path
        self._out = out
        self._file = None if path is None else _open(path)
        self._done: dict[tuple[str, str], Record] = {}
        self._same: dict[str, Record] = {}
        self._latest: dict[str, Record] = {}
        for record in self._read():
            self._note(record)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def find(self, key: str, path: str) -> Record | None:
        """The finished answer to this question about this picture."""
        return self._done.get((key, path))

    def same(self, key: str) -> Record | None:
        """A finished answer about a picture of the same bytes."""
        return self._same.get(key)

    def append(self, record: Record) -> None:
        """Writes a line, whole, at once. An error that stands there already is not written again."""
        path = _path(record)
        if "error" in record and self._latest.get(path, {}).get("error") == record["error"]:
            return
        self._note(record)
        line = json_line(record) + "\n"
        if self._file is not None:
            self._file.write(line.encode("utf-8", "backslashreplace"))
            self._file.flush()
        elif self._out is not None:
            self._out.write(line)
            self._out.flush()

    def latest(self) -> list[Record]:
        """For each picture what was said last, in the order in which they came."""
        return list(self._latest.values())

    def _note(self, record: Record) -> None:
        path, key = _path(record), record.get("key")
        self._latest.pop(path, None)
        self._latest[path] = record
        if "error" not in record and isinstance(key, str):
            self._done[key, path] = record
            self._same.setdefault(key, record)

    def _read(self) -> Iterator[Record]:
        if self._file is None:
            return
        self._file.seek(0)
        end = 0
        for raw in self._file:
            record = _record(raw)
            if record is None and raw.endswith(b"\n"):
                raise UsageError(say("batch.not_ours", path=shown(self.path or Path())))
            if record is None:  # the program was killed in the midst of this line
                self._file.truncate(end)
                break
            end += len(raw)
            if not raw.endswith(b"\n"):
                self._file.write(b"\n")
            yield record
        self._file.seek(0, os.SEEK_END)


def _open(path: Path) -> IO[bytes]:
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(say("ask.no_place", path=shown(path)))
    file = open(path, "a+b")  # noqa: SIM115 - open until the batch ends
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on this system
        pass
    except OSError as error:
        file.close()
        raise UsageError(say("batch.busy", path=shown(path))) from error
    return file


def _record(raw: bytes) -> Record | None:
    """A line of a batch; None for anything else."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "key" in value and "image" in value else None


def _path(record: Record) -> str:
    image = record.get("image")
    return str(image.get("path")) if isinstance(image, dict) else ""
