"""Where a line of Chinese and English breaks: columns, not characters, and no line begins with a full stop.

Greedy, from left to right: a row that is closed stays as it is whatever follows, so a line can be wrapped while it
still grows. Knows no escape sequence and no stream.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

#: These do not begin a row (kinsoku) ...
NO_START = frozenset("，。、；：！？）】》〉」』〕〗］｝’”…—～·％‰℃々ー,.;:!?)]}%")

#: ... and these do not end one.
NO_END = frozenset("（【《〈「『〔〖［｛‘“￥([{$")

#: Two of them are one sign.
PAIRS = frozenset("—…")

JOINER, EMOJI_STYLE = "\u200d", "\ufe0f"


@dataclass(frozen=True)
class Row:
    """A row of a wrapped text: from `start` to `end`; the blanks behind `end` are not shown. The next row begins at
    `next`."""

    start: int
    end: int
    next: int


def wrap(text: str, columns: int, first: int = 0, anywhere: bool = False) -> list[Row]:
    """Rows of at most `columns`; `first` columns of the first row are taken already. At least one row.

    `anywhere`: a row breaks where it is full, as code must.
    """
    rows: list[Row] = []
    clusters = _clusters(text)
    start, used, legal = 0, first, -1  # `legal`: the last place of this row where it may break
    index = 0
    while index < len(clusters):
        place, cluster, width = clusters[index]
        if place > start and _may_break(clusters[index - 1][1], cluster):
            legal = place
        if used + width > columns and place > start and not (cluster == " " and not anywhere):
            cut = place if anywhere or legal <= start else legal
            rows.append(_row(text, start, cut, anywhere))
            start, used, legal = rows[-1].next, 0, -1
            index = _index(clusters, start, index)
            continue
        used += width
        index += 1
    rows.append(Row(start, len(text), len(text)))
    return rows


def width_of(text: str) -> int:
    """Columns that a terminal shows `text` in."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def clusters_width(text: str) -> int:
    """Columns of `text` as `wrap` counts them."""
    return sum(width for _, _, width in _clusters(text))


def _row(text: str, start: int, cut: int, anywhere: bool) -> Row:
    """The row up to `cut`; blanks around the cut belong to no row."""
    if anywhere:
        return Row(start, cut, cut)
    end, next_start = cut, cut
    while end > start and text[end - 1] == " ":
        end -= 1
    while next_start < len(text) and text[next_start] == " ":
        next_start += 1
    return Row(start, max(end, start), next_start)


def _index(clusters: list[tuple[int, str, int]], place: int, behind: int) -> int:
    """The cluster that begins at `place`, looked for from `behind`."""
    index = min(behind, len(clusters) - 1)
    while index and clusters[index][0] > place:
        index -= 1
    while index < len(clusters) and clusters[index][0] < place:
        index += 1
    return index


def _may_break(before: str, after: str) -> bool:
    """Whether a row may end between two characters."""
    if after == " ":
        return False  # blanks stay with what they follow, and may stand out
    if before == " ":
        return after[0] not in NO_START
    if after[0] in NO_START or before[-1] in NO_END or (before[-1] in PAIRS and before[-1] == after[0]):
        return False
    if _is_wide(before) or _is_wide(after):
        return True
    return before[-1] in "”’…—"


def _is_wide(cluster: str) -> bool:
    return unicodedata.east_asian_width(cluster[0]) in "WF"


def _clusters(text: str) -> list[tuple[int, str, int]]:
    """(place, characters that are shown as one, columns), in order."""
    if text.isascii():
        return [(place, c, 1) for place, c in enumerate(text)]
    found: list[tuple[int, str, int]] = []
    for place, c in enumerate(text):
        joined = bool(found) and (found[-1][1][-1] == JOINER or c in (JOINER, EMOJI_STYLE) or _width(c) == 0)
        if joined:
            start, before, width = found[-1]
            found[-1] = (start, before + c, 2 if c == EMOJI_STYLE or JOINER in before + c else width)
        else:
            found.append((place, c, _width(c)))
    return found


def _width(c: str) -> int:
    """Columns of one character."""
    if c.isascii():
        return 1
    if "\u4e00" <= c <= "\u9fff":
        return 2
    from rich.cells import cell_len

    return cell_len(c)
