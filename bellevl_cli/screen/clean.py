"""Text from a model, a file name or a file, made safe to show: no escape sequence reaches the terminal.

An answer comes in pieces and a sequence may be cut between two of them, so `Cleaner` keeps its place.
Knows no stream and no terminal.
"""

from __future__ import annotations

import codecs
import json
import locale
import os
import re
from enum import Enum, auto
from typing import Any

#: They reorder what is shown around them and are invisible themselves.
BIDI_CONTROLS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

#: In JSON these are written as escapes: characters that steer a terminal, end a line, or are half a character.
_ESCAPED = re.compile(f"[\x7f-\x9f{''.join(BIDI_CONTROLS)}\u2028\u2029\ud800-\udfff]")

#: After ESC: these start a string that runs to BEL or ST (OSC, DCS, SOS, PM, APC), as do their one-byte forms.
STRING_STARTS = frozenset("]PX^_")
STRING_STARTS_C1 = frozenset("\x9d\x90\x98\x9e\x9f")


class _Place(Enum):
    TEXT = auto()
    ESCAPE = auto()  # behind ESC
    CSI = auto()  # behind ESC [
    STRING = auto()  # inside OSC and its kind
    STRING_ESCAPE = auto()  # behind ESC inside one


class Cleaner:
    """Takes text in pieces, gives it back without escape sequences, control and bidi characters.

    Line feed and tab stay. A sequence that a line end breaks off is over: nothing behind it is lost.
    """

    def __init__(self) -> None:
        self._place = _Place.TEXT

    def push(self, text: str) -> str:
        return "".join(kept for c in text if (kept := self._take(c)))

    def _take(self, c: str) -> str:
        """What stays of `c` at this place: itself or nothing."""
        if c == "\n":
            self._place = _Place.TEXT
            return c
        if self._place is _Place.TEXT:
            return self._take_text(c)
        self._place = self._next(c)
        return ""

    def _take_text(self, c: str) -> str:
        if c == "\x1b":
            self._place = _Place.ESCAPE
        elif c == "\x9b":
            self._place = _Place.CSI
        elif c in STRING_STARTS_C1:
            self._place = _Place.STRING
        elif c == "\t" or not (is_control(c) or c in BIDI_CONTROLS):
            return c
        return ""

    def _next(self, c: str) -> _Place:
        """Where `c`, part of a sequence, leads."""
        if self._place is _Place.ESCAPE:
            if c == "[":
                return _Place.CSI
            if c in STRING_STARTS:
                return _Place.STRING
            return _Place.ESCAPE if "\x20" <= c <= "\x2f" else _Place.TEXT
        if self._place is _Place.CSI:
            return _Place.CSI if "\x20" <= c <= "\x3f" else _Place.TEXT
        if self._place is _Place.STRING_ESCAPE and c == "\\":
            return _Place.TEXT
        if c in ("\x07", "\x9c"):
            return _Place.TEXT
        return _Place.STRING_ESCAPE if c == "\x1b" else _Place.STRING


class AnswerText:
    """An answer as it streams: clean, no white space before it or after it.

    White space is held back until something follows, so what was given out is always the text's beginning.
    """

    def __init__(self) -> None:
        self._cleaner = Cleaner()
        self._held = ""
        self.text = ""

    def push(self, piece: str) -> str:
        """What of `piece` can be shown now."""
        new = self._held + self._cleaner.push(piece)
        shown = new.rstrip()
        self._held = new[len(shown) :]
        if not self.text:
            shown = shown.lstrip()
            self._held = self._held if shown else ""
        self.text += shown
        return shown


def is_control(c: str) -> bool:
    return c < "\x20" or "\x7f" <= c <= "\x9f"


def clean(text: str) -> str:
    """A whole text at once, line ends kept."""
    return Cleaner().push(text)


def clean_line(text: str) -> str:
    """One line: for names and messages, where a line end would fake a second message."""
    return clean(" ".join(text.split()))


def json_line(value: Any) -> str:
    """`value` in one line of JSON that reads the same everywhere and steers no terminal."""
    return _ESCAPED.sub(lambda c: f"\\u{ord(c[0]):04x}", json.dumps(value, ensure_ascii=False))


def typed_text(argument: str) -> str:
    """Words as they were typed: where the locale could not read them, they come as bytes."""
    if not any("\ud800" <= c <= "\udfff" for c in argument):
        return argument
    try:
        return read_text(os.fsencode(argument))
    except UnicodeEncodeError:  # read as UTF-8 where the locale is another
        return read_text(argument.encode("utf-8", "surrogateescape"))


class _Input:
    """The encoding that a person says their text has (`--encoding`); None: found out."""

    encoding: str | None = None


def set_encoding(name: str) -> bool:
    """What text on stdin is read as from now on. False for an encoding of text that Python does not have."""
    try:
        if not codecs.lookup(name)._is_text_encoding:
            return False
    except (LookupError, ValueError, UnicodeError):
        return False
    _Input.encoding = name
    return True


def read_text(raw: bytes) -> str:
    """Text in the encoding that was asked for, else in UTF-8, the locale's encoding or GBK, whichever can read it."""
    if _Input.encoding is not None:
        return raw.decode(_Input.encoding, "replace")
    for encoding in ("utf-8", locale.getpreferredencoding(False), "gb18030"):
        try:
            return raw.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return raw.decode("utf-8", "replace")
