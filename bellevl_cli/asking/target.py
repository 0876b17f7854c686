"""`-o FILE`: the whole output or nothing. What stood in the file stays until the new text is complete.

A pipe or a device (`-o /dev/stderr`) cannot be replaced and is written to as it is.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TextIO

from ..exits import UsageError
from ..screen.clean import clean_line, typed_text
from ..words import say


class Target:
    """A file that is there when `commit` was called, and as it was before otherwise."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError for a folder or a place without one, OSError where nothing may be written."""
        self.path = Path(os.path.realpath(path.expanduser()))
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise UsageError(say("ask.no_place", path=shown(path)))
        self._special = self.path.exists() and not self.path.is_file()
        self._temporary: Path | None = None
        self.stream: TextIO = self._open()

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    @property
    def written(self) -> bool:
        """Whether anything was."""
        return self._special or self.stream.tell() > 0

    def commit(self) -> None:
        """All of it is written: the file takes its place, with the permissions that the old one had."""
        self.stream.flush()
        if self._temporary is None:
            return
        os.fsync(self.stream.fileno())
        mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o666 & ~_umask()
        self._temporary.chmod(mode)
        os.replace(self._temporary, self.path)
        self._temporary = None

    def _open(self) -> TextIO:
        if self._special:
            return open(self.path, "w", encoding="utf-8", errors="backslashreplace")
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name[:40]}.", suffix=".part")
        self._temporary = Path(name)
        return open(handle, "w", encoding="utf-8", errors="backslashreplace")


def write_whole(path: Path, text: str) -> None:
    """`text` into a file, all or nothing."""
    with Target(path) as target:
        target.stream.write(text)
        target.commit()


def shown(path: Path) -> str:
    return clean_line(typed_text(str(path)))


def _umask() -> int:
    """The mask of new files. It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
