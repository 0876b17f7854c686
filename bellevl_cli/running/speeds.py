"""How fast answers have been on this machine: a small record in the state folder, and what it lets one expect.

A row a model, its quantization and device: the last runs, a few numbers each. No question, no answer, no name of a
picture is kept. A record that cannot be read or written is none; nothing here raises.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..settings import private_file, state_folder

#: Before so many runs nothing is foretold; of each row the last RUNS are kept, of rows the last ROWS.
ENOUGH, RUNS, ROWS = 3, 20, 30


@dataclass(frozen=True)
class Run:
    """An answer: seconds, tokens, characters. `load_seconds` None: the model was there already."""

    load_seconds: float | None
    vision_seconds: float
    prefill_seconds: float
    decode_seconds: float
    prompt_tokens: int
    new_tokens: int
    characters: int


@dataclass(frozen=True)
class Estimate:
    """What the next answer will take, by the middle of the last ones. `speed`: tokens a second."""

    load_seconds: float
    vision_seconds: float
    answer_seconds: float
    characters: int
    speed: float
    runs: int

    @property
    def seconds(self) -> float:
        """One question to a model that has to be loaded first."""
        return self.load_seconds + self.vision_seconds + self.answer_seconds


def row_name(model: str, quantization: str | None, device: str | None) -> str:
    """What the runs of a model on this machine are kept under; a home folder may be shared by several machines."""
    return " ".join((platform.node() or "-", model, quantization or "float", device or "auto"))


def learn(name: str, run: Run) -> None:
    """Adds a run to its row."""
    rows = _read()
    runs = [*rows.pop(name, []), asdict(run)][-RUNS:]
    rows[name] = runs
    _write(dict(list(rows.items())[-ROWS:]))


def estimate(name: str) -> Estimate | None:
    """What the record says of a row; None before it has enough."""
    runs = [run for entry in _read().get(name, []) if (run := _run(entry)) is not None]
    if len(runs) < ENOUGH:
        return None
    loads = [run.load_seconds for run in runs if run.load_seconds is not None]
    decoded = [run for run in runs if run.decode_seconds > 0 and run.new_tokens > 1]
    speeds = [(run.new_tokens - 1) / run.decode_seconds for run in decoded]
    return Estimate(
        statistics.median(loads) if loads else 0.0,
        statistics.median(run.vision_seconds for run in runs),
        statistics.median(run.prefill_seconds + run.decode_seconds for run in runs),
        int(statistics.median(run.characters for run in runs)),
        statistics.median(speeds) if speeds else 0.0,
        len(runs),
    )


def names() -> list[str]:
    """The rows of this machine, the one that was used last at the end."""
    return [name for name in _read() if name.startswith(f"{platform.node() or '-'} ")]


def path() -> Path:
    """Where the record stands. Raises OSError where there is no place for it."""
    return state_folder() / "speeds.json"


def _run(entry: object) -> Run | None:
    """A run that is whole; a person may have edited the file."""
    if not isinstance(entry, dict) or set(entry) != {field.name for field in fields(Run)}:
        return None
    fine = all(isinstance(value, (int, float)) and value >= 0 for key, value in entry.items() if value is not None)
    missing = {key for key, value in entry.items() if value is None} - {"load_seconds"}
    return Run(**entry) if fine and not missing else None


def _read() -> dict[str, list[object]]:
    try:
        rows = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(rows, dict):
        return {}
    return {name: runs for name, runs in rows.items() if isinstance(runs, list)}


def _write(rows: dict[str, list[object]]) -> None:
    """Beside the old one first: two terminals at once leave a whole file, of one or the other."""
    with suppress(OSError):
        new = private_file(path().with_suffix(f".{os.getpid()}"))
        try:
            new.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
            new.replace(path())
        finally:
            new.unlink(missing_ok=True)
