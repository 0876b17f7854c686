"""The picture of a command line: a file or stdin, and what JSON says about it. Knows no model."""

from __future__ import annotations

import hashlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bellevl.errors import PictureError
from bellevl.image import LONGEST_STREAM, Picture, open_picture
from bellevl.picture_files import QUOTES, find_picture, name_readings

from .clean import clean_line, typed_text

STDIN = "-"


@dataclass(frozen=True)
class AskedPicture:
    """A picture, how it was named, and the digest of its bytes."""

    picture: Picture
    name: str
    sha256: str


def open_asked(argument: str) -> AskedPicture:
    """The picture that the command line names; "-" is stdin. Raises PictureError."""
    if argument == STDIN:
        return _open_bytes(sys.stdin.buffer, STDIN)
    path = find_picture(argument)
    if path.is_fifo():  # a pipe can be read once
        with path.open("rb") as pipe:
            return _open_bytes(pipe, shown_name(path))
    return AskedPicture(open_picture(path), shown_name(path), _digest(path))


def shown_name(path: Path) -> str:
    """A file's name as it can be shown."""
    return clean_line(typed_text(path.name))


def split_picture(argument: str) -> tuple[str, str]:
    """ "PATH question" -> (path, question): the longest beginning that is a file, else the first word.

    A path with spaces needs no quotes when the file is there; quotes are understood either way.
    """
    argument = argument.strip()
    if quoted := _quoted(argument):
        return quoted
    ends = [at for at, c in enumerate(argument) if c.isspace()] + [len(argument)]
    for end in reversed(ends):
        if is_picture_path(argument[:end]):
            return argument[:end], argument[end:].strip()
    first = next((end for end in ends if argument[end - 1 : end] != "\\"), len(argument))
    return argument[:first], argument[first:].strip()


def is_picture_path(text: str) -> bool:
    """Whether `text`, as typed or dropped, names an existing file."""
    if not text.strip() or "\n" in text or len(text) > 4096:
        return False
    try:
        return any(path.is_file() for path in name_readings(text))
    except (OSError, ValueError):
        return False


def _quoted(text: str) -> tuple[str, str] | None:
    """A path in quotes and what follows it."""
    close = QUOTES.get(text[:1])
    end = text.find(close, 1) if close else -1
    return (text[: end + 1], text[end + 1 :].strip()) if end > 1 else None


def _open_bytes(stream: BinaryIO, name: str) -> AskedPicture:
    data = stream.read(LONGEST_STREAM + 1)
    return AskedPicture(open_picture(io.BytesIO(data)), name, hashlib.sha256(data).hexdigest())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise PictureError("picture.unreadable", path=path, reason=error.strerror or error) from error
    return digest.hexdigest()
