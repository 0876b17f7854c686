"""The routes: the API, what the page asks beside it, and the page itself."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bellevl import __version__
from bellevl.errors import BellevlError
from bellevl.image import open_picture

from ..words import language, say
from .api_errors import ApiError, of
from .engine import End, Engine, Event, Job, Text, Waiting
from .guarding import Door, Guarding
from .replies import Reply, event, waiting
from .requests import parse, read_json

#: Bytes of a request: a picture of 64 MiB in base64 and a long dialogue.
LONGEST_BODY = 96 * 2**20

#: Seconds between two pieces of a request's body.
BODY_SECONDS = 30.0

#: The longer side of a picture that is made for the page, in pixels.
LONGEST_PREVIEW = 1600

#: What a model may be called beside its name.
ALIAS = "bellevl"

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass
class Server:
    """The routes and what they share."""

    engine: Engine
    door: Door

    def __post_init__(self) -> None:
        self.model = self.engine.session.plan.choice.name
        self.started = int(time.time())

    @property
    def app(self) -> Starlette:
        routes = [
            Route("/v1/chat/completions", self.completions, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.one_model),
            Route("/api/status", self.status),
            Route("/api/preview", self.preview, methods=["POST"]),
            Route("/health", self.health),
            Route("/", self.file),
            Route("/{name:str}", self.file),
        ]
        # What is told a client is handled within: an error that goes on to the outermost handler (`Exception`) closes
        # the connection under a client that has its next question on the way.
        told = (ApiError, BellevlError, MemoryError, OSError, RuntimeError, ValueError)
        handlers: dict[Any, Any] = {**dict.fromkeys(told, _told), HTTPException: _told_http, Exception: _failed}
        middleware = [Middleware(Guarding, door=self.door)]
        return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(self.engine.close)

    async def completions(self, request: Request) -> Response:
        body = read_json(await read_body(request, json_only=True), _charset(request))
        asked = parse(body, (self.model, ALIAS))
        job = await self.engine.submit(asked)
        reply = Reply(self.model, asked)
        if not asked.stream:
            return await self._whole(request, job, reply)
        events = self.engine.events(job)
        first = await anext(events)  # a request that cannot be answered has a status of its own, no stream
        return Streamed(self.engine, job, reply, _with_first(first, events))

    async def _whole(self, request: Request, job: Job, reply: Reply) -> Response:
        """The answer in one piece. A client that leaves stops it."""
        leaving = asyncio.ensure_future(_left(request.receive))
        leaving.add_done_callback(lambda _: self.engine.leave(job))
        end = None
        try:
            async for happened in _until(self.engine.events(job), leaving):
                if isinstance(happened, End):
                    end = happened
        finally:
            leaving.cancel()
        return Response(status_code=499) if end is None else JSONResponse(reply.whole(end))

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model_record()]})

    async def one_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in (self.model, ALIAS):
            raise ApiError(404, say("api.model", name=name[:100], known=self.model), "model_not_found", "model")
        return JSONResponse(self._model_record())

    def _model_record(self) -> dict[str, Any]:
        return {"id": self.model, "object": "model", "created": self.started, "owned_by": "local"}

    async def status(self, request: Request) -> Response:
        """What the page shows about the model and the queue."""
        plan = self.engine.session.plan
        visual = plan.config.visual
        return JSONResponse(
            {
                "model": self.model,
                "embedded": plan.choice.embedded,
                "quantization": plan.quantization_name,
                "image_size": None if visual is None else visual.image_size,
                "max_tokens": plan.generation.max_new_tokens,
                "busy": self.engine.busy,
                "waiting": self.engine.waiting,
                "answered": self.engine.answered,
                "language": language(),
                "version": __version__,
            }
        )

    async def preview(self, request: Request) -> Response:
        """A picture that a browser cannot show (HEIC, TIFF), upright and as JPEG."""
        data = await read_body(request)
        return Response(await asyncio.to_thread(_preview, data), media_type="image/jpeg")

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def file(self, request: Request) -> Response:
        """One of the page's own files; no other name leads anywhere."""
        name = request.path_params.get("name") or "index.html"
        path = next((p for p in PAGE.iterdir() if p.name == name and p.suffix in KINDS), None)
        if path is None:
            raise ApiError(404, say("api.nothing_here", path=request.url.path[:100]), "not_found")
        return Response(path.read_bytes(), media_type=KINDS[path.suffix])


class Streamed(Response):
    """An answer as events while it is written. A client that leaves stops it, also in the queue and in the prefill."""

    def __init__(self, engine: Engine, job: Job, reply: Reply, events: AsyncIterator[Event]) -> None:
        super().__init__(media_type="text/event-stream")
        self.engine, self.job, self.reply, self.events = engine, job, reply, events

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def write(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        leaving = asyncio.ensure_future(_left(receive))
        leaving.add_done_callback(lambda _: self.engine.leave(self.job))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await write(self.reply.first())
            try:
                async for happened in _until(self.events, leaving):
                    if data := self._event(happened):
                        await write(data)
            except Exception as error:
                if isinstance(error, OSError):  # the client is gone while it was written to
                    return
                await write(event(of(error).body))
            await write(b"", more=False)
        finally:
            self.engine.leave(self.job)
            leaving.cancel()

    def _event(self, happened: Event) -> bytes:
        if isinstance(happened, Waiting):
            return waiting(happened.ahead)
        if isinstance(happened, Text):
            return self.reply.piece(happened.text)
        return self.reply.last(happened) if isinstance(happened, End) else b""


async def _with_first(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """`events`, of which the first one was waited for already."""
    yield first
    async for happened in events:
        yield happened


async def _until(events: AsyncIterator[Event], leaving: asyncio.Future[None]) -> AsyncIterator[Event]:
    """`events` as long as the client stays."""
    while True:
        following: asyncio.Future[Event] = asyncio.ensure_future(anext(events))
        both: set[asyncio.Future[Any]] = {following, leaving}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                return
            yield following.result()
        except StopAsyncIteration:
            return
        finally:
            if not following.done():
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                    await following


async def _left(receive: Any) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request, json_only: bool = False) -> bytes:
    """The whole body. Raises ApiError for one that is too long, too slow, or not JSON where it must be."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if json_only and kind != "application/json":
        raise ApiError(415, say("api.content_type", kind=kind[:60] or "-"), "unsupported_media_type")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > LONGEST_BODY:
        raise _too_long()
    parts: list[bytes] = []
    size = 0
    stream = request.stream().__aiter__()
    while True:
        try:
            part = await asyncio.wait_for(anext(stream), BODY_SECONDS)
        except StopAsyncIteration:
            return b"".join(parts)
        except (asyncio.TimeoutError, ClientDisconnect) as error:
            raise ApiError(408, say("api.slow"), "request_timeout") from error
        size += len(part)
        if size > LONGEST_BODY:
            raise _too_long()
        parts.append(part)


def _too_long() -> ApiError:
    return ApiError(413, say("api.too_long", limit=LONGEST_BODY >> 20), "request_too_large")


def _charset(request: Request) -> str | None:
    """What the client says its text is in, where it says anything."""
    for word in request.headers.get("content-type", "").split(";")[1:]:
        name, _, value = word.strip().partition("=")
        if name.lower() == "charset":
            return value.strip("\"' ") or None
    return None


def _preview(data: bytes) -> bytes:
    image = open_picture(io.BytesIO(data)).image.copy()
    image.thumbnail((LONGEST_PREVIEW, LONGEST_PREVIEW))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def _told(request: Request, error: Exception) -> Response:
    told = of(error)
    headers = {"Retry-After": "5"} if told.status == 429 else {}
    return JSONResponse(told.body, told.status, headers)


async def _failed(request: Request, error: Exception) -> Response:
    """An error of ours. The server closes the connection after it, and says so."""
    told = await _told(request, error)
    told.headers["Connection"] = "close"
    return told


async def _told_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    if error.status_code == 405:
        told = ApiError(405, say("api.method", method=request.method, path=path), "method_not_allowed")
    else:
        told = ApiError(error.status_code, say("api.nothing_here", path=path), "not_found")
    return JSONResponse(told.body, told.status, error.headers)
