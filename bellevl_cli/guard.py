"""Nothing leaves this machine: an audit hook refuses every network connection of this process.

Python cannot take an audit hook out again, so `install` is for a program, not for a library; `watch` counts and
refuses only inside its block, for tests and `doctor --net`. Sockets of this machine's own files (AF_UNIX) pass.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

#: Said before any library is imported that would ask a hub.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})


class NetworkRefusedError(RuntimeError):
    """Something in this process wanted to reach the network. `module` is the first of our caller's not in socket."""

    def __init__(self, host: str, port: object, module: str) -> None:
        self.host, self.port, self.module = host, port, module
        super().__init__(f"network access to {self.target} refused (from {module})")

    @property
    def target(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


@dataclass
class _Guard:
    """The one hook's state. `refused` remembers attempts even where a library swallowed the exception."""

    installed: bool = False
    active: bool = False
    refused: list[NetworkRefusedError] = field(default_factory=list)

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.active or not event.startswith("socket."):
            return
        target = _target(event, arguments)
        if target is not None:
            error = NetworkRefusedError(*target, _caller())
            self.refused.append(error)
            raise error


_guard = _Guard()


def install() -> None:
    """Refuses the network from here to the end of the process."""
    os.environ.update(OFFLINE)
    _add_hook()
    _guard.active = True


@contextmanager
def watch() -> Iterator[list[NetworkRefusedError]]:
    """Refuses the network inside the block; the list holds what was refused."""
    _add_hook()
    before, was_active = len(_guard.refused), _guard.active
    refused: list[NetworkRefusedError] = []
    _guard.active = True
    try:
        yield refused
    finally:
        _guard.active = was_active
        refused += _guard.refused[before:]


def _add_hook() -> None:
    if not _guard.installed:
        sys.addaudithook(_guard.hook)
        _guard.installed = True


def _target(event: str, arguments: tuple[object, ...]) -> tuple[str, object] | None:
    """(host, port) that `event` would reach, None for what stays on this machine's file system."""
    if event in _LOOKUPS:
        host = arguments[0]
        port = arguments[1] if len(arguments) > 1 else None
        return _text(host), port
    if event in _CONNECTS:
        address = arguments[1] if len(arguments) > 1 else None
        if isinstance(address, tuple) and len(address) >= 2:
            return _text(address[0]), address[1]
    return None


def _text(host: object) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)


def _caller() -> str:
    """The module that asked for the connection: the first below socket and this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "?"))
        if name not in (__name__, "socket", "_socket", "ssl"):
            return name
        frame = frame.f_back
    return "?"
