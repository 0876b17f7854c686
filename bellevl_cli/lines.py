"""Where the chat's lines come from: a terminal with history and completion, or a pipe. Knows no model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output

from .commands import COMMANDS, find
from .settings import private_file, state_folder
from .words import say

#: Endings offered after /img. What opens is told by content; this only keeps the list short.
PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".ico"}
    | {".heic", ".heif"}
)


class Lines(Protocol):
    """Raises EOFError at the end and KeyboardInterrupt for Ctrl-C; `pending` is then what stood on the line."""

    interactive: bool

    @property
    def pending(self) -> str: ...

    def read(self) -> str: ...


class PipedLines:
    """Lines of stdin, without a prompt."""

    interactive = False
    pending = ""

    def read(self) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")


class TerminalLines:
    """Lines typed at a prompt, which is drawn where nobody redirects it."""

    interactive = True

    def __init__(self) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=open_history(),
            completer=ChatCompleter(),
            complete_while_typing=False,
            complete_in_thread=True,
            output=create_output(stdout=sys.stdout if sys.stdout.isatty() else sys.stderr),
        )

    @property
    def pending(self) -> str:
        return self._session.default_buffer.text

    def read(self) -> str:
        return self._session.prompt(say("chat.prompt"))


class ChatHistory(FileHistory):
    """Lines of earlier chats. A line that starts with a space is not written down."""

    def store_string(self, string: str) -> None:
        if not string.startswith(" "):
            super().store_string(string)


class ChatCompleter(Completer):
    """Commands behind a slash, folders and pictures behind /img."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True, file_filter=is_offered)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith(("/", "\N{FULLWIDTH SOLIDUS}")):
            return
        name, space, rest = text[1:].partition(" ")
        if not space:
            yield from _command_completions(name)
        elif (row := find(name)) is not None and row.name == "img":
            yield from self._paths.get_completions(Document(rest, len(rest)), complete_event)


def _command_completions(start: str) -> Iterable[Completion]:
    for row in COMMANDS.values():
        for name in (row.name, *row.aliases):
            if name.startswith(start):
                yield Completion(name, start_position=-len(start), display=f"/{name}", display_meta=row.summary)
                break


def is_offered(name: str) -> bool:
    """Folders and files that look like pictures."""
    return os.path.isdir(name) or Path(name).suffix.lower() in PICTURE_ENDINGS


def open_history() -> History:
    """This user's history, or one that is forgotten (BELLEVL_NOHISTORY, or a folder that cannot be written)."""
    if os.environ.get("BELLEVL_NOHISTORY"):
        return InMemoryHistory()
    try:
        return ChatHistory(str(private_file(state_folder() / "history")))
    except OSError:
        return InMemoryHistory()


def open_lines() -> Lines:
    """A prompt where a person sits on both ends, else the lines of stdin."""
    if sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty()):
        return TerminalLines()
    return PipedLines()
