"""`bellevl config`: config.toml shown, changed line by line and edited. Comments and unknown keys of a person stay."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from bellevl.errors import ConfigError

from . import keys, settings
from .keys import KEYS, Key
from .screen.clean import clean_line, json_line, typed_text
from .screen.render import Renderer
from .screen.table import table_lines
from .words import say

#: Who says what a setting is -> the words for it.
SOURCES = {
    "environment": "config.from_environment",
    "config": "config.from_config",
    "default": "config.from_default",
}

#: Where the first table of a TOML file begins; our keys stand before it.
_TABLE = re.compile(r"^\s*\[", re.MULTILINE)


def show(as_json: bool, renderer: Renderer | None = None) -> None:
    """Every setting, its value, and who says so. Raises ConfigError."""
    renderer = renderer or Renderer()
    found = [(key, *settings.sourced(key.name)) for key in KEYS]
    if as_json:
        renderer.line(json_line({key.name: {"value": value, "source": source} for key, value, source in found}))
        return
    rows = [(key.name, shown(value), say(SOURCES[source]), say(key.help)) for key, value, source in found]
    for line in table_lines(rows):
        renderer.line(line)
    renderer.say("config.file", path=_name(settings.config_path()))


def shown(value: Any) -> str:
    """A value as TOML writes it; "-" for none."""
    return "-" if value is None else clean_line(toml_value(value))


def assign(name: str, value: str, renderer: Renderer | None = None) -> None:
    """Writes one setting into config.toml. Raises ConfigError for a name or value that cannot be."""
    key = keys.known(name)
    path = settings.config_path()
    parsed = key.parsed(value, "bellevl config set")
    text = changed(settings.read_text(path), key, parsed, path)
    write_whole(path, text)
    settings.forget_config()
    renderer = renderer or Renderer()
    renderer.say("config.done", name=key.name, value=shown(parsed), path=_name(path))
    if os.environ.get(key.variable, "").strip():
        renderer.say("config.overruled", variable=key.variable)


def unset(name: str, renderer: Renderer | None = None) -> None:
    """Takes a setting out of config.toml. Raises ConfigError."""
    key, path = keys.known(name), settings.config_path()
    before = settings.read_text(path)
    after = changed(before, key, None, path)
    if after != before:
        write_whole(path, after)
        settings.forget_config()
    (renderer or Renderer()).say("config.removed", name=key.name, path=_name(path))


def edit(renderer: Renderer | None = None) -> None:
    """Opens config.toml in the person's editor, made with every setting as a comment where there is none.

    Raises ConfigError where the editor does not start, and for what the file says when it is closed.
    """
    path = settings.config_path()
    if not path.exists():
        write_whole(path, template())
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        code = subprocess.call([*shlex.split(editor), str(path)])  # noqa: S603 - the person's own editor
    except (OSError, ValueError) as error:
        raise ConfigError("config.editor", editor=editor, path=path, reason=error) from error
    if code:
        raise ConfigError("config.editor", editor=editor, path=path, reason=f"exit code {code}")
    settings.forget_config()
    settings.check_config()
    (renderer or Renderer()).say("config.saved", path=_name(path))


def template() -> str:
    """A new config.toml: every setting, explained and switched off."""
    lines = ["# " + say("config.template"), ""]
    for key in KEYS:
        example = key.default if key.default is not None else {str: "", int: 512, float: 0.3}[key.kind]
        choices = f" ({', '.join(key.choices)})" if key.choices else ""
        lines += [f"# {say(key.help)}{choices}", f"# {key.name} = {toml_value(example)}", ""]
    return "\n".join(lines)


def changed(text: str, key: Key, value: Any, path: Path) -> str:
    """`text` with `key` set to `value` (None: without it), every other line as it was.

    Raises ConfigError where that cannot be done line by line: the result is read again and compared.
    """
    wanted = settings.toml_table(text, path)
    wanted.pop(key.name, None)
    if value is not None:
        wanted[key.name] = value
    line = [] if value is None else [f"{key.name} = {toml_value(value)}"]
    after = _replaced(text, key.name, line)
    try:
        if settings.toml_table(after, path) == wanted:
            return after
    except ConfigError:
        pass
    raise ConfigError("config.by_hand", path=path, name=key.name)


def _replaced(text: str, name: str, line: list[str]) -> str:
    """The line of `name` replaced by `line`; a new one goes before the first table."""
    found = _TABLE.search(text)
    head, tables = (text[: found.start()], text[found.start() :]) if found else (text, "")
    lines = head.splitlines()
    at = next((i for i, old in enumerate(lines) if re.match(rf"\s*[\"']?{name}[\"']?\s*=", old)), None)
    if at is None:
        while lines and not lines[-1].strip():
            lines.pop()
        lines += line
    else:
        lines[at : at + 1] = line
    head = "\n".join(lines) + "\n" if lines else ""
    return head + ("\n" + tables if tables and not found_blank(head) else tables)


def found_blank(head: str) -> bool:
    """Whether a table may follow: at the beginning, or behind an empty line."""
    return not head or head.endswith("\n\n")


def toml_value(value: Any) -> str:
    """A text, number or switch in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(_escaped(c) for c in value) + '"'
    return repr(value)


def _escaped(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    return f"\\u{ord(c):04x}" if not c.isprintable() and ord(c) < 0x10000 else c


def write_whole(path: Path, text: str) -> None:
    """`path` with `text`, complete or as it was; a link stays a link. Raises OSError."""
    path = path.resolve()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _name(path: Path) -> str:
    return clean_line(typed_text(str(path)))
