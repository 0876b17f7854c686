"""What a person chose and where: model folder, device, folders of this program. Knows no torch until asked for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bellevl.errors import CheckpointError, DeviceError

PROGRAM = "bellevl"

_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class ModelChoice:
    """A model folder; `embedded` is true for the small model inside the package."""

    folder: Path
    embedded: bool

    @property
    def name(self) -> str:
        return "nano" if self.embedded else self.folder.resolve().name


def choose_model(option: Path | None) -> ModelChoice:
    """`--model`, else BELLEVL_MODEL, else the embedded model. Raises CheckpointError for a folder that is not there."""
    from bellevl.nano import folder as embedded_folder

    embedded = embedded_folder()
    given = os.environ.get("BELLEVL_MODEL", "")
    folder = option or (Path(given).expanduser() if given else embedded)
    if not folder.is_dir():
        raise CheckpointError("model.missing", folder=folder)
    return ModelChoice(folder, folder.resolve() == embedded.resolve())


def choose_device(option: str | None) -> str | None:
    """`--device`, else BELLEVL_DEVICE, else None: the best there is. Raises DeviceError for what is not a device."""
    name = (option or os.environ.get("BELLEVL_DEVICE", "")).strip().lower()
    if name and not _DEVICE.fullmatch(name):
        raise DeviceError("device.unknown", device=name)
    return name or None


def best_device() -> str:
    """A GPU where torch sees one, else the CPU. Imports torch."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def state_folder() -> Path:
    """Where history and the last error are kept; made for this user alone."""
    from platformdirs import user_state_path

    folder = user_state_path(PROGRAM, appauthor=False)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def private_file(path: Path) -> Path:
    """`path`, existing and readable by this user alone."""
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    return path
