"""`bellevl verify`: are a model's files whole? Sizes and file heads at once; every byte with --full.

Quick: each file in its recorded size, each shard as long as its own head says, every tensor of the index in its shard.
Full: every tensor that config.json asks for, in its shape, and the SHA-256 of every file against the records.
"""

from __future__ import annotations

import json
import shlex
import struct
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from bellevl.config import is_file, read_config, read_json
from bellevl.errors import CheckpointError

from ..running.preflight import readable_bytes
from ..screen.clean import clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..settings import ModelChoice, choose_model
from ..words import cause, say
from ..words import reason as phrase
from . import records

#: A head larger than this is not one (safetensors' own limit).
LONGEST_HEAD = 100_000_000

#: The vocabulary of the published models of the family, known by its size; the hash needs no record.
VOCABULARY_BYTES = 2_561_218
VOCABULARY_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class FileCheck:
    """What was found out about one file; `problem` None: it is good. `expected` is its recorded SHA-256."""

    name: str
    bytes: int | None
    problem: str | None = None
    sha256: str | None = None
    expected: str | None = None


def run(model: Path | str | None, full: bool, as_json: bool, renderer: Renderer | None = None) -> None:
    """Prints what was found. Raises CheckpointError, which names a broken file, with the exit code of a model."""
    renderer = renderer or Renderer()
    choice = choose_model(model)
    read_config(choice.folder)
    checks = [_hashed(choice, check, renderer) if full else check for check in quick(choice.folder)]
    bad = [check for check in checks if check.problem is not None]
    error = _trouble(choice, bad, full)
    if as_json:
        rows = [vars(check) for check in checks]
        problem = None if error is None else cause(error)
        record = {"name": choice.name, "folder": typed_text(str(choice.folder)), "ok": error is None}
        renderer.line(json_line(record | {"problem": problem, "files": rows}))
    else:
        for line in table_lines([_row(check, full) for check in checks]):
            renderer.line(line)
    if error is not None:
        raise error
    if not as_json:
        recorded = bool(full and all(check.expected for check in checks))
        good = "verify.good_quick" if not full else "verify.good_full" if recorded else "verify.good_unrecorded"
        renderer.say(good, name=clean_line(choice.name), count=len(checks))


def quick(folder: Path) -> list[FileCheck]:
    """Every file of the model, its size and its head. Raises CheckpointError for what is no model folder."""
    expected = records.expected_files(folder)
    where = _index(folder)
    names = set(expected) | set(where.values()) | {path.name for path in _weights(folder)} | {"qwen.tiktoken"}
    names |= {name for name in ("config.json", "generation_config.json", *INDEXES) if is_file(folder / name)}
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise CheckpointError("model.no_weights", folder=folder)
    return [_quick(folder / name, expected.get(name), _tensors_of(name, where)) for name in sorted(names)]


def _quick(path: Path, expected: records.Expected | None, tensors: set[str]) -> FileCheck:
    digest = None if expected is None else expected.sha256
    if not is_file(path):
        return FileCheck(path.name, None, "No such file or directory", None, digest)
    size = path.stat().st_size
    if digest is None and (path.name, size) == ("qwen.tiktoken", VOCABULARY_BYTES):
        digest = VOCABULARY_SHA256
    if expected is not None and expected.bytes not in (None, size):
        return FileCheck(path.name, size, f"{size} bytes instead of {expected.bytes}", None, digest)
    try:
        return FileCheck(path.name, size, _head_problem(path, size, tensors), None, digest)
    except OSError as error:
        return FileCheck(path.name, size, error.strerror or str(error), None, digest)


def _head_problem(path: Path, size: int, tensors: set[str]) -> str | None:
    """What is wrong with the beginning of a file; None: nothing."""
    if path.suffix == ".safetensors":
        return safetensors_problem(path, size, tensors)
    if path.suffix == ".bin":
        return None if zipfile.is_zipfile(path) or _old_pickle(path) else "its end is missing"
    if path.suffix == ".json":
        try:
            read_json(path)
        except CheckpointError as error:
            return str(error.facts["reason"])
    if path.suffix == ".tiktoken" and not size:
        return "it is empty"
    return None


def safetensors_problem(path: Path, size: int, tensors: set[str]) -> str | None:
    """Why `path` of `size` bytes is no whole safetensors file with these `tensors`; None: it is."""
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LONGEST_HEAD, size - 8):
            return "its head is damaged"
        try:
            head = json.loads(file.read(length))
            ends = [row["data_offsets"][1] for name, row in head.items() if name != "__metadata__"]
            end = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            return "its head is damaged"
    if end != size:
        return f"{size} bytes instead of {end}"
    missing = sorted(tensors - set(head))
    return f"the tensor {missing[0]} is not in it" if missing else None


def _hashed(choice: ModelChoice, check: FileCheck, renderer: Renderer) -> FileCheck:
    """The check with the file's SHA-256, and with the problem that it is not the recorded one."""
    if check.problem is not None or check.bytes is None:
        return check
    read, shown = 0, 0.0

    def tell(count: int) -> None:
        nonlocal read, shown
        read += count
        if time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            percent = 100 * read // max(check.bytes or 0, 1)
            renderer.stage(say("verify.start", name=clean_line(check.name), percent=percent))

    try:
        digest = records.sha256(choice.folder / check.name, tell)
    except OSError as error:
        return replace(check, problem=error.strerror or str(error))
    finally:
        renderer.clear_stage()
    wrong = check.expected is not None and digest != check.expected
    return replace(check, sha256=digest, problem="its SHA-256 is not the recorded one" if wrong else None)


def _trouble(choice: ModelChoice, bad: list[FileCheck], full: bool) -> CheckpointError | None:
    """The error that a broken model ends with; --full also looks whether every tensor is there."""
    if bad:
        more = f" (+{len(bad) - 1})" if len(bad) > 1 else ""
        shard, reason = f"{choice.folder / bad[0].name}{more}", bad[0].problem
        source = records.source_of(choice.folder)
        if source is None:
            return CheckpointError("model.damaged_shard", shard=shard, reason=reason)
        command = f"bellevl pull {source.repo} --to {shlex.quote(str(choice.folder))}"
        return CheckpointError("model.damaged_download", shard=shard, reason=reason, command=command)
    if not full:
        return None
    try:
        _check_tensors(choice.folder)
    except CheckpointError as error:
        return error
    return None


def _check_tensors(folder: Path) -> None:
    """Every tensor of the model in its shape. Imports torch. Raises CheckpointError."""
    import torch

    from bellevl.checkpoint import Checkpoint, check_tensors
    from bellevl.model import BelleVL
    from bellevl.tokenizer import load_tokenizer

    with Checkpoint.open(folder) as checkpoint, torch.device("meta"):
        check_tensors(BelleVL(checkpoint.config, checkpoint.quantization), checkpoint)
    load_tokenizer(folder)


def _index(folder: Path) -> dict[str, str]:
    """Tensor -> shard, from the index that is there; empty for a model in one file. Raises CheckpointError."""
    for index in INDEXES:
        if is_file(folder / index):
            where = read_json(folder / index).get("weight_map")
            if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
                raise CheckpointError("model.bad_json", path=folder / index, reason="no weight_map")
            for shard in set(where.values()):
                if Path(shard).name != shard:
                    raise CheckpointError("model.outside", index=folder / index, shard=shard)
            return where
    return {}


def _tensors_of(name: str, where: dict[str, str]) -> set[str]:
    return {tensor for tensor, shard in where.items() if shard == name}


def _weights(folder: Path) -> list[Path]:
    """Weight files that the model is read from: safetensors where there are any."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _old_pickle(path: Path) -> bool:
    """Whether it begins as torch's older format does, whose end nothing marks. Nothing in it is executed."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x80\x02"


def _row(check: FileCheck, full: bool) -> list[str]:
    state, bad = say("verify.ok"), say("verify.bad")
    if check.problem is not None:
        state = f"{bad}: {clean_line(phrase(check.problem))}"
    size = "-" if check.bytes is None else readable_bytes(check.bytes)
    row = [clean_line(typed_text(check.name)), size, state]
    return [*row[:2], (check.sha256 or "-") if full else "", state] if full else row
