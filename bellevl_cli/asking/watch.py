"""`bellevl watch`: a folder whose new pictures are answered as they come: screenshots, scans, a phone's uploads.

What was done is written down, so that nothing is done twice: pictures that came while nobody watched are answered the
next time, those that were there before the first time are not. The folder is looked at, not listened to: that works on
every kind of disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bellevl.errors import CheckpointError, PictureError

from .. import guard
from ..exits import UsageError, describe
from ..log import open_log
from ..options import ModelOptions, SamplingOptions
from ..pictures.asked import open_asked
from ..running.session import answer_tokens, plan
from ..running.starting import settled, start, with_seed
from ..screen.clean import clean_line, typed_text
from ..screen.render import Renderer
from ..settings import private_file, state_folder
from ..words import say
from .asker import Asker
from .listing import read_endings
from .outputs import Output, choose_output
from .request import default_question, fill_template, read_question
from .schema import Form
from .wishes import AskOptions, OutputWishes

#: A picture that cannot be read is tried again for so long after it last changed: it may still be written.
PATIENCE_SECONDS = 5.0

LEAST_EVERY, MOST_EVERY = 0.1, 3600.0

#: A file as it was: modified (nanoseconds), size.
Mark = tuple[int, int]


@dataclass(frozen=True)
class WatchOptions:
    """What to watch, what to ask, where the answers go."""

    folder: Path
    question: str | None = None
    existing: bool = False
    every: float = 1.0
    copy: bool = False
    endings: str | None = None
    json: bool = False
    template: str | None = None
    params: tuple[str, ...] = ()
    schema: str | None = None
    no_log: bool = False
    model: ModelOptions = field(default_factory=ModelOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)


def run(options: WatchOptions, renderer: Renderer | None = None) -> None:
    """Until Ctrl-C. Raises UsageError and the errors of bellevl before it begins, PictureError when the folder goes."""
    guard.install()
    renderer = renderer or Renderer()
    folder = options.folder.expanduser()
    if not folder.is_dir():
        raise UsageError(say("watch.no_folder", folder=_shown(folder)))
    if not LEAST_EVERY <= options.every <= MOST_EVERY:
        raise UsageError(say("watch.every"))
    options, question = _question(options, renderer)
    form = Form.of(options.schema)
    question = form.told(question)
    chosen = plan(options.model)
    if chosen.config.visual is None:
        raise CheckpointError("model.text_only", folder=chosen.choice.folder)
    sampling = with_seed(options.sampling, chosen)
    settled(sampling, chosen)
    if chosen.choice.embedded:
        renderer.say("ask.embedded")
    watched = Folder(folder, read_endings(options.endings), question, options.existing)
    session = start(chosen, answer_tokens(chosen, sampling.max_tokens), renderer)
    renderer.say("watch.started", folder=_shown(folder))
    with open_log(not options.no_log, renderer.note) as log:
        wishes = AskOptions(sampling=sampling, output=OutputWishes(json=options.json))
        output: Output = choose_output(renderer, options.json, False, form.wanted, headers=True)
        marked = Marked(Copied(output, renderer) if options.copy else output)
        asker = Asker(session, wishes, renderer, marked, log, [], form.constraint(session))
        _watch(watched, asker, marked, question, options.every)


def _question(options: WatchOptions, renderer: Renderer) -> tuple[WatchOptions, str]:
    """(options with the template's, question)."""
    asked = read_question(options.question, ())
    asked, model, schema = fill_template(options.template, options.params, asked, options.model)
    if not asked:
        asked = default_question()
        renderer.say("ask.default_question", question=asked)
    return replace(options, model=model, schema=options.schema or schema), asked


def _watch(watched: Folder, asker: Asker, marked: Marked, question: str, every: float) -> None:
    while True:
        for path, mark in watched.new():
            try:
                asked = open_asked(str(path))
            except PictureError as error:
                if time.time() - mark[0] / 1e9 < PATIENCE_SECONDS:
                    continue  # it is still being written, perhaps
                asker.renderer.note(describe(error) or "")
            else:
                marked.done = partial(watched.done, path, mark)
                asker.ask(question, (asked,))
            watched.done(path, mark)  # what could not be read or printed is not tried for ever
        asker.renderer.stage(say("watch.waiting"))
        time.sleep(every)


class Folder:
    """Pictures of a folder and which of them were done, kept in the state folder for the next time."""

    def __init__(self, folder: Path, endings: frozenset[str], question: str, existing: bool) -> None:
        self._folder = folder
        self._endings = endings
        self._before: dict[str, Mark] = {}
        self._state = _state_file(folder, question)
        known = _read(self._state)
        self._done: dict[str, Mark] = known if known is not None else {} if existing else dict(self._look())
        self._write()

    def new(self) -> Iterator[tuple[Path, Mark]]:
        """Pictures that were not done and that did not change since the last look, oldest first."""
        marks = dict(self._look())
        steady = [name for name, mark in marks.items() if self._before.get(name) == mark != self._done.get(name)]
        self._before = marks
        for name in sorted(steady, key=lambda name: marks[name]):
            yield self._folder / name, marks[name]

    def done(self, path: Path, mark: Mark) -> None:
        self._done[path.name] = mark
        self._write()

    def _look(self) -> Iterator[tuple[str, Mark]]:
        """Raises PictureError when the folder is gone."""
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(".") or os.path.splitext(name)[1].lower() not in self._endings:
                        continue
                    if (mark := _mark(entry)) is not None:
                        yield name, mark
        except OSError as error:
            said = error.strerror or error
            raise PictureError("picture.unreadable", path=self._folder, reason=said) from error

    def _write(self) -> None:
        """A state that cannot be kept does not end the watch."""
        if self._state is None:
            return
        new = self._state.with_suffix(".part")
        try:
            private_file(new).write_text(json.dumps(self._done), encoding="ascii")
            os.replace(new, self._state)
        except OSError:
            self._state = None


class Marked:
    """An output that calls `done` with the answer's end: Ctrl-C comes before both or after both."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.done: Callable[[], object] = lambda: None

    def begin(self, name: str) -> None:
        self._output.begin(name)

    def piece(self, text: str) -> None:
        self._output.piece(text)

    def end(self, text: str, record: dict[str, object]) -> None:
        with unbroken():
            self._output.end(text, record)
            self.done()


@contextmanager
def unbroken() -> Iterator[None]:
    """A Ctrl-C inside of the block is raised behind it."""
    pressed = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


class Copied:
    """An output that also puts each answer into the clipboard."""

    def __init__(self, output: Output, renderer: Renderer) -> None:
        self._output, self._renderer = output, renderer

    def begin(self, name: str) -> None:
        self._output.begin(name)

    def piece(self, text: str) -> None:
        self._output.piece(text)

    def end(self, text: str, record: dict[str, object]) -> None:
        from ..chat.copying import copy

        self._output.end(text, record)
        if copy(text, sys.stderr) is None:
            self._renderer.say("watch.not_copied")


def _mark(entry: os.DirEntry[str]) -> Mark | None:
    """None for what is no file, or is gone already."""
    try:
        if not entry.is_file():
            return None
        status = entry.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _state_file(folder: Path, question: str) -> Path | None:
    """One for each folder and question; None where nothing can be kept."""
    name = hashlib.sha256(f"{os.path.realpath(folder)}\0{question}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    try:
        place = state_folder() / "watch"
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return place / f"{name}.json"


def _read(path: Path | None) -> dict[str, Mark] | None:
    """What was done before; None the first time."""
    if path is None:
        return None
    try:
        raw = json.loads(path.read_text(encoding="ascii"))
        return {str(name): (int(mark[0]), int(mark[1])) for name, mark in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError, IndexError):
        return None


def _shown(path: Path) -> str:
    return clean_line(typed_text(str(path)))
