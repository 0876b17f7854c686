"""Boxes in answers: `<ref>label</ref><box>(x1,y1),(x2,y2)</box>`, in thousandths of a picture's sides.

One scanner reads an answer as a whole or as it streams: it shows `label[1]` for the markup and collects the
boxes. A model's box that makes no sense is listed, never an error. Knows no tokens and no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Coordinates are thousandths of the picture's sides; 1000 is the far edge.
FULL = 1000

#: No coordinates are longer. What is, was never a box, and is shown as text.
LONGEST_COORDINATES = 80

_TAG = re.compile(r"</?(?:ref|box|quad)>")
_TAGS = tuple(f"<{slash}{name}>" for name in ("ref", "box", "quad") for slash in ("", "/"))
_POINT = r"\(([0-9]{1,4}),([0-9]{1,4})\)"
_POINTS = {"box": re.compile(",".join([_POINT] * 2)), "quad": re.compile(",".join([_POINT] * 4))}
_PLAIN = str.maketrans("（），、", "(),,", " \t\r\n\N{IDEOGRAPHIC SPACE}")
_PICTURE = re.compile(r"<img>(.*?)</img>", re.DOTALL)


@dataclass(frozen=True)
class Box:
    """One box of an answer; `label` is "" where it names none. `norm` is x1, y1, x2, y2 in thousandths."""

    label: str
    norm: tuple[int, int, int, int]

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in a picture of that size, rounded down as in the published code."""
        x1, y1, x2, y2 = self.norm
        return (
            int(x1 / FULL * width),
            int(y1 / FULL * height),
            int(x2 / FULL * width),
            int(y2 / FULL * height),
        )


@dataclass(frozen=True)
class Grounding:
    """An answer as a person reads it (`text`), its boxes ([1] is boxes[0]), and markup that made no sense."""

    text: str
    boxes: tuple[Box, ...] = ()
    malformed: tuple[str, ...] = ()


class MarkupFilter:
    """Turns an answer's markup into `label[1]` as the text streams. Never shows a part of a tag.

    `boxes` and `malformed` grow as the text goes by; how it was cut into pieces makes no difference.
    """

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.malformed: list[str] = []
        self._held = ""  # the beginning of a tag, perhaps
        self._inside = ""  # "ref", "box", "quad" or "" (plain text)
        self._label = ""  # of the latest ref, while only white space and boxes follow it
        self._coordinates = ""

    def push(self, text: str) -> str:
        """What of `text`, and of what was held before, can be shown now."""
        self._held += text
        shown = []
        while tag := _TAG.search(self._held):
            before, self._held = self._held[: tag.start()], self._held[tag.end() :]
            shown.append(self._consume(before))
            shown.append(self._turn(tag[0]))
        held = _beginning_of_tag(self._held)
        shown.append(self._consume(self._held[: len(self._held) - held]))
        self._held = self._held[len(self._held) - held :]
        return "".join(shown)

    def flush(self) -> str:
        """The end of the answer: what was held and was no tag after all."""
        shown = self._consume(self._held)
        self._held = ""
        self._drop_unclosed()
        return shown

    def _consume(self, text: str) -> str:
        """Text between tags: shown, or collected as coordinates."""
        if self._inside in _POINTS:
            self._coordinates += text
            if len(self._coordinates) <= LONGEST_COORDINATES:
                return ""
            text = self._coordinates
            self.malformed.append(f"<{self._inside}>{text[:LONGEST_COORDINATES]}")
            self._inside = self._label = ""
        elif self._inside == "ref":
            self._label += text
        elif text.strip():
            self._label = ""
        return text

    def _turn(self, tag: str) -> str:
        """A tag goes by; a closed box leaves its number."""
        name = tag.strip("</>")
        if tag.startswith("</"):
            closes = self._inside == name
            self._inside = "" if closes else self._inside
            return self._close(name) if closes and name in _POINTS else ""
        self._drop_unclosed()
        self._inside = name
        self._coordinates = ""
        if name == "ref":
            self._label = ""
        return ""

    def _close(self, name: str) -> str:
        norm = _rectangle(self._coordinates, name)
        if norm is None:
            self.malformed.append(f"<{name}>{self._coordinates}</{name}>")
            return ""
        self.boxes.append(Box(self._label, norm))
        return f"[{len(self.boxes)}]"

    def _drop_unclosed(self) -> None:
        if self._inside in _POINTS:
            self.malformed.append(f"<{self._inside}>{self._coordinates}")
        elif self._inside == "ref":
            self.malformed.append(f"<ref>{self._label}")
        self._inside = ""


def read_grounding(answer: str) -> Grounding:
    """The boxes of a whole answer, and the answer without markup."""
    markup = MarkupFilter()
    text = markup.push(answer) + markup.flush()
    return Grounding(text, tuple(markup.boxes), tuple(markup.malformed))


def latest_picture(response: str, questions: Sequence[str]) -> str | None:
    """The path that boxes of `response` refer to in text of the published form (`<img>path</img>`).

    The last one in the response itself, else in the newest of `questions` (oldest first) that has one.
    """
    for text in (response, *reversed(questions)):
        if paths := _PICTURE.findall(text):
            return paths[-1]
    return None


def _rectangle(coordinates: str, name: str) -> tuple[int, int, int, int] | None:
    """The rectangle around the points, inside of the picture. None: these are no points."""
    found = _POINTS[name].fullmatch(coordinates.translate(_PLAIN))
    if found is None:
        return None
    numbers = [min(int(n), FULL) for n in found.groups()]
    xs, ys = numbers[0::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _beginning_of_tag(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a tag."""
    start = text.rfind("<", -max(map(len, _TAGS)))
    if start < 0:
        return 0
    return len(text) - start if any(tag.startswith(text[start:]) for tag in _TAGS) else 0
