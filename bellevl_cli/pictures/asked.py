"""The picture of a command line: a file or stdin, and what JSON says about it. Knows no model."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bellevl.errors import PictureError
from bellevl.image import LONGEST_STREAM, Opening, Picture, open_picture
from bellevl.picture_files import QUOTES, find_picture, name_readings

from ..screen.clean import clean_line, typed_text
from ..settings import config_value
from .boxes import Area

STDIN = "-"

_URL = re.compile(r"\s*[\"']?(https?|ftp)://", re.IGNORECASE)

#: Characters of a path; longer text is none.
LONGEST_NAME = 4096

#: Endings by which a name is taken for a picture's. What opens is told by content; this is for names alone.
PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".ico"}
    | {".heic", ".heif"}
)


@dataclass(frozen=True)
class AskedPicture:
    """A picture, how it was named, and the digest of its file's bytes.

    Where `picture` is a piece cut out of a larger one, that is `whole`, and `area` is the place in it.
    """

    picture: Picture
    name: str
    sha256: str
    area: Area | None = None
    whole: Picture | None = None

    @property
    def uncut(self) -> Picture:
        """The whole picture, which boxes are placed in."""
        return self.picture if self.whole is None else self.whole


def opening(frame: int = 1, allow_huge: bool = False, matte: str | None = None) -> Opening:
    """How pictures are opened in this run; the matte is the option, the variable or config.toml's."""
    return Opening(frame, config_value("matte", option=matte), allow_huge)


def open_asked(argument: str, how: Opening | None = None) -> AskedPicture:
    """The picture that the command line names; "-" is stdin. Raises PictureError."""
    how = how or opening()
    if argument == STDIN:
        if sys.stdin.isatty():  # nobody types a picture
            raise PictureError("picture.empty", path=STDIN)
        with _reading(STDIN):
            return _open_bytes(sys.stdin.buffer, STDIN, how)
    if not argument.strip():  # a variable that was empty, say
        raise PictureError("picture.missing", path='""', folder=Path.cwd(), near="")
    if _URL.match(argument) and not is_picture_path(argument):
        raise PictureError("picture.url", path=argument)
    path = find_picture(argument)
    if path.is_fifo():  # a pipe can be read once
        with _reading(path), path.open("rb") as pipe:
            return _open_bytes(pipe, shown_name(path), how)
    return AskedPicture(open_picture(path, how), shown_name(path), _digest(path))


def shown_name(path: Path) -> str:
    """A file's name as it can be shown."""
    return clean_line(typed_text(path.name))


def split_picture(argument: str) -> tuple[str, str]:
    """ "PATH question" -> (path, question): the longest beginning that is a file.

    Without such a file: the shortest that is named like a picture, else the first word. A path with spaces needs no
    quotes then; quotes are understood either way.
    """
    argument = argument.strip()
    if quoted := _quoted(argument):
        return quoted
    ends = [at for at, c in enumerate(argument) if c.isspace()] + [len(argument)]
    for end in reversed(ends):
        if is_picture_path(argument[:end]):
            return argument[:end], argument[end:].strip()
    words = [end for end in ends if argument[end - 1 : end] != "\\"] or [len(argument)]
    named = (end for end in words if end <= LONGEST_NAME and is_picture_name(argument[:end]))
    first = next(named, words[0])
    return argument[:first], argument[first:].strip()


def is_picture_name(text: str) -> bool:
    """Whether `text` ends as the names of pictures do."""
    return Path(text.rstrip("\"'”’」`")).suffix.lower() in PICTURE_ENDINGS


def is_picture_path(text: str) -> bool:
    """Whether `text`, as typed or dropped, names an existing file."""
    if not text.strip() or "\n" in text or len(text) > LONGEST_NAME:
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


def _open_bytes(stream: BinaryIO, name: str, how: Opening) -> AskedPicture:
    data = stream.read(LONGEST_STREAM + 1)
    return AskedPicture(open_picture(io.BytesIO(data), how), name, hashlib.sha256(data).hexdigest())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with _reading(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _reading(name: object) -> Iterator[None]:
    """What the system says about a file becomes a PictureError."""
    try:
        yield
    except OSError as error:
        raise PictureError("picture.unreadable", path=name, reason=error.strerror or error) from error
