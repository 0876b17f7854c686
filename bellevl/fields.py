"""Fields of a JSON object that somebody else wrote: typed, within bounds, or one clear error. Knows no tensor."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from .errors import CheckpointError

#: Sizes above these are a lie or an attack, not a model of this family (Qwen-72B: 8192 wide, 80 blocks).
LARGEST = {
    "hidden_size": 65_536,
    "num_hidden_layers": 512,
    "num_attention_heads": 1024,
    "intermediate_size": 1_048_576,
    "vocab_size": 2_097_152,
    "kv_channels": 1024,
    "seq_length": 4_194_304,
    "width": 65_536,
    "layers": 512,
    "heads": 1024,
    "image_size": 4096,
    "patch_size": 512,
    "output_dim": 65_536,
    "n_queries": 16_384,
}


def is_file(path: Path) -> bool:
    """Whether a file is there. One that may not be looked at counts as there: reading it tells why that fails."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        return True
    except (OSError, ValueError):  # not there, a name too long, a name that the system cannot have
        return False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("model.bad_json", path=path, reason=error) from error
    if not isinstance(value, dict):
        raise CheckpointError("model.bad_json", path=path, reason="not an object")
    return value


class Fields:
    """Typed access to a JSON object; a wrong field becomes one clear CheckpointError."""

    def __init__(self, raw: dict[str, Any], path: Path) -> None:
        self.raw, self.path = raw, path

    def wrong(self, name: str, reason: str) -> CheckpointError:
        value = repr(self.raw.get(name, "missing"))[:60]
        return CheckpointError("model.config", path=self.path, field=name, value=value, reason=reason)

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self.raw.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "not a whole number")
        if not least <= value <= LARGEST.get(name, 2**31):
            raise self.wrong(name, f"not between {least} and {LARGEST.get(name, 2**31)}")
        return value

    def number(self, name: str, default: float, least: float, most: float = 1e12) -> float:
        value = self.raw.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise self.wrong(name, f"not a number between {least:g} and {most:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.raw.get(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.wrong(name, "not true or false")
        return value

    def token(self, name: str) -> int | None:
        value = self.raw.get(name)
        value = value[0] if isinstance(value, list) and value else value
        return value if isinstance(value, int) and not isinstance(value, bool) else None
