"""The bytes of a download: taken from where they stopped, tried again when a connection breaks, checked at the end.

Knows no folder but the one it writes into. What is on the disk stays there whatever happens.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bellevl.errors import CheckpointError, HubError

from ..running.preflight import readable_bytes
from ..screen.clean import clean_line
from ..screen.render import Renderer
from ..words import say
from . import records
from .hub import Hub, Listing, RemoteFile, broken

#: A connection that breaks so often without a byte between is given up.
TRIES = 5

#: Seconds between two stage lines, and seconds of which the speed is the mean.
STAGE_SECONDS = 0.2
SPEED_SECONDS = 10.0


class Fetcher:
    """Downloads the files of a listing into `folder`, one after the other, with one line of progress."""

    def __init__(self, hub: Hub, listing: Listing, files: list[RemoteFile], folder: Path, renderer: Renderer) -> None:
        self.hub, self.listing, self.files, self.folder, self.renderer = hub, listing, files, folder, renderer
        self.total = sum(file.bytes for file in files)
        self._progress = _Progress(self.total)
        self._shown = 0.0

    def skip(self, count: int) -> None:
        """`count` bytes are here already."""
        self._progress.have += count

    def begun(self) -> int:
        """Bytes of files that were begun and not finished."""
        sizes = [(self._partial(file), file.bytes) for file in self.files]
        return sum(min(path.stat().st_size, size) for path, size in sizes if path.exists())

    def fetch(self, file: RemoteFile) -> str:
        """Downloads `file`, checks it, gives it its name. Returns its SHA-256.

        Raises HubError; CheckpointError where it is not what the hub said, and then it is gone.
        """
        partial = self._partial(file)
        try:
            self._complete(file, partial)
            digest = self._check(file, partial)
            os.replace(partial, self.folder / file.name)
        except OSError as error:
            if broken(error):
                raise self.hub.failed(error) from error
            need = readable_bytes(file.bytes)
            reason = error.strerror or str(error)
            raise HubError("disk.full", path=self.folder, reason=reason, need=need) from error
        return digest

    def _partial(self, file: RemoteFile) -> Path:
        """Named after the contents too: bytes of an older revision are never gone on with."""
        return self.folder / f".{file.name}.{(file.sha256 or file.git_sha1 or self.listing.commit)[:16]}.incomplete"

    def _complete(self, file: RemoteFile, partial: Path) -> None:
        """Takes bytes until all are there."""
        partial.touch()
        if partial.stat().st_size > file.bytes:
            os.truncate(partial, 0)
        self._progress.have += partial.stat().st_size
        tries = 0
        while (before := partial.stat().st_size) != file.bytes:
            error: Exception | None = None
            try:
                self._take(file, partial, before)
            except Exception as caught:
                if not broken(caught):
                    raise
                error = caught
            if partial.stat().st_size != file.bytes:
                tries = 1 if partial.stat().st_size > before else tries + 1
                self._wait(file, tries, error)

    def _wait(self, file: RemoteFile, tries: int, error: Exception | None) -> None:
        """A moment before the next try. Raises HubError when there were enough of them."""
        if tries >= TRIES:
            reason = error or ConnectionError("the connection ended too early")
            raise self.hub.failed(reason) from error
        name = clean_line(file.name)
        self.renderer.stage(say("pull.retry", name=name, count=tries, most=TRIES - 1))
        time.sleep(min(2.0 ** (tries - 1), 8.0) / 2)

    def _take(self, file: RemoteFile, partial: Path, size: int) -> None:
        """Appends what the hub sends to the `size` bytes that are here; a hub that cannot go on begins again."""
        with self.hub.reading(self.listing, file.name, size) as (start, pieces), open(partial, "r+b") as out:
            self._progress.have -= size - start
            out.truncate(start)
            out.seek(start)
            self._write(file, out, start, pieces)
            out.flush()
            os.fsync(out.fileno())

    def _write(self, file: RemoteFile, out: BinaryIO, at: int, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            at += len(piece)
            if at > file.bytes:
                raise HubError("pull.size", name=file.name, found=f"> {file.bytes}", expected=file.bytes)
            out.write(piece)
            self._progress.add(len(piece))
            self._show(file)

    def _check(self, file: RemoteFile, partial: Path) -> str:
        """The SHA-256. Raises CheckpointError where the hash is not the hub's; the file is removed then."""
        self.renderer.stage(say("pull.check", name=clean_line(file.name)))
        digest = records.sha256(partial)
        good = digest == file.sha256 if file.sha256 else file.git_sha1 in (None, records.git_sha1(partial))
        if not good:
            partial.unlink()
            raise CheckpointError("pull.hash", name=file.name, host=self.hub.endpoint)
        return digest

    def _show(self, file: RemoteFile) -> None:
        now = time.monotonic()
        if now - self._shown < STAGE_SECONDS:
            return
        self._shown = now
        self.renderer.stage(
            say(
                "pull.stage", number=self.files.index(file) + 1, count=len(self.files), name=clean_line(file.name),
                **self._progress.facts(),
            )
        )  # fmt: skip


class _Progress:
    """How far, how fast, how long."""

    def __init__(self, total: int) -> None:
        self.total, self.have = total, 0
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._taken = 0

    def add(self, count: int) -> None:
        self.have += count
        self._taken += count
        now = time.monotonic()
        self._recent.append((now, self._taken))
        while len(self._recent) > 2 and now - self._recent[0][0] > SPEED_SECONDS:
            self._recent.popleft()

    def facts(self) -> dict[str, str | int]:
        """For the stage line."""
        (first, before), (last, after) = self._recent[0], self._recent[-1]
        speed = (after - before) / (last - first) if last > first else 0.0
        left = "…" if speed <= 0 else _readable_time((self.total - self.have) / speed)
        return {
            "percent": 100 * self.have // max(self.total, 1),
            "done": readable_bytes(self.have),
            "total": readable_bytes(self.total),
            "speed": readable_bytes(round(speed)),
            "left": left,
        }


def _readable_time(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
