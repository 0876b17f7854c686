"""Where the chat's lines come from: a terminal with history and completion, or a pipe. Knows no model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output
from prompt_toolkit.utils import is_dumb_terminal

from ..pictures.asked import is_picture_name
from ..screen.clean import read_text, typed_text
from ..settings import private_file, state_folder, switched_on
from ..words import say
from .slash import COMMANDS, find


class Lines(Protocol):
    """Raises EOFError at the end and KeyboardInterrupt for Ctrl-C; `pending` is then what stood on the line."""

    interactive: bool

    @property
    def pending(self) -> str: ...

    def read(self) -> str: ...

    def unechoed(self) -> AbstractContextManager[None]:
        """While something is answered: what is typed ahead is kept for the next line and not mixed into the answer."""
        ...


class PipedLines:
    """Lines of stdin, in UTF-8 or GBK, without a prompt."""

    interactive = False
    pending = ""

    def read(self) -> str:
        line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        return read_text(line).removeprefix("\ufeff").rstrip("\r\n")

    def unechoed(self) -> AbstractContextManager[None]:
        return nullcontext()


class TerminalLines:
    """Lines typed at a prompt, which is drawn where nobody redirects it."""

    interactive = True

    def __init__(self) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=open_history(),
            completer=ChatCompleter(),
            complete_while_typing=False,
            complete_in_thread=True,
            output=None
            if is_dumb_terminal()
            else create_output(stdout=sys.stdout if sys.stdout.isatty() else sys.stderr),
        )

    @property
    def pending(self) -> str:
        return self._session.default_buffer.text

    def read(self) -> str:
        return typed_text(self._session.prompt(say("chat.prompt")))

    @contextmanager
    def unechoed(self) -> Iterator[None]:
        try:
            import termios
        except ImportError:  # no such terminals on this system
            yield
            return
        before = termios.tcgetattr(sys.stdin)
        silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        termios.tcsetattr(sys.stdin, termios.TCSANOW, silent)
        try:
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


class ChatHistory(FileHistory):
    """Lines of earlier chats. A line that starts with a space is not written down; a full disk ends no chat."""

    def store_string(self, string: str) -> None:
        if not string.startswith(" "):
            with suppress(OSError):
                super().store_string(typed_text(string))


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
    return os.path.isdir(name) or is_picture_name(name)


def open_history() -> History:
    """This user's history, or one that is forgotten (BELLEVL_NOHISTORY, or a folder that cannot be written)."""
    if switched_on("BELLEVL_NOHISTORY"):
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
