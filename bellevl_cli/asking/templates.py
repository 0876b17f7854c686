"""Questions with a name: `-t ocr`. A few come with the program, a person's own are files in the settings folder.

NAME.toml has `question`, perhaps `system`, `schema`, `together = true`, and a table `params` of what stands in the
gaps of the question where `-p gap=text` says nothing else. Text is put into gaps and never evaluated.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..exits import UsageError
from ..screen.clean import clean_line, typed_text
from ..settings import PROGRAM, read_text, toml_table
from ..words import say

_GAP = re.compile(r"\{(\w+)\}")

#: Where the words behind the pictures go, if the template has a place for them; else they follow it.
OWN_WORDS = "question"

#: Chinese name -> (the other name, message of its question, its parameters). "params" are in both languages' texts.
BUILT_IN = {
    "描述": ("describe", "template.describe"),
    "ocr": ("text", "template.ocr"),
    "表格": ("table", "template.table"),
    "商品": ("product", "template.product"),
    "无障碍": ("alt", "template.alt"),
    "翻译": ("translate", "template.translate"),
    "找不同": ("differences", "template.differences"),
}


@dataclass(frozen=True)
class Template:
    """A question with gaps; `params` fill them where nobody says otherwise."""

    name: str
    question: str
    system: str | None = None
    schema: str | None = None
    together: bool = False
    params: Mapping[str, str] = field(default_factory=dict)

    def filled(self, given: tuple[str, ...], own_words: str = "") -> str:
        """The question with `given` ("key=value") in its gaps and `own_words` behind it. Raises UsageError."""
        gaps = set(_GAP.findall(self.question))
        values = {**self.params, **self._read(given, gaps)}
        if OWN_WORDS in gaps:
            values, own_words = {**values, OWN_WORDS: own_words}, ""
        if missing := sorted(gaps - set(values)):
            raise UsageError(say("template.missing", name=self.name, gap=missing[0]))
        text = _GAP.sub(lambda gap: values[gap[1]], self.question)
        return f"{text}\n{own_words}".strip()

    def _read(self, given: tuple[str, ...], gaps: set[str]) -> dict[str, str]:
        values = {}
        for one in map(typed_text, given):
            key, equals, value = one.partition("=")
            if not equals:
                raise UsageError(say("template.no_value", given=clean_line(one)))
            if key.strip() not in gaps - {OWN_WORDS}:
                known = " ".join(sorted(gaps - {OWN_WORDS})) or "-"
                raise UsageError(say("template.no_gap", name=self.name, gap=clean_line(key), known=known))
            values[key.strip()] = value.strip()
        return values


def folder() -> Path:
    """Where a person's own templates lie, wherever the configuration file is."""
    from platformdirs import user_config_path

    try:
        return user_config_path(PROGRAM, appauthor=False) / "templates"
    except RuntimeError:  # neither a home nor XDG_CONFIG_HOME says where
        return Path(os.devnull)


def find(name: str) -> Template:
    """A person's own template of that name, else one of the program's; `./mine.toml` is a file. Raises UsageError."""
    name = typed_text(name).strip()
    if name.endswith(".toml"):
        return _read_file(Path(name).expanduser())
    own = {path.stem: path for path in _own()}
    if name in own:
        return _read_file(own[name])
    for chinese, (english, message) in BUILT_IN.items():
        if name.lower() in (chinese, english):
            params = {"to": say("template.translate_to")} if chinese == "翻译" else {}
            return Template(name, say(message, to="{to}"), together=chinese == "找不同", params=params)
    names = [*own, *BUILT_IN, *(english for english, _ in BUILT_IN.values())]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    meant = say("usage.near", name=near[0]) if near else ""
    raise UsageError(say("template.unknown", name=clean_line(name), near=meant, names=" ".join([*own, *BUILT_IN])))


def _own() -> list[Path]:
    try:
        return sorted(path for path in folder().iterdir() if path.suffix == ".toml" and path.is_file())
    except OSError:
        return []


def _read_file(path: Path) -> Template:
    """Raises UsageError for a file that is no template, ConfigError for one that is no TOML."""
    if not path.is_file():
        raise UsageError(say("template.no_file", path=clean_line(str(path))))
    raw = toml_table(read_text(path), path)
    if unknown := sorted(set(raw) - {"question", "system", "schema", "together", "params"}):
        raise _wrong(path, unknown[0])
    params = raw.get("params", {})
    if not isinstance(params, dict):
        raise _wrong(path, "params")
    return Template(
        name=path.stem,
        question=_text(raw, "question", path) or "",
        system=_text(raw, "system", path, needed=False),
        schema=_text(raw, "schema", path, needed=False),
        together=raw.get("together") is True,
        params={key: str(value) for key, value in params.items()},
    )


def _text(raw: dict[str, Any], key: str, path: Path, needed: bool = True) -> str | None:
    value = raw.get(key)
    if value is None and not needed:
        return None
    if not isinstance(value, str) or not value.strip():
        raise _wrong(path, key)
    return value.strip()


def _wrong(path: Path, key: str) -> Exception:
    return UsageError(say("template.wrong", path=clean_line(str(path)), key=clean_line(key)))
