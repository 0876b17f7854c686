"""What a person chose and where: configuration file, model, device, folders. Knows no torch until asked for it.

A setting is, in this order: the option, the environment variable, config.toml, the default.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from bellevl.errors import CheckpointError, ConfigError, DeviceError

from . import keys

PROGRAM = "bellevl"

#: The name of the model inside the package.
EMBEDDED = "nano"

#: A folder that is being downloaded is called so; it is no model before it is complete.
UNFINISHED = ".part"

#: (file, key) that was told of already.
_told: set[tuple[str, str]] = set()

_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")

#: What tells a path from a model's name.
_PATH = re.compile(r"[/\\]|^[.~]")


@dataclass(frozen=True)
class ModelChoice:
    """A model folder; `embedded` is true for the small model inside the package. `source` is who chose it: "option",
    "environment", "config", "only" (the only model here) or "embedded"."""

    folder: Path
    embedded: bool
    source: str = "option"

    @property
    def name(self) -> str:
        return EMBEDDED if self.embedded else self.folder.resolve().name


def switched_on(variable: str) -> bool:
    """Whether an environment variable says yes: anything but nothing, 0, false, no and off."""
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")


# ---- the configuration file


def config_value(name: str, default: Any = None, option: Any = None) -> Any:
    """A setting of `keys.KEYS`: `option` unless it is None, else BELLEVL_NAME, else config.toml, else `default`, else
    the table's default. Raises ConfigError for a value that cannot be."""
    return option if option is not None else sourced(name, default)[0]


def sourced(name: str, default: Any = None) -> tuple[Any, str]:
    """(value, source) of a setting; the source is "environment", "config" or "default"."""
    key = keys.BY_NAME[name]
    typed = os.environ.get(key.variable, "")
    if typed.strip():
        return key.parsed(typed, key.variable), "environment"
    path = config_path()
    written = _read_toml(str(path))
    _tell_unknown(written, str(path))
    if name in written:
        return key.checked(written[name], str(path)), "config"
    return key.default if default is None else default, "default"


def config_path() -> Path:
    """BELLEVL_CONFIG, else config.toml in the program's folder for settings. Nothing is made."""
    given = os.environ.get("BELLEVL_CONFIG", "")
    if given:
        return Path(os.path.expanduser(given))
    from platformdirs import user_config_path

    try:
        return user_config_path(PROGRAM, appauthor=False) / "config.toml"
    except RuntimeError:  # neither a home nor XDG_CONFIG_HOME says where
        return Path(os.devnull)


def toml_table(text: str, path: Path) -> dict[str, Any]:
    """Keys and values of TOML. Raises ConfigError."""
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError("config.broken", path=path, reason=error) from error


def read_text(path: Path) -> str:
    """A file of settings; "" where there is none. Raises ConfigError for one that cannot be read."""
    try:
        return "" if path == Path(os.devnull) else path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("config.broken", path=path, reason=error) from error


def check_config() -> None:
    """Raises ConfigError for the first value that cannot be, in the file or the environment."""
    for key in keys.KEYS:
        sourced(key.name)


@lru_cache(maxsize=4)
def _read_toml(path: str) -> dict[str, Any]:
    """config.toml, read once in a process."""
    return toml_table(read_text(Path(path)), Path(path))


def forget_config() -> None:
    """The file has changed: it is read again when it is asked for."""
    _read_toml.cache_clear()


def _tell_unknown(written: dict[str, Any], path: str) -> None:
    """Keys that nobody knows are told of once. First they are crossed off: telling reads settings, too."""
    unknown = [name for name in written if name not in keys.BY_NAME and (path, name) not in _told]
    if not unknown:
        return
    _told.update((path, name) for name in unknown)
    from .screen.clean import clean_line, typed_text
    from .screen.render import Renderer
    from .words import say

    for name in unknown:
        meant = keys.near(name)
        near = say("usage.near", name=meant) if meant else ""
        Renderer().say("config.ignored", name=clean_line(name), path=clean_line(typed_text(path)), near=near)


# ---- models


def choose_model(option: Path | str | None) -> ModelChoice:
    """`--model`, else BELLEVL_MODEL, else config.toml, else the only model here, else the embedded one.

    Raises CheckpointError for a folder or name that is not there, and where nobody says which of several models.
    """
    given, source = _given_model(option)
    if given is not None:
        return _choice(find_model(given), source)
    here = model_folders()
    if len(here) > 1:
        raise CheckpointError("model.several", names=", ".join(folder.name for folder in here))
    return _choice(here[0], "only") if here else _choice(embedded_folder(), "embedded")


def _given_model(option: Path | str | None) -> tuple[str | None, str]:
    if option is not None and str(option):
        return str(option), "option"
    value, source = sourced("model")
    return value or None, source


def _choice(folder: Path, source: str) -> ModelChoice:
    return ModelChoice(folder, folder.resolve() == embedded_folder().resolve(), source)


def find_model(given: str) -> Path:
    """The folder that a path or a name means; a model that lies here comes before a name. Raises CheckpointError."""
    folder = Path(os.path.expanduser(given))
    path_only = _PATH.search(given) is not None
    if path_only or os.path.isfile(folder / "config.json"):
        return _existing(folder)
    named = named_models()
    found = named.get(given) or next((at for name, at in named.items() if name.lower() == given.lower()), None)
    if found is not None:
        return found
    if os.path.exists(folder):
        return _existing(folder)
    near = difflib.get_close_matches(given.lower(), {name.lower(): name for name in named}, n=1, cutoff=0.5)
    meant = next((f" ({name}?)" for name in named if near and name.lower() == near[0]), "")
    raise CheckpointError("model.unknown", name=given, folder=models_folder(), near=meant)


def _existing(folder: Path) -> Path:
    if not os.path.isdir(folder):  # Path.is_dir raises for a name too long or a folder that may not be looked at
        raise CheckpointError("model.file" if os.path.isfile(folder) else "model.missing", folder=folder)
    return folder


def embedded_folder() -> Path:
    from bellevl.nano import folder

    return folder()


def models_folder() -> Path:
    """Where `bellevl pull` puts models and where they are looked for by name. Nothing is made."""
    given = config_value("models")
    if given:
        return Path(os.path.expanduser(given))
    from platformdirs import user_data_path

    try:
        return user_data_path(PROGRAM, appauthor=False) / "models"
    except RuntimeError:
        return Path(os.devnull) / "models"


def model_folders() -> list[Path]:
    """The finished models in `models_folder`, by name."""
    return sorted(folder for folder in _folders() if folder.suffix != UNFINISHED)


def unfinished_folders() -> list[Path]:
    """Downloads in `models_folder` that can be gone on with."""
    return sorted(folder for folder in _folders(unfinished=True) if folder.suffix == UNFINISHED)


def _folders(unfinished: bool = False) -> Iterator[Path]:
    try:
        entries = list(os.scandir(models_folder()))
    except OSError:
        return
    for entry in entries:
        if unfinished or os.path.isfile(os.path.join(entry.path, "config.json")):
            yield Path(entry.path)


def named_models() -> dict[str, Path]:
    """Every model that can be chosen by name."""
    return {EMBEDDED: embedded_folder(), **{folder.name: folder for folder in model_folders()}}


# ---- device and folders


def choose_device(option: str | None) -> str | None:
    """`--device`, else BELLEVL_DEVICE, else config.toml, else None: the best there is. Raises DeviceError."""
    name = (config_value("device", option=option or None) or "").strip().lower()
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

    return _own_folder(user_state_path)


def data_folder() -> Path:
    """Where what a person made is kept (sessions, models); made for this user alone. Raises OSError."""
    from platformdirs import user_data_path

    return _own_folder(user_data_path)


def _own_folder(find: Any) -> Path:
    try:
        folder: Path = find(PROGRAM, appauthor=False)
    except RuntimeError:  # neither a home nor an XDG variable says where
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
