"""Punctuation of a Chinese answer as it is shown: full width between Chinese characters, as it came in code.

Only for a person's eyes: pipes, files, JSON, the log and what is copied keep what the model wrote. A mark waits for the
character behind it. What stands in quotation marks was perhaps read off a picture, and stays. Knows no stream.
"""

from __future__ import annotations

import re
import string

#: Half width -> full width, behind a Chinese character.
FULL = {",": "，", ".": "。", "!": "！", "?": "？", ";": "；", ":": "："}

#: A quotation is from one to the other, and no longer than its line.
QUOTES = {"“": "”", "「": "」", "『": "』", "《": "》", '"': '"'}

_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_WORD = re.compile(r"[A-Za-z]{2,}")

#: Chinese, and what closes something in Chinese text.
_BEFORE = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff”」』》）】*`]")

_LATIN_BEFORE = frozenset(string.ascii_letters + string.digits + ")]%")

#: Followed by these a mark is the sentence's; a Latin letter or digit there may make it part of a name or number.
_AFTER = re.compile(r"[\s\"'*_)\]}~“”‘’「」『』《》（）【】]|[^\x00-\x7f]")

#: "一." begins an item of a list.
_ITEM = re.compile(r"\s*(?:[-*+#>]+\s*)*[一二三四五六七八九十百]+")

_FENCE = re.compile(r" {0,3}(```|~~~)")


class FullWidth:
    """Takes an answer in pieces, gives what can be shown. How it is cut into pieces makes no difference."""

    def __init__(self) -> None:
        self._line = ""  # as the model wrote it, up to where it was shown
        self._held = ""  # a mark, and perhaps the blank behind it
        self._fenced = False
        self._ticks = 0  # around code in a line
        self._run = 0  # ticks just now
        self._quoted = ""  # what ends the quotation
        self._open = 0  # brackets that were made full-width and are not closed

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def push(self, text: str) -> str:
        """What can be shown now."""
        return "".join([self._take(c) for c in text])

    def flush(self) -> str:
        """What was held."""
        return self._settle("\n") if self._held else ""

    def _take(self, c: str) -> str:
        self._count_ticks(c)
        shown = self._settle(c) if self._held else ""
        if self._held:  # it waits still
            return shown
        if c == "\n":
            self._end_line()
            return shown + c
        if self._prose and self._may_change(c):
            self._held = c
            return shown
        self._note(c)
        if c == ")" and self._open and self._prose:
            self._open -= 1
            c = "）"
        self._line += c
        return shown + c

    @property
    def _prose(self) -> bool:
        return not (self._fenced or self._ticks or self._quoted) and not _FENCE.match(self._line)

    def _may_change(self, c: str) -> bool:
        """Whether what follows `c` decides about it."""
        if c == "(":
            return not self._line.endswith(("]", "\\"))
        before = self._line[-1:]
        return c in FULL and (bool(_BEFORE.match(before)) or before in _LATIN_BEFORE) and self._is_chinese()

    def _is_chinese(self) -> bool:
        """Whether the line is, so far: a Chinese word in an English sentence changes nothing."""
        chinese = len(_CHINESE.findall(self._line))
        return chinese > 0 and chinese >= len(_WORD.findall(self._line))

    def _settle(self, c: str) -> str:
        """What is held, now that `c` follows; "" where the next character is needed, too."""
        if c == " " and len(self._held) == 1 and self._held != "(":
            self._held += c
            return ""
        held, self._held = self._held, ""
        mark, blank = held[0], held[1:]
        if mark == "(":
            full = _CHINESE.match(c) is not None and (not self._line.strip() or self._is_chinese())
            self._open += full
            shown = "（" if full else held
        else:
            shown = FULL[mark] if self._ends_phrase(mark, blank, c) else held
        self._line += held
        return shown

    def _ends_phrase(self, mark: str, blank: str, c: str) -> bool:
        """Whether `mark`, with `blank` and `c` behind it, belongs to the Chinese sentence."""
        if not _BEFORE.match(self._line[-1:]):  # behind a number or a name only what follows can tell
            return mark != "." and _CHINESE.match(c) is not None
        if mark == "." and (_ITEM.fullmatch(self._line) or (blank and not _AFTER.match(c))):
            return False
        if blank or _AFTER.match(c):
            return True
        return mark in ",:;!" and c.isalnum()

    def _note(self, c: str) -> None:
        """Where quotations begin and end."""
        if self._quoted:
            self._quoted = "" if c == self._quoted else self._quoted
        elif not self._ticks:
            self._quoted = QUOTES.get(c, "")

    def _count_ticks(self, c: str) -> None:
        """Code in a line is between two runs of ticks of the same length."""
        if c == "`":
            self._run += 1
        elif self._run:
            if self._ticks in (0, self._run):
                self._ticks = self._run - self._ticks
            self._run = 0

    def _end_line(self) -> None:
        if _FENCE.match(self._line):
            self._fenced = not self._fenced
        self._line, self._quoted = "", ""
        self._ticks = self._run = self._open = 0
