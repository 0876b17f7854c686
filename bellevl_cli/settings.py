"""What a person chose and where: model folder, device, folders of this program. Knows no torch until asked for it."""

from __future__ import annotations

import errno
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


def switched_on(variable: str) -> bool:
    """Whether an environment variable says yes: anything but nothing, 0, false, no and off."""
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")


def choose_model(option: Path | None) -> ModelChoice:
    """`--model`, else BELLEVL_MODEL, else the embedded model. Raises CheckpointError for a folder that is not there."""
    from bellevl.nano import folder as embedded_folder

    embedded = embedded_folder()
    given = os.environ.get("BELLEVL_MODEL", "")
    folder = Path(os.path.expanduser(option or given or embedded))
    if not os.path.isdir(folder):  # Path.is_dir raises for a name too long or a folder that may not be looked at
        raise CheckpointError("model.file" if os.path.isfile(folder) else "model.missing", folder=folder)
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
    """Where history and the last error are kept; made for this user alone. Raises OSError where there is no place."""
    from platformdirs import user_state_path

    try:
        folder = user_state_path(PROGRAM, appauthor=False)
    except RuntimeError:  # neither a home nor XDG_STATE_HOME says where
        folder = Path("~")
    if not folder.is_absolute():  # older platformdirs; a folder named "~" is no home
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def private_file(path: Path) -> Path:
    """`path`, existing and readable by this user alone."""
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    return path
