"""What a batch writes besides its JSON lines: a text file beside each picture, and a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .target import write_whole

#: A spreadsheet takes text that begins so for a formula; an answer is none.
FORMULAS = ("=", "@", "+", "\t", "\r")


class Sidecars:
    """`cat.jpg` -> `cat.txt`, or `cat.jpg.txt` where two pictures share a name. What was there before stays."""

    def __init__(self, ending: str, pictures: Sequence[str], overwrite: bool = False) -> None:
        self._ending = ending.lstrip(".")
        self._overwrite = overwrite
        self._stems = Counter(os.path.splitext(picture)[0] for picture in pictures)
        self.kept = 0

    def path(self, picture: Path | str) -> Path:
        stem = os.path.splitext(str(picture))[0]
        return Path(f"{picture if self._stems[stem] > 1 else stem}.{self._ending}")

    def exists(self, picture: Path | str) -> bool:
        return not self._overwrite and self.path(picture).exists()

    def write(self, picture: Path | str, text: str) -> None:
        """Counts in `kept` those that stood there with another text."""
        path = self.path(picture)
        if self.exists(picture):
            self.kept += path.read_text(encoding="utf-8", errors="replace") != text + "\n"
            return
        write_whole(path, text + "\n")


def write_csv(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """All answers as a table that Excel reads as UTF-8: path, text, the schema's properties, why it ended, error."""
    records = list(records)
    data = [record["data"] if isinstance(record.get("data"), dict) else {} for record in records]
    columns = list(dict.fromkeys(name for one in data for name in one))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "text", *columns, "finish_reason", "error"])
    for record, values in zip(records, data, strict=True):
        error = record.get("error") or {}
        row = [record["image"]["path"], record.get("text", ""), *(values.get(name, "") for name in columns)]
        writer.writerow([_cell(value) for value in (*row, record.get("finish_reason", ""), error.get("cause", ""))])
    write_whole(path, "\ufeff" + table.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULAS) else value
    if isinstance(value, (list, dict)):
        return ", ".join(map(str, value))
    return value
