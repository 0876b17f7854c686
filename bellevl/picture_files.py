"""From what a person typed, pasted or dragged to the picture's file.

A name may come with quotes, escapes, `~` or as file:// URL, and its accents may be stored otherwise than
typed. The name as it stands is tried first, so a file that really has quotes in its name is found too. Knows
no picture format: image.py opens what is found here.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from .errors import PictureError

QUOTES = {'"': '"', "'": "'", "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}"}
QUOTES |= {"\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}", "「": "」", "`": "`"}

#: Folders larger than this are not searched for near names.
MOST_ENTRIES = 20_000

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP}


def find_picture(name: str | os.PathLike[str]) -> Path:
    """The existing file that `name` means: a regular file or a pipe.

    Raises PictureError when there is none (with a near name where the folder has one), and for a folder, a
    device, or a place that may not be looked into.
    """
    readings = list(name_readings(name)) if isinstance(name, str) else [Path(name)]
    for path in readings:
        kind = _kind(path)
        if kind == "folder":
            raise PictureError("picture.folder", path=path)
        if kind == "other":
            raise PictureError("picture.unreadable", path=path, reason="not a regular file")
        if kind == "file":
            return path
    return _find_by_listing(readings[-1], str(name))


def name_readings(text: str) -> Iterator[Path]:
    """The paths that `text` may mean, most literal first, each once."""
    seen = set()
    for plain in _plain_readings(text):
        for form in (plain, unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain)):
            if form not in seen:
                seen.add(form)
                yield Path(form)


def _plain_readings(text: str) -> Iterator[str]:
    yield text
    text = text.strip().strip("\N{IDEOGRAPHIC SPACE}")
    yield text
    if len(text) > 1 and QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1]
        yield text
    if text.lower().startswith("file:"):
        text = re.sub(r"^//(localhost)?(?=/)", "", text[5:])
        yield unquote(text)
    elif drive := re.match(r"([A-Za-z]):[\\/]", text):
        # A Windows path under WSL, where the drives are mounted.
        yield f"/mnt/{drive[1].lower()}/" + text[3:].replace("\\", "/")
    elif os.sep == "/" and "\\" in text:
        yield _home(re.sub(r"\\(.)", r"\1", text))
    yield _home(text)


def _home(text: str) -> str:
    return os.path.expanduser(text) if text.startswith("~") else text


def _kind(path: Path) -> str:
    """ "file", "folder", "other" or "" (nothing there). Raises PictureError where looking is not allowed."""
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL in the name
        return ""
    except OSError as error:
        if error.errno in _ABSENT:
            return ""
        raise PictureError("picture.unreadable", path=path, reason=error.strerror or error) from error
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) else "other"


def _find_by_listing(path: Path, typed: str) -> Path:
    """The entry of the folder whose name is the same letters; else PictureError with the nearest name."""
    names = _entries(path.parent)
    for name in names:
        if _letters(name) == _letters(path.name) and _kind(path.parent / name) == "file":
            return path.parent / name
    near = nearest_name(path.name, names)
    suggestion = "" if near is None else f" ({near}?)"
    folder = path.parent if path.is_absolute() else Path.cwd() / path.parent
    raise PictureError("picture.missing", path=typed, folder=folder, near=suggestion)


def _letters(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _entries(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for _, entry in zip(range(MOST_ENTRIES), entries, strict=False)]
    except (OSError, ValueError):
        return []


def nearest_name(name: str, names: list[str]) -> str | None:
    """The entry of `names` that `name` was most likely meant to be; the ending counts little."""
    folded = {_letters(n).casefold(): n for n in names if not n.startswith(".")}
    wanted = _letters(name).casefold()
    if wanted in folded:
        return folded[wanted]
    stems = {os.path.splitext(n)[0]: original for n, original in folded.items()}
    stem = os.path.splitext(wanted)[0]
    found = [stem] if stem in stems else difflib.get_close_matches(stem, stems, n=1, cutoff=0.6)
    return stems[found[0]] if found else None
