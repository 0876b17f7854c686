"""What a script wants of an answer: its JSON, its first line, its number, or whether it is the one expected."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

_FIGURE = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?|[-−]?\.\d+")
_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "俩": 2, "仨": 3}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_CHINESE = re.compile(f"[{''.join([*_DIGITS, *_UNITS, *_MYRIADS])}]+")


def first_json(text: str) -> str | None:
    """The first object or list of the answer, in one line; what stands around it (a fence, a sentence) is left out."""
    decoder = json.JSONDecoder()
    for start in (found.start() for found in re.finditer(r"[{\[]", text)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        return json.dumps(value, ensure_ascii=False)
    return None


def first_line(text: str) -> str | None:
    return next((line.strip() for line in text.splitlines() if line.strip()), None)


def first_number(text: str) -> str | None:
    """The first number in figures, else in Chinese words (两百五 is 250), as plain figures."""
    text = unicodedata.normalize("NFKC", text)
    if found := _FIGURE.search(text):
        return _plain(found[0])
    found = _CHINESE.search(text)
    return None if found is None else str(_chinese(found[0]))


EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "json": first_json,
    "first-line": first_line,
    "number": first_number,
}


def meets(text: str, expected: str) -> bool:
    """Whether an answer is the expected one: it begins with it, as a word, whatever its case and width.

    /…/ is a regular expression that is looked for anywhere. Raises re.error for one that is none.
    """
    if len(expected) > 2 and expected.startswith("/") and expected.endswith("/"):
        return re.search(expected[1:-1], text, re.IGNORECASE | re.DOTALL) is not None
    wanted, found = _folded(expected), _folded(text)
    if not found.startswith(wanted):
        return False
    behind = found[len(wanted) : len(wanted) + 1]
    return not (_in_a_word(wanted[-1:]) and _in_a_word(behind))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip().lstrip("\"'“‘「*_ ")


def _in_a_word(c: str) -> bool:
    """Letters and digits of scripts that put spaces between words."""
    return c.isalnum() and not "\u2e80" <= c <= "\u9fff"


def _plain(figures: str) -> str:
    plain = figures.replace("−", "-").replace(",", "")
    return plain.replace("-.", "-0.", 1) if plain.startswith("-.") else ("0" + plain if plain[0] == "." else plain)


def _chinese(words: str) -> int:
    """十二 12, 两百零三 203, 三万五 35000, 二〇二四 2024."""
    if all(c in _DIGITS for c in words):
        return int("".join(str(_DIGITS[c]) for c in words))
    total, section, digit, unit = 0, 0, 0, 10
    fresh = False  # a digit that waits for its unit
    for c in words:
        if c in _DIGITS:
            digit, fresh = _DIGITS[c], _DIGITS[c] != 0
            unit = 10 if _DIGITS[c] == 0 else unit
        elif c in _UNITS:
            section += (digit if fresh else 1) * _UNITS[c]
            digit, fresh, unit = 0, False, _UNITS[c]
        else:
            total = (total + section + digit) * _MYRIADS[c]
            section, digit, fresh, unit = 0, 0, False, _MYRIADS[c]
    # "三百五" is 350: a last digit alone counts in tenths of the unit before it, but for tens.
    return total + section + (digit * unit // 10 if fresh else 0)
