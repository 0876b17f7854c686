"""Pictures of a logged dialogue: copies of them (config `store_images`), those with boxes drawn, and opening one again,
checked.

A dialogue goes on about the picture it was about or not at all: the digest of the file's bytes tells.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from bellevl.errors import PictureError
from bellevl.image import open_picture

from ..pictures.asked import AskedPicture, open_asked
from ..pictures.crop import cut, within
from ..words import say
from .reading import COPIES
from .records import StoredThread

#: The folder of pictures with boxes drawn, inside the log's own; in it one for each thread.
DRAWN = "boxes"


def keeper(folder: Path) -> Callable[[AskedPicture], Path | None] | None:
    """What makes copies; None where none are wanted."""
    from ..settings import config_value

    if not config_value("store_images"):
        return None
    return lambda picture: keep(picture, folder / COPIES)


def keep(picture: AskedPicture, folder: Path) -> Path:
    """A copy in `folder`, readable by this user alone; one for all dialogues about the same bytes. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    data, ending = _bytes_of(picture)
    target = folder / f"{picture.sha256}{ending}"
    if not target.exists():
        partial = folder / f"{picture.sha256}.{secrets.token_hex(4)}.partial"
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def _bytes_of(picture: AskedPicture) -> tuple[bytes, str]:
    """The file's own bytes; of what came through a pipe, the picture as it was seen."""
    path = picture.uncut.path
    if path is not None and path.is_file():
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == picture.sha256:
            return data, path.suffix.lower() if path.suffix.isascii() else ""
    buffer = io.BytesIO()
    picture.uncut.image.save(buffer, "PNG")
    return buffer.getvalue(), ".png"


def drawn_folder(thread: str) -> Path:
    """Where the picture of a thread is kept with boxes on it, for this user alone. Raises OSError."""
    from .schema import make_data_folder

    folder = make_data_folder() / DRAWN / thread
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def drop_drawn(folder: Path, threads: Iterable[str]) -> None:
    """Removes what was drawn for `threads`."""
    for thread in threads:
        shutil.rmtree(folder / DRAWN / thread, ignore_errors=True)


def drop_unused(folder: Path, used: Iterable[str]) -> None:
    """Removes copies that no thread names."""
    names = set(used)
    copies = folder / COPIES
    for path in copies.iterdir() if copies.is_dir() else ():
        if path.name not in names:
            path.unlink(missing_ok=True)


def reopen(thread: StoredThread, said: Callable[[str], object]) -> AskedPicture | None:
    """The picture that `thread` is about, the same bytes as then; None for a dialogue without one.

    Where the file changed or is gone the log's copy takes its place, and `said` hears so. Raises PictureError where
    there is no copy.
    """
    if thread.picture_sha256 is None:
        return None
    trouble = PictureError("picture.not_kept", path=thread.picture_name or "-")
    if thread.picture_path is not None:
        try:
            asked = open_asked(os.fspath(thread.picture_path))
        except PictureError:
            trouble = PictureError("picture.gone", path=thread.picture_path)
        else:
            if asked.sha256 == thread.picture_sha256:
                return _piece(asked, thread)
            trouble = PictureError("picture.changed", path=thread.picture_path)
    return _from_copy(thread, trouble, said)


def _from_copy(thread: StoredThread, trouble: PictureError, said: Callable[[str], object]) -> AskedPicture:
    if thread.stored_copy is None or not thread.stored_copy.is_file():
        raise trouble
    picture = replace(open_picture(thread.stored_copy), path=thread.stored_copy)
    name = thread.picture_name or thread.stored_copy.name
    if trouble.message == "picture.gone":
        said(say("log.picture_gone", name=name))
    elif trouble.message == "picture.changed":
        said(say("log.picture_changed", name=name))
    assert thread.picture_sha256 is not None
    return _piece(AskedPicture(picture, name, thread.picture_sha256), thread)


def _piece(asked: AskedPicture, thread: StoredThread) -> AskedPicture:
    """The piece of the picture that the dialogue is about."""
    area = thread.picture_area
    return asked if area is None else within(asked, cut(asked.picture, area), area)
