"""A hub with the API of modelscope.cn: every file of a repository with its SHA-256, and its bytes from any place on.

GET  /api/v1/models/OWNER/NAME/repo/files?Revision=…&Recursive=true   what a branch or tag holds
GET  /api/v1/models/OWNER/NAME/repo?Revision=…&FilePath=…             a file's bytes, with ranges

Only public repositories: no log-in is kept or sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from bellevl import __version__
from bellevl.errors import HubError

from .hub import BUSY, PATIENCE, PIECE, Hub, Listing, RemoteFile, broken, reason

HOME = "https://www.modelscope.cn"

#: What a repository's main line is called there.
BRANCH = "master"

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelScope(Hub):
    """A hub at `endpoint`; None: modelscope.cn. Raises HubError as Hub does."""

    name = "modelscope"

    def __init__(self, endpoint: str | None) -> None:
        super().__init__(endpoint or HOME)
        self._branch = BRANCH

    def listing(self, repo: str, revision: str | None) -> Listing:
        """What `repo` holds. Raises HubError."""
        self._branch = revision or BRANCH
        address = self._address(repo, "repo/files", Revision=self._branch, Recursive="true")
        try:
            response = self._hub.get_session().get(address, headers=_headers(), timeout=PATIENCE)
            if response.status_code in BUSY:
                raise ConnectionError(f"HTTP {response.status_code}")
            answer = response.json()
        except Exception as error:
            if broken(error):
                raise self.failed(error) from error
            raise HubError("pull.answer", host=self.endpoint, reason=reason(error)) from error
        return Listing(repo, *self._read(repo, response.status_code, answer))

    @contextmanager
    def reading(self, listing: Listing, name: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """As Hub's."""
        address = self._address(listing.repo, "repo", Revision=self._branch, FilePath=name)
        headers = _headers() | ({"Range": f"bytes={start}-"} if start else {})
        client = self._hub.get_session()
        with client.stream("GET", address, headers=headers, timeout=PATIENCE, follow_redirects=True) as response:
            if response.status_code in BUSY:
                raise ConnectionError(f"HTTP {response.status_code}")
            if response.status_code not in (200, 206):
                raise HubError("pull.answer", host=self.endpoint, reason=f"HTTP {response.status_code}")
            yield start if response.status_code == 206 else 0, response.iter_bytes(PIECE)

    def _address(self, repo: str, what: str, **query: str) -> str:
        return f"{self.endpoint}/api/v1/models/{repo}/{what}?{urlencode(query)}"

    def _read(self, repo: str, status: int, answer: Any) -> tuple[str, tuple[RemoteFile, ...]]:
        """(what stands for the commit, the files) of a listing. Raises HubError."""
        if status in (401, 403, 404):
            raise HubError("pull.public", repo=repo, host=self.endpoint, revision=self._branch)
        try:
            rows = [row for row in answer["Data"]["Files"] if row.get("Type") != "tree"]
            files = tuple(map(_file, rows))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            said = answer.get("Message") if isinstance(answer, dict) else None
            raise HubError("pull.answer", host=self.endpoint, reason=str(said or f"HTTP {status}")) from error
        return _contents(files), files


def _headers() -> dict[str, str]:
    return {"User-Agent": f"bellevl/{__version__}", "Accept-Encoding": "identity"}  # positions and sizes count bytes


def _file(row: dict[str, Any]) -> RemoteFile:
    """Raises ValueError for a file without a hash: it could not be checked."""
    digest = str(row.get("Sha256") or "").lower()
    if not _SHA256.fullmatch(digest):
        raise ValueError(f"no SHA-256 of {row['Path']}")
    return RemoteFile(str(row["Path"]), int(row["Size"]), digest, None)


def _contents(files: tuple[RemoteFile, ...]) -> str:
    """What all files together are: the listing names a commit for each file and none for all of them."""
    lines = sorted(f"{file.name} {file.sha256}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:40]
