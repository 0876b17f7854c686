"""A hub with the API of huggingface.co: what a repository holds, and the bytes of its files from any place on.

With hub_modelscope.py the only file of this program that reaches the network by itself. huggingface_hub knows the
addresses, the log-in, the proxies and the certificates; the bytes are taken here, because it throws a part of a file
away when it is stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bellevl.errors import HubError, one_line

#: Seconds without a byte before a connection counts as broken.
PATIENCE = 30.0

#: A hub that answers so is asked again.
BUSY = frozenset({408, 429, 500, 502, 503, 504})

#: Bytes in one piece.
PIECE = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: one of the two hashes is what the hub knows of its contents."""

    name: str
    bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]


class Hub:
    """A hub at `endpoint`; None: HF_ENDPOINT, else huggingface.co. Raises HubError where its package is missing or
    the person's environment says that nothing may be downloaded."""

    #: What `--from` calls it.
    name = "hf"

    def __init__(self, endpoint: str | None) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        try:
            import huggingface_hub
            from huggingface_hub import constants, errors, utils
        except ImportError as error:
            raise HubError("pull.package", reason=error) from error
        utils.logging.set_verbosity_error()  # what it warns of is not this program's to say
        if constants.HF_HUB_OFFLINE:
            raise HubError("pull.offline")
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        if not self.endpoint.startswith(("http://", "https://")):
            raise HubError("pull.endpoint", endpoint=self.endpoint)
        self._hub, self._errors, self._utils = huggingface_hub, errors, utils
        # a stored log-in is for the hub it was made at; a mirror gets only what the environment gives it
        home = self.endpoint == "https://huggingface.co"
        self._token: str | bool | None = None if home else os.environ.get("HF_TOKEN") or False

    def listing(self, repo: str, revision: str | None) -> Listing:
        """What `repo` holds. Raises HubError."""
        api = self._hub.HfApi(endpoint=self.endpoint, token=self._token)
        try:
            info = api.model_info(repo, revision=revision, files_metadata=True, timeout=PATIENCE)
        except Exception as error:
            raise self._error(error, repo, revision) from error
        if not info.sha:
            raise HubError("pull.answer", host=self.endpoint, reason="no commit")
        return Listing(repo, info.sha, tuple(_file(sibling) for sibling in info.siblings or ()))

    @contextmanager
    def reading(self, listing: Listing, name: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """(where the pieces begin, the pieces) of a file from byte `start` on, or from 0 where the hub will not.

        Raises HubError, and what the connection raises while pieces are taken (see `broken`).
        """
        address = self._hub.hf_hub_url(listing.repo, name, revision=listing.commit, endpoint=self.endpoint)
        headers = self._utils.build_hf_headers(token=self._token, library_name="bellevl")
        headers["Accept-Encoding"] = "identity"  # the bytes as they are: positions and sizes count them
        if start:
            headers["Range"] = f"bytes={start}-"
        client = self._hub.get_session()
        with client.stream("GET", address, headers=headers, timeout=PATIENCE, follow_redirects=True) as response:
            if response.status_code in BUSY:
                raise ConnectionError(f"HTTP {response.status_code}")
            try:
                self._utils.hf_raise_for_status(response)
            except Exception as error:
                raise self._error(error, listing.repo, listing.commit) from error
            yield start if response.status_code == 206 else 0, response.iter_bytes(PIECE)

    def failed(self, error: Exception) -> HubError:
        """What to tell of a connection that broke for good."""
        return HubError("pull.network", host=self.endpoint, reason=reason(error))

    def _error(self, error: Exception, repo: str, revision: str | None) -> HubError:
        """What the hub said, as a person can mend it."""
        kinds = self._errors
        if isinstance(error, HubError):
            return error
        if isinstance(error, kinds.GatedRepoError):
            return HubError("pull.gated", repo=repo, address=f"{self.endpoint}/{repo}")
        if isinstance(error, kinds.RepositoryNotFoundError):
            return HubError("pull.repo", repo=repo, host=self.endpoint)
        if isinstance(error, kinds.RevisionNotFoundError):
            return HubError("pull.revision", repo=repo, revision=revision)
        if isinstance(error, self._errors.HFValidationError):
            return HubError("pull.name", repo=repo, example="BELLE-2/BELLE-VL")
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return HubError("pull.answer", host=self.endpoint, reason=f"HTTP {status}")
        return (
            self.failed(error) if broken(error) else HubError("pull.answer", host=self.endpoint, reason=reason(error))
        )


def broken(error: BaseException) -> bool:
    """Whether `error` is a connection that broke or never came: it may go on when it is tried again."""
    root = type(error).__module__.partition(".")[0]
    if root in ("httpx", "httpx2", "httpcore", "httpcore2"):
        return True
    return isinstance(error, (ConnectionError, TimeoutError))


def _file(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    digest = None if lfs is None else (lfs["sha256"] if isinstance(lfs, dict) else lfs.sha256)
    return RemoteFile(sibling.rfilename, sibling.size or 0, digest, None if digest else sibling.blob_id)


def reason(error: BaseException) -> str:
    """What it says of itself, in a line."""
    return one_line(str(error))[:200] or type(error).__name__
