"""Where the chat's lines come from: a terminal with history and completion, or a pipe. Knows no model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import is_dumb_terminal

from ..screen import typeahead
from ..screen.clean import read_text, typed_text
from ..settings import config_value, private_file, state_folder, switched_on
from ..words import say
from .completing import ChatCompleter
from .keybindings import bindings
from .slash import is_open_block

STYLE = Style.from_dict({"bottom-toolbar": "noreverse", "bottom-toolbar.text": "dim", "full": "nodim bold ansired"})


@dataclass(frozen=True)
class Hooks:
    """What the chat does while a line is typed. `attach` shows the picture that was dropped; `clipboard` shows the one
    that was copied, or gives the text that was; `bar` is (style, text) of the line below the prompt."""

    attach: Callable[[str], object]
    clipboard: Callable[[], str]
    bar: Callable[[], list[tuple[str, str]]]


class Lines(Protocol):
    """Raises EOFError at the end and KeyboardInterrupt for Ctrl-C; `pending` is then what stood on the line."""

    interactive: bool

    @property
    def pending(self) -> str: ...

    def read(self) -> str: ...

    def put(self, text: str) -> None:
        """The next line begins with `text`, which can be changed before it is sent."""
        ...

    def connect(self, hooks: Hooks) -> None: ...


class PipedLines:
    """Lines of stdin, in UTF-8 or GBK, without a prompt. A block in triple quotes is one line."""

    interactive = False
    pending = ""

    def read(self) -> str:
        text = self._line()
        while is_open_block(text):
            try:
                text += "\n" + self._line()
            except EOFError:
                break
        return text

    def put(self, text: str) -> None:
        """Nobody is there to change it."""

    def connect(self, hooks: Hooks) -> None:
        """Nobody presses a key."""

    def _line(self) -> str:
        with typeahead.lifted():  # a terminal with nothing to draw a prompt on
            line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        return read_text(line).removeprefix("\ufeff").rstrip("\r\n")


class TerminalLines:
    """Lines typed at a prompt, which is drawn where nobody redirects it.

    `plain`: no line below the prompt.
    """

    interactive = True

    def __init__(self, plain: bool = False) -> None:
        self._hooks: Hooks | None = None
        self._next = ""
        dumb = is_dumb_terminal()
        self._session: PromptSession[str] = PromptSession(
            history=open_history(),
            completer=ChatCompleter(),
            complete_while_typing=False,
            complete_in_thread=True,
            multiline=True,
            prompt_continuation=_continuation,
            key_bindings=bindings(self),
            editing_mode=EditingMode.VI if config_value("editing_mode") == "vi" else EditingMode.EMACS,
            bottom_toolbar=None if plain or dumb else self._bar,
            style=STYLE,
            tempfile_suffix=".md",
            output=None if dumb else create_output(stdout=sys.stdout if sys.stdout.isatty() else sys.stderr),
        )

    @property
    def pending(self) -> str:
        return self._session.default_buffer.text

    @property
    def hooks(self) -> Hooks | None:
        return self._hooks

    def read(self) -> str:
        text, self._next = self._next, ""
        return typed_text(self._session.prompt(say("chat.prompt"), default=text))

    def put(self, text: str) -> None:
        self._next = text

    def connect(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def _bar(self) -> Any:
        return [] if self._hooks is None else self._hooks.bar()


def _continuation(width: int, line: int, wrapped: int) -> str:
    """What stands before the second line and those after it."""
    return " " * (width - 2) + "… "[:width]


class ChatHistory(FileHistory):
    """Lines of earlier chats. A line that starts with a space is not written down; a full disk ends no chat."""

    def store_string(self, string: str) -> None:
        if not string.startswith(" "):
            with suppress(OSError):
                super().store_string(typed_text(string))


def open_history() -> History:
    """This user's history, or one that is forgotten (BELLEVL_NOHISTORY, or a folder that cannot be written)."""
    if switched_on("BELLEVL_NOHISTORY"):
        return InMemoryHistory()
    try:
        return ChatHistory(str(private_file(state_folder() / "history")))
    except OSError:
        return InMemoryHistory()


def open_lines(plain: bool = False) -> Lines:
    """A prompt where a person sits on both ends, else the lines of stdin."""
    if sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty()):
        return TerminalLines(plain)
    return PipedLines()
