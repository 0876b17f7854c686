"""Which pictures a folder, a list or a few names mean. Looks at names only and opens no picture."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from bellevl.errors import PictureError
from bellevl.picture_files import find_picture

from ..pictures.asked import PICTURE_ENDINGS, STDIN, is_picture_name
from ..screen.clean import read_text

#: A list of names is text; more than this is something else.
LONGEST_LIST = 64 << 20

_NUMBER = re.compile(r"(\d+)")


def list_pictures(
    sources: Iterable[str], recursive: bool = False, endings: frozenset[str] = PICTURE_ENDINGS
) -> list[str]:
    """The pictures of folders (in the order of their names, 2 before 10), of lists (one name a line, # begins a remark)
    and by themselves, each once. "-" is a list on stdin.

    Raises PictureError for a source that is not there and where there is no picture at all.
    """
    found = dict.fromkeys(name for source in sources for name in _of(source, recursive, endings))
    if not found:
        raise PictureError("picture.none", folder=" ".join(sources))
    return list(found)


def _of(source: str, recursive: bool, endings: frozenset[str]) -> Iterable[str]:
    if source == STDIN:
        return _lines(sys.stdin.buffer.read(LONGEST_LIST), Path.cwd())
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        return _of_folder(path, recursive, endings)
    if is_picture_name(source) or not path.exists():
        return [str(find_picture(source))]
    try:
        with path.open("rb") as file:
            return _lines(file.read(LONGEST_LIST), path.parent)
    except OSError as error:
        raise PictureError("picture.unreadable", path=path, reason=error.strerror or error) from error


def _of_folder(folder: Path, recursive: bool, endings: frozenset[str]) -> Iterator[str]:
    """Hidden files and folders are left out; links to folders are not followed, for they may lead in circles."""

    def refuse(error: OSError) -> None:
        raise PictureError("picture.unreadable", path=error.filename, reason=error.strerror or error) from error

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted((f for f in folders if recursive and not f.startswith(".")), key=_natural)
        for name in sorted(files, key=_natural):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in endings:
                yield os.path.join(where, name)


def _lines(raw: bytes, folder: Path) -> Iterator[str]:
    """Names as they stand; one that is not here but beside the list is meant there."""
    for line in read_text(raw).removeprefix("\ufeff").splitlines():
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        beside = folder / name
        yield str(beside) if not os.path.exists(name) and beside.exists() else name


def read_endings(text: str | None) -> frozenset[str]:
    """ "jpg, .PNG" -> {".jpg", ".png"}; without a text all that pictures have."""
    words = re.split(r"[\s,，]+", text or "")
    return frozenset(f".{word.lower().lstrip('.')}" for word in words if word) or PICTURE_ENDINGS


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in _NUMBER.split(name) if part
    ]
