"""What Tab offers: commands behind a slash, and behind a command what it takes. Reads folders and the commands' table.

It runs in a thread, so a slow folder does not hold up typing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from bellevl.picture_files import QUOTES

from ..pictures.asked import is_picture_name
from ..running.preflight import readable_bytes
from ..screen.clean import clean_line, typed_text
from .parameters import PARAMETERS
from .slash import COMMANDS, find

#: Entries of a folder that are looked at, and of these pictures whose size in pixels is.
MOST_ENTRIES, MOST_SIZES = 20_000, 200

#: Words for a piece of a picture, and for all of it.
PLACES = ("左上", "右上", "左下", "右下", "左", "右", "上", "下", "中", "top-left", "top-right", "bottom-left",
          "bottom-right", "left", "right", "top", "bottom", "centre", "off")  # fmt: skip


class ChatCompleter(Completer):
    """Completion of a whole line."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith(("/", "\N{FULLWIDTH SOLIDUS}")) or "\n" in text:
            return
        name, space, rest = text[1:].partition(" ")
        if not space:
            yield from complete_command(name)
        elif (row := find(name)) is not None and row.takes in OFFERS:
            yield from OFFERS[row.takes](rest.lstrip())


def complete_command(start: str) -> Iterator[Completion]:
    """Each command once: by its name, else by the alias that was begun."""
    for row in COMMANDS.values():
        for name in (row.name, *row.aliases):
            if name.startswith(start):
                yield Completion(name, start_position=-len(start), display=f"/{name}", display_meta=row.summary)
                break


def complete_picture(start: str) -> Iterator[Completion]:
    """Folders and pictures, newest first; the note is a picture's size."""
    close = QUOTES.get(start[:1], "")
    typed = start[1:] if close else start
    folder, beginning = os.path.split(typed)
    entries = _entries(os.path.expanduser(folder) or ".", beginning)
    for number, entry in enumerate(entries):
        name = typed_text(entry.name)
        ending = "/" if entry.is_dir() else close
        note = "" if entry.is_dir() else _size(entry, pixels=number < MOST_SIZES)
        yield Completion(
            name + ending,
            start_position=-len(beginning),
            display=clean_line(name) + ending.replace(close or "\0", ""),
            display_meta=note,
        )


def _entries(folder: str, beginning: str) -> list[os.DirEntry[str]]:
    """Folders and pictures whose names begin so; hidden ones only where that was typed."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for _, entry in zip(range(MOST_ENTRIES), found, strict=False) if _fits(entry, beginning)]
    except OSError:
        return []
    return sorted(entries, key=_modified, reverse=True)


def _fits(entry: os.DirEntry[str], beginning: str) -> bool:
    if not entry.name.lower().startswith(beginning.lower()) or (entry.name[0] == "." and not beginning):
        return False
    try:
        return entry.is_dir() or is_picture_name(entry.name)
    except OSError:
        return False


def _modified(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0


def _size(entry: os.DirEntry[str], pixels: bool) -> str:
    """ "1920×1080 2.1 MB": the first from the file's head, where it can be read."""
    from PIL import Image

    try:
        size = readable_bytes(entry.stat().st_size)
    except OSError:
        return ""
    if not pixels:
        return size
    try:
        with Image.open(entry.path) as image:
            return f"{image.width}×{image.height} {size}"
    except Exception:  # Pillow raises anything for a broken file; completion is no place to say so
        return size


def _complete_words(words: Callable[[], Iterable[tuple[str, str]]]) -> Callable[[str], Iterator[Completion]]:
    """Completion by (word, note)."""

    def offer(start: str) -> Iterator[Completion]:
        for word, note in words():
            if word.lower().startswith(start.lower()):
                yield Completion(word, start_position=-len(start), display_meta=note)

    return offer


def _parameters() -> Iterator[tuple[str, str]]:
    yield from ((p.name, "") for p in PARAMETERS)
    yield from (("system", ""), ("reset", ""))


def _commands() -> Iterator[tuple[str, str]]:
    return ((row.name, row.summary) for row in COMMANDS.values())


def _sessions() -> Iterator[tuple[str, str]]:
    """Dialogues that were kept: names first, for they were given to be typed."""
    from bellevl.errors import LogError

    from ..log import open_kept

    try:
        with open_kept() as log:
            threads = log.threads(100)
    except LogError:
        return
    for thread in sorted(threads, key=lambda thread: thread.name is None):
        yield thread.name or thread.id, clean_line(f"{thread.picture_name or ''} {thread.question}")[:40]


def _reports(start: str) -> Iterator[Completion]:
    """An ending for a name."""
    if start and not Path(start).suffix:
        for ending in (".html", ".md"):
            yield Completion(ending, display=start + ending)


#: What a command takes -> what is offered for its beginning.
OFFERS: dict[str, Callable[[str], Iterator[Completion]]] = {
    "picture": complete_picture,
    "parameter": _complete_words(_parameters),
    "command": _complete_words(_commands),
    "session": _complete_words(_sessions),
    "report": _reports,
    "place": _complete_words(lambda: ((word, "") for word in PLACES)),
    "switch": _complete_words(lambda: (("on", ""), ("off", ""))),
}
