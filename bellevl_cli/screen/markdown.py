"""Light markdown, line by line: what a finished line of an answer looks like. Headings, lists, quotes, code, tables.

Everything drawn is ASCII: of box characters and bullets nobody knows how wide a Chinese terminal shows them. Where no
style can be shown the marks of bold and code stay. Knows no stream; `rows` makes the text that a terminal gets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .wrap import width_of, wrap

BOLD, DIM, ITALIC, UNDERLINE, STRIKE, CODE = "1", "2", "3", "4", "9", "36"

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)(.*)$")
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_RULE = re.compile(r"^ {0,3}([-*_])(?:\s*\1){2,}\s*$")
_BULLET = re.compile(r"^(\s*)[-*+•]\s+(.*)$")
_NUMBER = re.compile(r"^(\s*)(\d{1,3}[.)])\s+(.*)$")
_QUOTE = re.compile(r"^\s{0,3}>\s?(.*)$")
_DELIMITER = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")

#: Code first: nothing inside of it means anything. Emphasis hugs its text and does not begin inside a Latin word.
_INLINE = re.compile(
    r"(?P<escape>\\[\\`*_{}\[\]()#+.!~|>-])"
    r"|(?P<ticks>`+)(?P<code>.+?)(?P=ticks)(?!`)"
    r"|!?\[(?P<text>[^\]\n]*)\]\((?P<url>[^)\s]+)(?:\s+\"[^\"]*\")?\)"
    r"|(?P<strong>\*\*|(?<![A-Za-z0-9_])__)(?=\S)(?P<bold>.+?)(?<=\S)(?P=strong)"
    r"|(?<![A-Za-z0-9*])\*(?=[^\s*])(?P<star>[^*]+?)(?<=\S)\*(?![A-Za-z0-9*])"
    r"|(?<![A-Za-z0-9_])_(?=[^\s_])(?P<line>[^_]+?)(?<=\S)_(?![A-Za-z0-9_])"
    r"|~~(?=\S)(?P<strike>.+?)(?<=\S)~~"
)


@dataclass(frozen=True)
class Span:
    """Text in one style; `style` are numbers of SGR."""

    text: str
    style: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line before it is wrapped. `hang`: columns that its later rows are moved in; `anywhere`: break as code does."""

    spans: tuple[Span, ...]
    hang: int = 0
    anywhere: bool = False


class Markdown:
    """Lines in, lines out. A table is kept until it is over, since its columns depend on all of it; one that is wider
    than `columns` becomes "head: cell" lines."""

    def __init__(self, styled: bool = True, columns: int = 80) -> None:
        self.styled = styled
        self.columns = columns
        self._fence = ""
        self._table: list[str] = []

    @property
    def keeps(self) -> bool:
        """Whether lines are kept."""
        return bool(self._table)

    def line(self, text: str) -> list[Line] | None:
        """What the lines that were kept and this one look like; None: this one is kept, too."""
        text = text.replace("\t", "    ")
        if not self._fence and self._belongs(text):
            self._table.append(text)
            return None
        return [*self.end(), *self._single(text)]

    def end(self) -> list[Line]:
        """The lines that are kept."""
        kept, self._table = self._table, []
        if len(kept) > 1 and _DELIMITER.match(kept[1]):
            return self._table_lines(_cells(kept[0]), [_cells(row) for row in kept[2:]])
        return [line for text in kept for line in self._single(text)]

    def _belongs(self, text: str) -> bool:
        """Whether `text` begins a table, or goes on with the one that was begun."""
        if "|" not in text:
            return False
        if len(self._table) == 1:
            return bool(_DELIMITER.match(text)) and len(_cells(text)) == len(_cells(self._table[0]))
        return bool(self._table) or text.strip().startswith("|") or text.count("|") > 1

    def _single(self, text: str) -> list[Line]:
        """A line that is no part of a table."""
        if found := _FENCE.match(text):
            return self._fenced(text, found[1])
        if self._fence:
            return [Line((Span(text, (CODE,)),), anywhere=True)]
        return [self._block(text)]

    def _fenced(self, text: str, mark: str) -> list[Line]:
        """The line above or below code."""
        if self._fence and not (mark.startswith(self._fence) and text.strip() == mark):
            return [Line((Span(text, (CODE,)),), anywhere=True)]
        self._fence = "" if self._fence else mark
        return [Line((Span(text.rstrip(), (DIM,)),), anywhere=True)]

    def _block(self, text: str) -> Line:
        if found := _HEADING.match(text):
            style = (BOLD, UNDERLINE) if len(found[1]) == 1 else (BOLD,)
            hashes = () if self.styled else (Span(f"{found[1]} "),)
            return Line((*hashes, *self._inline(found[2], style)))
        if _RULE.match(text):
            return Line((Span("-" * 24, (DIM,)),))
        if found := _BULLET.match(text):
            return Line((Span(f"{found[1]}- ", (BOLD,)), *self._inline(found[2])), len(found[1]) + 2)
        if found := _NUMBER.match(text):
            mark = f"{found[1]}{found[2]} "
            return Line((Span(mark, (BOLD,)), *self._inline(found[3])), len(mark))
        if found := _QUOTE.match(text):
            return Line((Span("> ", (DIM,)), *self._inline(found[1])), 2)
        return Line(self._inline(text))

    def _table_lines(self, head: list[str], body: list[list[str]]) -> list[Line]:
        """A table with its columns lined up, or one line a cell where they do not stand side by side."""
        count = len(head)
        drawn = [[self._inline(cell) for cell in (row + [""] * count)[:count]] for row in (head, *body)]
        widths = [max(_width(row[c]) for row in drawn) for c in range(count)]
        if sum(widths) + 2 * (count - 1) <= self.columns:
            return _lined_up(drawn, widths)
        named = [(Span(f"{name}: ", (BOLD,)), *cell) for row in drawn[1:] for name, cell in zip(head, row, strict=True)]
        marks = ["- " if number % count == 0 else "  " for number in range(len(named))]
        return [Line((Span(mark, (BOLD,)), *spans), hang=4) for mark, spans in zip(marks, named, strict=True)]

    def _inline(self, text: str, style: tuple[str, ...] = ()) -> tuple[Span, ...]:
        return inline(text, style) if self.styled else (Span(text),)


def inline(text: str, style: tuple[str, ...] = ()) -> tuple[Span, ...]:
    """The spans of a line's text: bold, italic, struck out, code, links."""
    spans: list[Span] = []
    place = 0
    for found in _INLINE.finditer(text):
        if found.start() > place:
            spans.append(Span(text[place : found.start()], style))
        spans += _marked(found, style)
        place = found.end()
    if place < len(text) or not spans:
        spans.append(Span(text[place:], style))
    return tuple(spans)


def _marked(found: re.Match[str], style: tuple[str, ...]) -> tuple[Span, ...]:
    if found["escape"]:
        return (Span(found["escape"][1:], style),)
    if found["code"] is not None:
        return (Span(found["code"].strip() or found["code"], (*style, CODE)),)
    if found["url"] is not None:
        return _link(found["text"], found["url"], style)
    for group, mark in (("bold", BOLD), ("star", ITALIC), ("line", ITALIC), ("strike", STRIKE)):
        if found[group] is not None:
            return inline(found[group], (*style, mark))
    raise AssertionError("a group of _INLINE without a meaning")


def _link(text: str, url: str, style: tuple[str, ...]) -> tuple[Span, ...]:
    """Both the text and the address: nothing hides where it leads."""
    if not text or text == url:
        return (Span(url, (*style, UNDERLINE)),)
    return (*inline(text, style), Span(" (", style), Span(url, (*style, UNDERLINE)), Span(")", style))


def _cells(row: str) -> list[str]:
    """The cells of a row of a table; `\\|` is no border."""
    row = row.strip().removeprefix("|")
    if row.endswith("|") and not row.endswith("\\|"):
        row = row[:-1]
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)]


def _lined_up(drawn: list[list[tuple[Span, ...]]], widths: list[int]) -> list[Line]:
    """A line of dashes below the head."""
    lines = [_table_line(row, widths) for row in drawn]
    head = tuple(replace(span, style=(BOLD, *span.style)) for span in lines[0].spans)
    dashes = "  ".join("-" * max(width, 1) for width in widths)
    return [replace(lines[0], spans=head), Line((Span(dashes, (DIM,)),), anywhere=True), *lines[1:]]


def _table_line(cells: list[tuple[Span, ...]], widths: list[int]) -> Line:
    spans: list[Span] = []
    for c, cell in enumerate(cells):
        last = c == len(cells) - 1
        spans += [*cell, Span("" if last else " " * (widths[c] - _width(cell) + 2))]
    return Line(tuple(spans), hang=2)


def _width(spans: tuple[Span, ...]) -> int:
    return sum(width_of(span.text) for span in spans)


def rows(line: Line, columns: int, color: bool) -> list[str]:
    """The rows of a terminal that `line` takes, with escape sequences where they may be."""
    text = "".join(span.text for span in line.spans)
    hang = line.hang if line.hang < columns // 2 else 0
    placed = wrap(text, columns - hang, first=-hang, anywhere=line.anywhere)
    shown = []
    for number, row in enumerate(placed):
        indent = " " * hang if number else ""
        shown.append(indent + _painted(line.spans, row.start, row.end, color))
    return shown


def _painted(spans: tuple[Span, ...], start: int, end: int, color: bool) -> str:
    """The part of `spans` from `start` to `end`."""
    out, place = "", 0
    for span in spans:
        text = span.text[max(start - place, 0) : max(end - place, 0)]
        place += len(span.text)
        if text:
            out += f"\x1b[{';'.join(span.style)}m{text}\x1b[0m" if color and span.style else text
    return out
