"""The state of a job in its target folder: what is asked for, how far it is, and who may go on with it.

    TARGET/.quantize/job.json     settings, blocks done, what each layer lost
    TARGET/.quantize/*.bin        the residual stream between two blocks
    TARGET/.quantize/*.safetensors  the weight files while they are filled

A killed job is gone on with by the same command. Knows no tensor.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bellevl.checkpoint import Checkpoint
from bellevl.errors import QuantizeError

from .storage.disk import human_bytes, write_json, writing
from .storage.shards import INDEX, SINGLE

try:
    import fcntl
except ImportError:  # not on Windows: there nobody keeps a second process off
    fcntl = None  # type: ignore[assignment]

WORK = ".quantize"
FILE = "job.json"
LOCK = "lock"

#: Raised whenever a job begun by an older version must not be gone on with.
FORMAT = 5

#: So many bytes the streams of a job may take on the disk beside the result.
STREAM_BYTES = 2_900_000_000

#: So much of a shard's beginning and end goes into the fingerprint of a source.
SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer; see QuantizedWeight. The head counts as the block after the last."""

    block: int
    layer: str
    method: str
    damp_percent: float
    error: float


@dataclass(frozen=True)
class BlockReport:
    """What one block cost: seconds from start to end (`wall`), of reading it (done while the block before it was
    solved), of its `parts` (see meter.PARTS), and the most memory that the program held meanwhile."""

    block: int
    wall: float
    read: float
    parts: dict[str, float]
    peak_bytes: int


@dataclass
class Costs:
    """What a job cost in all its runs, as far as its work was kept: seconds of stages, blocks, memory over time.

    `device_peak_bytes` is the most that torch ever held on a GPU, 0 without one.
    """

    runs: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    blocks: list[BlockReport] = field(default_factory=list)
    curve: list[tuple[float, int]] = field(default_factory=list)
    device_peak_bytes: int = 0

    @classmethod
    def of(cls, state: dict[str, Any]) -> Costs:
        """From a saved state. Raises KeyError or TypeError."""
        blocks = [BlockReport(**report) for report in state["blocks"]]
        curve = [(float(seconds), int(count)) for seconds, count in state["curve"]]
        return cls(state["runs"], dict(state["seconds"]), blocks, curve, int(state.get("device_peak_bytes", 0)))


class Job:
    """An unfinished quantization into `folder`. `settings` are what has to be the same to go on with it."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.work = folder / WORK
        self.settings = settings
        self.copied = False
        self.embedded = False
        self.blocks = 0
        self.head = False
        self.reports: list[LayerReport] = []
        self.costs = Costs()
        #: what a byte budget is spent by, once it is measured: of each unit its layers and their KL divergence
        self.measured: list[tuple[list[str], float]] = []

    @classmethod
    def open(cls, folder: Path, settings: dict[str, Any], need: int) -> Job:
        """The job in `folder` as far as it is, or a new one that needs `need` bytes of disk.

        Raises QuantizeError when the folder holds anything else, a job with other settings, or the disk is too small.
        """
        job = cls(folder, settings)
        found = _read_state(job.work / FILE)
        if found is not None:
            job._take(found)
            return job
        _check_empty(folder)
        shutil.rmtree(job.work, ignore_errors=True)
        with writing(folder, need):
            job.work.mkdir(parents=True)
        _check_room(folder, need)
        job.save()
        return job

    def save(self) -> None:
        """Makes the state last."""
        state = {
            "settings": self.settings,
            "copied": self.copied,
            "embedded": self.embedded,
            "blocks": self.blocks,
            "head": self.head,
            "reports": [asdict(report) for report in self.reports],
            "costs": asdict(self.costs),
            "measured": self.measured,
        }
        write_json(self.work / FILE, state)

    def start_again(self) -> None:
        """Forgets what was done: its files are gone. Saved at once, for the next files look whole from their start."""
        self.copied = self.embedded = self.head = False
        self.blocks = 0
        self.reports = []
        self.costs = Costs(runs=self.costs.runs)
        self.save()

    def stream_path(self, block: int) -> Path:
        """The residual stream that enters a block, or, after the last one, the head."""
        return self.work / f"stream-{block:04}.bin"

    @property
    def scratch_path(self) -> Path:
        """The stream while a block is worked on."""
        return self.work / "scratch.bin"

    def float_path(self, block: int) -> Path:
        """The float model's residual stream that enters a block; before the first one it is the same."""
        return self.work / f"float-{block:04}.bin" if block else self.stream_path(0)

    @property
    def float_scratch_path(self) -> Path:
        """The float model's stream while a block is worked on."""
        return self.work / "float-scratch.bin"

    @property
    def gated_path(self) -> Path:
        """What enters the last layer of a block while it is worked on."""
        return self.work / "gated.bin"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes off the job. Raises QuantizeError when one is at it."""
        with (self.work / LOCK).open("w") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise QuantizeError("quantize.busy", folder=self.folder) from error
            yield

    def close(self) -> None:
        """Removes the job's own files, the state last: this too can be interrupted."""
        for path in self.work.iterdir():
            if path.name != FILE:
                path.unlink()
        (self.work / FILE).unlink()
        self.work.rmdir()

    def _take(self, state: dict[str, Any]) -> None:
        for name, asked in self.settings.items():
            found = state["settings"].get(name)
            if found != asked:
                facts = {"field": name, "found": _short(found), "asked": _short(asked)}
                raise QuantizeError("quantize.other_job", folder=self.folder, **facts)
        try:
            self.copied, self.embedded = state["copied"], state["embedded"]
            self.blocks, self.head = state["blocks"], state["head"]
            self.reports = [LayerReport(**report) for report in state["reports"]]
            self.costs = Costs.of(state["costs"])
            self.measured = [(list(layers), float(kl)) for layers, kl in state["measured"]]
        except (KeyError, TypeError, ValueError) as error:
            facts = {"field": "state", "found": "another version's", "asked": "this one's"}
            raise QuantizeError("quantize.other_job", folder=self.folder, **facts) from error


def check_target(source: Path, target: Path) -> None:
    """Raises QuantizeError where source and target are one, or the target holds a finished model."""
    if target.exists() and source.resolve() == target.resolve():
        raise QuantizeError("quantize.same_folder", folder=target)
    if _is_finished(target):
        raise QuantizeError("quantize.exists", folder=target)


def fingerprint(checkpoint: Checkpoint) -> str:
    """A hash that tells one source from another: its configuration, its files' sizes and their ends."""
    digest = hashlib.sha256((checkpoint.folder / "config.json").read_bytes())
    for shard in checkpoint.shards():
        digest.update(f"{shard.name} {shard.stat().st_size} {end_digest(shard)}".encode())
    return digest.hexdigest()


def end_digest(path: Path) -> str:
    """The sha256 of a file's first and last MiB."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(SAMPLED_BYTES))
        file.seek(max(path.stat().st_size - SAMPLED_BYTES, 0))
        digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()


def _is_finished(folder: Path) -> bool:
    """Whether the file that is named last is there, and no job that still has to clean up."""
    named = (folder / INDEX).exists() or (folder / SINGLE).exists()
    return named and _read_state(folder / WORK / FILE) is None


def _check_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise QuantizeError("quantize.not_empty", folder=folder, name=folder.name)
    strangers = sorted(p.name for p in folder.iterdir() if p.name != WORK) if folder.exists() else []
    if strangers:
        raise QuantizeError("quantize.not_empty", folder=folder, name=strangers[0])


def _check_room(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < need:
        reason = f"{human_bytes(free)} of {human_bytes(need)} are free"
        raise QuantizeError("disk.full", path=folder, reason=reason, need=human_bytes(need - free))


def _read_state(path: Path) -> dict[str, Any] | None:
    """A job's state; None without one, or where it cannot be read (it is written whole, so it is not ours)."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:  # hours of work may be behind it: it is not taken for nothing
        raise QuantizeError("disk.denied", path=path, reason=error.strerror or error) from error
    return state if isinstance(state, dict) and isinstance(state.get("settings"), dict) else None


def _short(value: object) -> str:
    """Hashes are told apart by their beginning."""
    return str(value)[:12]
