"""`bellevl serve`: checks the address, loads the model, listens until Ctrl-C."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from dataclasses import dataclass, field
from importlib.util import find_spec

from bellevl.errors import ServeError

from .. import guard
from ..exits import UsageError
from ..options import ModelOptions
from ..running.session import Plan, plan, window
from ..running.starting import start
from ..screen.clean import clean_line, typed_text
from ..screen.render import Renderer
from ..words import say
from .guarding import Door

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8014

#: The shortest token that is worth the name.
SHORTEST_TOKEN = 8

#: Seconds that open answers have to end after Ctrl-C.
GOODBYE_SECONDS = 1


@dataclass(frozen=True)
class ServeOptions:
    """What was asked on the command line."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: str | None = None
    model: ModelOptions = field(default_factory=ModelOptions)


def run(options: ServeOptions, renderer: Renderer | None = None) -> None:
    """Serves until Ctrl-C. Raises UsageError, ServeError, and what loading a model raises."""
    guard.install()
    renderer = renderer or Renderer()
    host, token = checked(options)
    _require_libraries()
    chosen = plan(options.model)
    listening = _listen(host, options.port)
    with listening:
        port = listening.getsockname()[1]
        if chosen.choice.embedded:
            renderer.say("ask.embedded")
        _serve(chosen, listening, Door(host, port, token), renderer)


def checked(options: ServeOptions) -> tuple[str, str | None]:
    """Host and token. Raises UsageError for a host beyond this machine without a token."""
    token = options.token if options.token is not None else os.environ.get("BELLEVL_TOKEN") or None
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UsageError(say("serve.short_token", least=SHORTEST_TOKEN))
    name = "127.0.0.1" if options.host == "localhost" else options.host.strip("[]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise UsageError(say("serve.host", host=clean_line(typed_text(options.host)))) from None
    if not address.is_loopback and token is None:
        raise UsageError(say("serve.token", host=name))
    if not 0 <= options.port <= 65535:
        raise UsageError(say("serve.wrong_port", port=options.port))
    return str(address), token


def _require_libraries() -> None:
    """Raises ServeError where the extra is not installed."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise ServeError("serve.extra", package=package)


def _listen(host: str, port: int) -> socket.socket:
    """The socket, before the model is loaded: a port in use is told at once. Raises ServeError."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ServeError("serve.port", host=host, port=port, reason=error.strerror or error) from error
    return listening


def _serve(chosen: Plan, listening: socket.socket, door: Door, renderer: Renderer) -> None:
    import uvicorn

    session = start(chosen, window(chosen, None), renderer)
    from .app import Server
    from .engine import Engine

    url = f"http://{f'[{door.host}]' if ':' in door.host else door.host}:{door.port}/"
    renderer.line(url)
    renderer.say("serve.ready", name=clean_line(chosen.choice.name), url=url)
    if door.token is not None:
        renderer.say("serve.with_token", url=f"{url}#token=…")
    if not ipaddress.ip_address(door.host).is_loopback:
        renderer.say("serve.open")
    config = uvicorn.Config(
        Server(Engine(session), door).app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=64,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    uvicorn.Server(config).run(sockets=[listening])
