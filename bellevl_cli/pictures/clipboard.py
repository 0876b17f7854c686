"""The clipboard: the picture that was copied, or the picture file that was copied in a file manager.

On Linux the clipboard belongs to another program and is read through wl-paste (Wayland) or xclip (X11); both are tried
where both are there, for windows of either kind may have copied. Elsewhere Pillow asks the system. Writes nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from bellevl.errors import PictureError
from bellevl.image import LONGEST_STREAM, open_picture

from ..words import say
from .asked import AskedPicture, is_picture_path, open_asked, opening

#: A program that owns the clipboard and does not answer must not hold up this one.
PATIENCE_SECONDS = 5.0

#: What is asked for, best first: without loss before with.
PICTURE_TYPES = (
    "image/png", "image/webp", "image/tiff", "image/bmp", "image/jpeg", "image/avif", "image/heic", "image/gif",
)  # fmt: skip
FILE_TYPES = ("text/uri-list", "x-special/gnome-copied-files")
TEXT_TYPES = ("text/plain;charset=utf-8", "UTF8_STRING", "text/plain", "STRING", "TEXT")

#: Command -> (variable that says its kind of display is there, how types are listed, how one is read, its package).
_READERS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], str]] = {
    "wl-paste": ("WAYLAND_DISPLAY", ("--list-types",), ("--no-newline", "--type"), "wl-clipboard"),
    "xclip": (
        "DISPLAY",
        ("-selection", "clipboard", "-o", "-t", "TARGETS"),
        ("-selection", "clipboard", "-o", "-t"),
        "xclip",
    ),
}


def read_picture() -> AskedPicture:
    """The picture in the clipboard. Raises PictureError: none there, or no way to look."""
    if _on_linux():
        return _linux_picture()
    from PIL import Image, ImageGrab

    found = ImageGrab.grabclipboard()
    if isinstance(found, Image.Image):
        return _from_image(found)
    if isinstance(found, list) and len(found) == 1 and is_picture_path(found[0]):  # files of a file manager
        return open_asked(found[0])
    raise PictureError("picture.clipboard_empty")


def read_text() -> str:
    """The text in the clipboard, "" where there is none. Linux only. Raises PictureError where nobody can look."""
    for command in _commands():
        held = _types(command)
        for kind in TEXT_TYPES:
            if kind in held:
                return (_read(command, kind) or b"").decode("utf-8", "replace")
    return ""


def missing_tool() -> str | None:
    """The package that this machine's clipboard cannot be read without; None where it can, or there is none."""
    if not _on_linux():
        return None
    there = [name for name in _READERS if os.environ.get(_READERS[name][0])]
    if not there or any(shutil.which(name) for name in there):
        return None
    return _READERS[there[0]][3]


def has_display() -> bool:
    """Whether there is a clipboard at all: a remote terminal has none."""
    return not _on_linux() or any(os.environ.get(variable) for variable, *_ in _READERS.values())


def _on_linux() -> bool:
    return sys.platform.startswith("linux")


def _linux_picture() -> AskedPicture:
    for command in _commands():
        held = _types(command)
        for kind in (kind for kind in PICTURE_TYPES if kind in held):
            if data := _read(command, kind):
                return _from_bytes(data)
        for kind in (kind for kind in FILE_TYPES if kind in held):
            if path := _only_file(_read(command, kind) or b""):
                return open_asked(path)
    raise PictureError("picture.clipboard_empty")


def _commands() -> Iterator[str]:
    """The programs that can be asked here. Raises PictureError where there is none."""
    if not has_display():
        raise PictureError("picture.clipboard_none")
    if package := missing_tool():
        raise PictureError("picture.clipboard_tool", package=package)
    for name, (variable, *_) in _READERS.items():
        if os.environ.get(variable) and shutil.which(name):
            yield name


def _types(command: str) -> list[str]:
    return (_run(command, *_READERS[command][1]) or b"").decode("utf-8", "replace").split()


def _read(command: str, kind: str) -> bytes | None:
    return _run(command, *_READERS[command][2], kind)


def _run(command: str, *arguments: str) -> bytes | None:
    """What `command` writes; None where it fails, which is its way to say that there is nothing."""
    program = shutil.which(command)
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - one of two known programs, arguments of this file
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _only_file(listing: bytes) -> str | None:
    """The one picture file of a list of addresses as file managers copy it."""
    lines = [line.strip() for line in listing.decode("utf-8", "replace").splitlines()]
    files = [line for line in lines if line.startswith(("file:", "/"))]
    return files[0] if len(files) == 1 and is_picture_path(files[0]) else None


def _from_bytes(data: bytes) -> AskedPicture:
    if len(data) > LONGEST_STREAM:
        raise PictureError("picture.clipboard_empty")
    picture = open_picture(io.BytesIO(data), opening())
    return AskedPicture(picture, say("clipboard.name"), hashlib.sha256(data).hexdigest())


def _from_image(image: object) -> AskedPicture:
    """An image that Pillow made of the system's own form. Its digest is that of the same picture as PNG."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return _from_bytes(buffer.getvalue())
