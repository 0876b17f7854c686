"""Keys of the chat's prompt beyond those of every prompt: more lines, pasting, dropping, the external editor.

Knows the line being typed, not what it means to the chat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.filters import emacs_mode, has_selection, vi_navigation_mode
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys

from ..pictures.asked import is_picture_name, is_picture_path
from .slash import is_open_block

if TYPE_CHECKING:
    from .lines import TerminalLines


def bindings(lines: TerminalLines) -> KeyBindings:
    """The keys; what they do beyond the line they leave to `lines.hooks`."""
    keys = KeyBindings()
    keys.add("enter")(_enter)
    keys.add("escape", "enter")(_new_line)
    keys.add("c-j")(_new_line)
    keys.add("c-x", "c-e", filter=emacs_mode & ~has_selection)(_open_editor)
    keys.add("v", filter=vi_navigation_mode)(_open_editor)
    keys.add(Keys.BracketedPaste)(_paste(lines))
    keys.add("c-v")(_clipboard(lines))
    return keys


def is_dropped(line: str, pasted: str) -> bool:
    """Whether `pasted` into `line` is a picture that was dragged here, not text.

    Behind a command it is the command's path; among words a bare file name is a word.
    """
    if line.lstrip().startswith(("/", "\N{FULLWIDTH SOLIDUS}")) or not is_picture_path(pasted):
        return False
    return "/" in pasted or "\\" in pasted or (not line.strip() and is_picture_name(pasted))


def _enter(event: KeyPressEvent) -> None:
    """Sends the line; inside a block in triple quotes it adds one."""
    buffer = event.current_buffer
    if is_open_block(buffer.text):
        buffer.newline()
    else:
        buffer.validate_and_handle()


def _new_line(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")


def _open_editor(event: KeyPressEvent) -> None:
    """$VISUAL or $EDITOR with the line; what comes back is sent with Enter, not by itself."""
    event.current_buffer.open_in_editor(validate_and_handle=False)


def _paste(lines: TerminalLines) -> Callable[[KeyPressEvent], None]:
    def handler(event: KeyPressEvent) -> None:
        pasted = event.data.replace("\r\n", "\n").replace("\r", "\n")
        hooks = lines.hooks
        if hooks is not None and is_dropped(event.current_buffer.text, pasted.strip()):
            run_in_terminal(lambda: hooks.attach(pasted.strip()))
        else:
            event.current_buffer.insert_text(pasted)

    return handler


def _clipboard(lines: TerminalLines) -> Callable[[KeyPressEvent], None]:
    def handler(event: KeyPressEvent) -> None:
        hooks, buffer = lines.hooks, event.current_buffer
        if hooks is not None:
            run_in_terminal(lambda: buffer.insert_text(hooks.clipboard()))

    return handler
