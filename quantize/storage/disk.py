"""Writing that can be interrupted: what a full disk becomes, and files that appear whole or not at all.

Knows no job.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bellevl.errors import QuantizeError

#: File systems that cannot reserve room say one of these.
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_RESERVATION = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def writing(path: Path, need: int) -> Iterator[None]:
    """Turns a failed write into a QuantizeError that says how many bytes it is about."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NOT_ALLOWED:
            raise QuantizeError("disk.denied", path=path, reason=reason) from error
        raise QuantizeError("disk.full", path=path, reason=reason, need=human_bytes(need)) from error


def human_bytes(count: int) -> str:
    """13645712896 -> "13.6 GB"."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def reserve(descriptor: int, size: int) -> None:
    """Gives a file its full size, with room on the disk behind it where the file system can promise that."""
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NO_RESERVATION:
                raise
    os.truncate(descriptor, size)


def write_at(file: FileIO, offset: int, data: memoryview) -> None:
    """Writes all of `data`. The file is unbuffered, so that an error shows here and not when it is closed."""
    file.seek(offset)
    written = 0
    while written < len(data):
        written += file.write(data[written:]) or 0


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file under another name, makes sure that it is on the disk, and gives it its name."""
    part = path.with_name(path.name + ".part")
    with writing(path, len(data)):
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """The same for a JSON object."""
    write_whole(path, json_bytes(value))


def json_bytes(value: dict[str, Any]) -> bytes:
    """A JSON object as it is written everywhere."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def sync_folder(folder: Path) -> None:
    """Makes names given in `folder` last; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
