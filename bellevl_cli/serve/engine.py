"""The model of a server: one thread that answers one request at a time, the others in a queue. Knows no HTTP.

A job's events come into the server's own thread. Whoever leaves, leaves the queue; a running answer stops at the next
token.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bellevl.image import Picture, open_picture

from ..running.session import Session
from ..words import say
from .api_errors import ApiError
from .requests import ChatRequest, StopFinder

if TYPE_CHECKING:
    from bellevl.chat import Stats

#: More requests than this do not wait: they are told to come back.
MOST_WAITING = 16

#: Pictures whose features are kept: the next question about one is answered sooner.
KEPT_FEATURES = 8

#: Seconds between two words about the place in the queue.
WAITING_SECONDS = 1.0


@dataclass(frozen=True)
class Waiting:
    """So many requests are before this one."""

    ahead: int


@dataclass(frozen=True)
class Begun:
    """The request was found in order, and the model is at it."""


@dataclass(frozen=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class End:
    """The answer is over: "stop", "length" or "interrupted". `size` is the picture's, upright."""

    finish_reason: str
    text: str
    stats: Stats
    size: tuple[int, int] | None


Event = Waiting | Begun | Text | End


class Job:
    """One request on its way. `ahead` is read and `_events` filled in the server's thread only."""

    def __init__(self, request: ChatRequest, picture: Picture | None) -> None:
        self.request, self.picture = request, picture
        self.stopped = threading.Event()
        self._events: asyncio.Queue[Event | BaseException] = asyncio.Queue()


class Engine:
    """The queue before a model."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._jobs: list[Job] = []
        self._features: OrderedDict[str, Any] = OrderedDict()
        self._system = session.chat.system
        self.answered = 0

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    @property
    def waiting(self) -> int:
        """Requests that wait behind the one that is answered."""
        return max(0, len(self._jobs) - 1)

    async def submit(self, request: ChatRequest) -> Job:
        """Opens the request's picture and puts it into the queue. Raises ApiError, PictureError, PromptError."""
        if self.waiting >= MOST_WAITING:
            raise ApiError(429, say("api.busy", waiting=self.waiting), "queue_full")
        picture = None
        if request.picture is not None:
            picture = await asyncio.to_thread(open_picture, io.BytesIO(request.picture))
        self._check(request)
        job = Job(request, picture)
        self._jobs.append(job)
        loop = asyncio.get_running_loop()
        self._thread.submit(self._run, job, loop)
        return job

    async def events(self, job: Job) -> AsyncIterator[Event]:
        """What becomes of `job`, to its end. Raises what the answer raised. Leaving it stops the job."""
        try:
            while True:
                if ahead := self._ahead(job):
                    yield Waiting(ahead)
                try:
                    event = await asyncio.wait_for(job._events.get(), WAITING_SECONDS if ahead else None)
                except asyncio.TimeoutError:
                    continue
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, End):
                    return
        finally:
            self.leave(job)

    def leave(self, job: Job) -> None:
        """Nobody waits for `job` any more."""
        job.stopped.set()
        if job in self._jobs[1:]:  # the running one leaves when the model has let go of it
            self._jobs.remove(job)

    def close(self) -> None:
        """Stops everything; returns when the model's thread is over."""
        for job in self._jobs:
            job.stopped.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _check(self, request: ChatRequest) -> None:
        """Wrong settings are told before the queue is stood in."""
        from bellevl.sampling import Sampling

        Sampling.of(self.session.plan.generation, **request.sampling)

    def _ahead(self, job: Job) -> int:
        return self._jobs.index(job) if job in self._jobs else 0

    def _run(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """In the model's thread: one answer, its events handed over to the server's."""

        def tell(event: Event | BaseException) -> None:
            loop.call_soon_threadsafe(job._events.put_nowait, event)

        try:
            if not job.stopped.is_set():
                self._answer(job, tell)
        except BaseException as error:  # whatever it was, the client is told and the next one is served
            _try(tell, error)
        finally:
            _try(loop.call_soon_threadsafe, self._done, job)

    def _done(self, job: Job) -> None:
        self.answered += 1
        if job in self._jobs:
            self._jobs.remove(job)

    def _answer(self, job: Job, tell: Any) -> None:
        request, chat = job.request, self.session.chat
        stop = StopFinder(request.stops)
        said: list[str] = []
        pieces = self._pieces(job, stop)
        tell(Begun())
        for piece in pieces:
            if text := stop.push(piece.text):
                said.append(text)
                tell(Text(text))
            if piece.finish_reason is not None:
                assert piece.stats is not None
                if rest := stop.flush():
                    said.append(rest)
                    tell(Text(rest))
                reason = "stop" if stop.found else piece.finish_reason
                size = None if job.picture is None else job.picture.size
                tell(End(reason, "".join(said), piece.stats, size))
        self._keep_features(request, chat.dialogue().features)

    def _pieces(self, job: Job, stop: StopFinder) -> Any:
        """The chat set back to the request's dialogue, and its answer. The chat belongs to the model's thread."""
        from bellevl.chat import Dialogue
        from bellevl.prompt import Turn

        request, chat = job.request, self.session.chat
        turns = tuple(Turn(turn.question, turn.answer, int(turn.pictured)) for turn in request.history)
        chat.system = self._system if request.system is None else request.system
        chat.go_back(Dialogue(job.picture, turns, self._features.get(_digest(request))))
        return chat.stream(request.question, stop=lambda: job.stopped.is_set() or stop.found, **request.sampling)

    def _keep_features(self, request: ChatRequest, features: Any) -> None:
        if request.picture is not None and features is not None:
            self._features[_digest(request)] = features
            self._features.move_to_end(_digest(request))
            while len(self._features) > KEPT_FEATURES:
                self._features.popitem(last=False)


def _digest(request: ChatRequest) -> str:
    return "" if request.picture is None else hashlib.sha256(request.picture).hexdigest()


def _try(call: Any, *arguments: Any) -> None:
    """A server that has ended has no thread to tell."""
    try:
        call(*arguments)
    except RuntimeError:
        return
