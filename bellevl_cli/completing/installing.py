"""`bellevl completion`: the script to stdout, or a loader into the settings of this person's shell."""

from __future__ import annotations

import os
from pathlib import Path

from ..exits import UsageError
from ..screen.clean import clean_line, typed_text
from ..screen.render import Renderer
from ..settings import data_folder
from ..words import say
from .scripts import loader, quoted, script
from .tree import SHELLS


def run(shell: str | None, install: bool, renderer: Renderer | None = None) -> None:
    """Raises UsageError for a shell that is not known."""
    renderer = renderer or Renderer()
    name = Path(shell or os.environ.get("SHELL", "")).name.lower().removesuffix(".exe")
    if name not in SHELLS:
        raise UsageError(say("completion.shell", shell=clean_line(typed_text(name or "?"))))
    if not install:
        renderer.line(script(name).rstrip("\n"))
        return
    place, fresh = put(name)
    if fresh:
        renderer.say("completion.installed", path=_name(place), command=f"exec {name}")
    else:
        renderer.say("completion.there", path=_name(place))


def put(shell: str) -> tuple[Path, bool]:
    """(the file that loads the completion, whether it was changed). Raises OSError."""
    if shell == "fish":
        place = _settings_home() / "fish" / "completions" / "bellevl.fish"
        fresh = not place.exists() or place.read_text(encoding="utf-8") != loader(shell)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(loader(shell), encoding="utf-8")
        return place, fresh
    script_file = data_folder() / f"completion.{shell}"
    script_file.write_text(loader(shell), encoding="utf-8")
    place = Path.home() / ".bashrc" if shell == "bash" else Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"
    line = f"[ -r {quoted(str(script_file))} ] && . {quoted(str(script_file))}  # bellevl completion\n"
    return place, _append_once(place, line)


def _append_once(place: Path, line: str) -> bool:
    """Whether `line` was added to `place`; it is not where it stands already."""
    text = place.read_bytes().decode("utf-8", "surrogateescape") if place.exists() else ""
    if line in text:
        return False
    with open(place, "a", encoding="utf-8") as file:
        file.write(("" if not text or text.endswith("\n") else "\n") + line)
    return True


def _settings_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _name(path: Path) -> str:
    return clean_line(typed_text(str(path)))
