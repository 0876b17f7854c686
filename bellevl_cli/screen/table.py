"""Rows of two or three columns, lined up by what a terminal shows: a Chinese character is two columns wide."""

from __future__ import annotations

from collections.abc import Sequence


def table_lines(rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """One line a row; the last column is as long as it is."""
    from rich.cells import cell_len

    columns = max((len(row) for row in rows), default=0)
    widths = [max((cell_len(row[c]) for row in rows if c < len(row) - 1), default=0) for c in range(columns)]
    return ["".join(_padded(cell, widths[c] + gap) for c, cell in enumerate(row[:-1])) + row[-1] for row in rows]


def _padded(cell: str, width: int) -> str:
    from rich.cells import cell_len

    return cell + " " * (width - cell_len(cell))
