"""Pictures and files written out: whole or not at all, and never over the picture that was asked about.

Knows no boxes and no model.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bellevl.errors import PictureError

if TYPE_CHECKING:
    from PIL import Image

    from bellevl.image import Picture

#: Ending -> (Pillow's name of the format, how it is saved).
ENDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
}


def checked_target(path: Path, picture: Picture | None = None) -> Path:
    """`path`, if a picture can be written there: told before a model works for nothing.

    Raises PictureError for another ending, for the picture's own file and for a folder that is not there, OSError
    where it may not be written to.
    """
    if path.suffix.lower() not in ENDINGS:
        raise PictureError("picture.ending", path=path)
    checked_folder(path.parent)
    if picture is not None and picture.path is not None and _same_file(path, picture.path):
        raise PictureError("picture.own_file", path=path)
    return path


def checked_folder(folder: Path) -> None:
    """Raises PictureError where `folder` is not there, OSError where no file can be written into it."""
    if not folder.is_dir():
        raise PictureError("picture.no_folder", folder=folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def save_image(image: Image.Image, path: Path) -> None:
    """Writes `image` in the format that `path` ends in. Raises OSError."""
    kind, how = ENDINGS[path.suffix.lower()]
    data = io.BytesIO()
    image.save(data, kind, **how)
    write_whole(path, data.getvalue())


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is all there or, after an error or Ctrl-C, as it was before. Raises OSError."""
    unfinished = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # the name that the person knows
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def _same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False
