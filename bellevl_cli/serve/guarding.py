"""Who may ask: every request is looked at before it reaches a route.

A page of another site must not use this server through a person's browser. Such a page's requests carry its own
Origin, or reach us under a name of its own that was made to point here (DNS rebinding): both are refused. A plain
form of another site cannot send JSON, and nothing else is taken.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any

from ..words import say
from .api_errors import ApiError

#: Names of this machine itself.
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

#: What a browser is told about every page and answer: nothing from elsewhere, in no frame, no guessing.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Door:
    """The address that is listened at, and what is asked of those who come. `token` None: this machine alone."""

    host: str
    port: int
    token: str | None = None

    def check(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Raises ApiError for a request that may not pass."""
        host = self._one(headers, b"host") or ""
        if self.token is None and not self._own_name(host):
            raise ApiError(403, say("api.host", host=host[:100]), "host_refused")
        origin = self._one(headers, b"origin")
        if origin is not None and origin != f"http://{host}":
            raise ApiError(403, say("api.origin", origin=origin[:100]), "origin_refused")
        if self._one(headers, b"sec-fetch-site") in ("cross-site", "same-site") and method != "GET":
            raise ApiError(403, say("api.origin", origin="?"), "origin_refused")
        if self.token is not None and path.startswith(("/v1/", "/api/")):
            self._check_token(self._one(headers, b"authorization") or "")

    def _own_name(self, host: str) -> bool:
        """Whether a client may call this server so."""
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "80")
        own = f"[{self.host}]" if ":" in self.host else self.host
        return name.lower() in LOOPBACK_NAMES | {own} and port == str(self.port)

    def _check_token(self, authorization: str) -> None:
        kind, _, given = authorization.partition(" ")
        assert self.token is not None
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.token.encode())
        if kind.lower() != "bearer" or not same:
            raise ApiError(401, say("api.token"), "invalid_api_key")

    @staticmethod
    def _one(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
        """A header's value. Two of them are an attempt to be read in two ways."""
        values = [value for key, value in headers if key == name]
        if len(values) > 1:
            raise ApiError(400, say("api.header", name=name.decode()), "duplicate_header")
        return values[0].decode("latin-1") if values else None


class Guarding:
    """ASGI middleware: `Door.check` before, `HEADERS` after. There are no web sockets here."""

    def __init__(self, app: Any, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def answered(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        try:
            self.door.check(scope["method"], scope["path"], scope["headers"])
        except ApiError as error:
            from starlette.responses import JSONResponse

            await JSONResponse(error.body, error.status)(scope, receive, answered)
            return
        await self.app(scope, receive, answered)
