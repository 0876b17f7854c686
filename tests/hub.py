"""A hub on this machine, with the addresses and headers of huggingface.co that a download uses, and its troubles.

GET  /api/models/OWNER/NAME[/revision/REV]?blobs=true   what the repository holds
GET  /OWNER/NAME/resolve/COMMIT/FILE                    small files; large ones are sent on to /cdn/
GET  /cdn/SHA256                                        their bytes, with ranges

And those of modelscope.cn:

GET  /api/v1/models/OWNER/NAME/repo/files?Revision=master&Recursive=true    what the repository holds
GET  /api/v1/models/OWNER/NAME/repo?Revision=master&FilePath=FILE           the bytes of a file, with ranges
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

REPO = "someone/Tiny-VL"


class Hub:
    """A repository and what goes wrong with it. `seen` is every request: (address, range)."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        self.large = {name for name in files if name.endswith((".safetensors", ".bin"))}
        self.seen: list[tuple[str, str | None]] = []
        self.tokens: set[str | None] = set()  # what requests had as Authorization
        self.sent: dict[str, bytes] = {}  # other bytes than were published
        self.cuts: list[int] = []  # after so many bytes the next transfers of large files break off
        self.pause = 0.0  # seconds between two pieces of a large file
        self.stopped = threading.Event()
        self.ranges = True
        self.refusal: tuple[int, str] | None = None  # status and X-Error-Code of every answer
        self.address = ""

    def listing(self) -> dict[str, Any]:
        return {"_id": "1", "id": REPO, "modelId": REPO, "sha": self.commit, "private": False, "tags": [],
                "siblings": [self._sibling(name) for name in self.files]}  # fmt: skip

    def scope_listing(self) -> dict[str, Any]:
        """As modelscope.cn lists it: folders too, a hash for every file."""
        rows = [
            {"Type": "blob", "Name": name, "Path": name, "Size": len(content), "Sha256": _digest(content)}
            for name, content in self.files.items()
        ]
        folder = {"Type": "tree", "Name": "assets", "Path": "assets", "Size": 0, "Sha256": ""}
        return {"Code": 200, "Success": True, "Message": "success", "Data": {"Files": [folder, *rows]}}

    def _sibling(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        row: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name in self.large:
            row["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return row

    def transfers(self, name: str) -> list[str | None]:
        """The ranges in which a file was asked for."""
        return [range for address, range in self.seen if address.endswith((f"/{name}", _digest(self.files[name])))]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        place = f"{path}/{asked['FilePath']}" if "FilePath" in asked else path
        self.hub.tokens.add(self.headers.get("Authorization"))
        self.hub.seen.append((place, self.headers.get("Range")))
        if self.hub.refusal is not None:
            status, code = self.hub.refusal
            self._answer(status, b"{}", {"X-Error-Code": code} if code else {})
        elif path.startswith("/api/v1/models/"):
            self._modelscope(path.removeprefix("/api/v1/models/"), asked)
        elif path.startswith(f"/api/models/{REPO}"):
            self._answer(200, json.dumps(self.hub.listing()).encode(), {"Content-Type": "application/json"})
        elif path.startswith("/api/"):
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif found := re.fullmatch(rf"/{REPO}/resolve/(\w+)/(.+)", path):
            self._resolve(found[2])
        elif found := re.fullmatch(r"/cdn/(\w+)", path):
            self._large(next(name for name, content in self.hub.files.items() if _digest(content) == found[1]))
        else:
            self._answer(404, b"", {})

    def _modelscope(self, path: str, asked: dict[str, str]) -> None:
        if path == f"{REPO}/repo/files" and asked["Revision"] == "master":
            self._answer(200, json.dumps(self.hub.scope_listing()).encode(), {"Content-Type": "application/json"})
        elif path == f"{REPO}/repo" and asked["Revision"] == "master" and asked["FilePath"] in self.hub.files:
            self._large(asked["FilePath"])
        else:
            self._answer(404, b'{"Code": 10010205001, "Success": false, "Message": "not found"}', {})

    def _resolve(self, name: str) -> None:
        if name not in self.hub.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = self.hub.files[name]
        headers = {"X-Repo-Commit": self.hub.commit, "Accept-Ranges": "bytes"}
        if name in self.hub.large:
            headers |= {"X-Linked-Etag": f'"{_digest(content)}"', "X-Linked-Size": str(len(content)),
                        "Location": f"{self.hub.address}/cdn/{_digest(content)}"}  # fmt: skip
            self._answer(302, b"", headers)
        else:
            self._answer(200, self.hub.sent.get(name, content), headers | {"ETag": f'"{len(content)}"'})

    def _large(self, name: str) -> None:
        content = self.hub.sent.get(name, self.hub.files[name])
        start = 0
        if self.hub.ranges and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")):
            start = int(asked[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        cut = self.hub.cuts.pop(0) if self.hub.cuts and name in self.hub.large else len(rest)
        for at in range(0, min(cut, len(rest)), 1 << 16):
            if self.hub.pause and self.hub.stopped.wait(self.hub.pause):
                break
            self.wfile.write(rest[at : min(at + (1 << 16), cut)])
        if cut < len(rest):
            self.close_connection = True
            self.connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is not told of."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub with these files at 127.0.0.1, until the block ends."""
    hub = Hub(files)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.stopped.set()
            server.shutdown()
            thread.join()
