"""What a model folder's files should be: sizes and SHA-256 written down when they were downloaded or quantized.

    download.json   where a download came from, its revision, and every file of it
    receipt.json    what `bellevl quantize` wrote: every file, and how good the result is

Both have {"files": {name: {"bytes": n, "sha256": "…"}}}. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bellevl.config import is_file, read_json

DOWNLOAD = "download.json"
RECEIPT = "receipt.json"

#: Bytes that are read at once while a file is hashed.
CHUNK = 1 << 22

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Expected:
    """A file's size and SHA-256 as they were written down; None: not known."""

    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class Source:
    """Where a download came from; `hub` is what `--from` calls it."""

    repo: str
    commit: str
    endpoint: str
    hub: str = "hf"


def expected_files(folder: Path) -> dict[str, Expected]:
    """What the records in `folder` say about its files, by name; empty without one. Raises CheckpointError."""
    found: dict[str, Expected] = {}
    for record in (RECEIPT, DOWNLOAD):  # what was downloaded goes before what was once written elsewhere
        found |= _files_of(read_record(folder / record))
    return found


def read_record(path: Path) -> dict[str, Any]:
    """A record; empty where there is none. Raises CheckpointError for one that is damaged."""
    return read_json(path) if is_file(path) else {}


def source_of(folder: Path) -> Source | None:
    """Where the model in `folder` was downloaded from; None where nothing says so."""
    record = read_record(folder / DOWNLOAD)
    fields = [record.get(name) for name in ("repo", "commit", "endpoint")]
    if not all(isinstance(field, str) for field in fields):
        return None
    hub = "modelscope" if record.get("hub") == "modelscope" else "hf"
    return Source(*map(str, fields), hub=hub)  # type: ignore[misc]


def write_download(folder: Path, source: Source, files: dict[str, Expected]) -> None:
    """Writes download.json, whole or not at all. Raises OSError."""
    rows = {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in sorted(files.items())}
    record = {**asdict(source), "files": rows}
    beside = folder / f".{DOWNLOAD}"
    beside.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, folder / DOWNLOAD)


def sha256(path: Path, tell: Callable[[int], None] = lambda read: None) -> str:
    """The file's SHA-256 in hex; `tell` hears how many bytes were read since it last heard. Raises OSError."""
    return _digest(path, hashlib.sha256(), tell)


def git_sha1(path: Path) -> str:
    """The id that git, and with it a hub, gives a small file. Raises OSError."""
    start = f"blob {path.stat().st_size}\0".encode()
    return _digest(path, hashlib.sha1(start, usedforsecurity=False), lambda read: None)


def fingerprint(folder: Path) -> str | None:
    """One hash for exactly these files, out of their recorded SHA-256; None where they are not recorded."""
    known = {name: file.sha256 for name, file in expected_files(folder).items() if file.sha256}
    return combined(known) if known else None


def combined(digests: Mapping[str, str]) -> str:
    """One SHA-256 over files' names and theirs."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _digest(path: Path, digest: Any, tell: Callable[[int], None]) -> str:
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
            tell(len(block))
    return str(digest.hexdigest())


def _files_of(record: dict[str, Any]) -> dict[str, Expected]:
    """The record's files; an entry that is not what it should be says nothing."""
    rows = record.get("files")
    found = {}
    for name, row in rows.items() if isinstance(rows, dict) else ():
        if isinstance(row, dict) and Path(name).name == name:
            size, digest = row.get("bytes"), row.get("sha256")
            found[name] = Expected(
                size if type(size) is int else None,
                digest if isinstance(digest, str) and _SHA256.fullmatch(digest) else None,
            )
    return found
