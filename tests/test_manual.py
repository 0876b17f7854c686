"""The manual pages say what the program has, in a form that `man` shows without a warning."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from bellevl_cli import exits
from bellevl_cli.keys import KEYS

if sys.version_info >= (3, 11):
    import tomllib as toml
else:
    import tomli as toml

ROOT = Path(__file__).parents[1]
LANGUAGES = ["en", "zh"]


@cache
def manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_manual", ROOT / "scripts" / "build_manual.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(language: str) -> str:
    return (ROOT / "docs" / "man" / manual().PAGES[language]).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """What stands between a heading and the next one."""
    return page.partition(f'.SH "{heading}"\n')[2].partition("\n.SH ")[0]


def heads(part: str) -> list[str]:
    """The items of a section."""
    return [line.replace("\\-", "-") for line in re.findall(r"^\.TP\n\\fB(.*)\\fR$", part, re.MULTILINE)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_manual_is_what_help_says(language: str) -> None:
    """docs/man has the commands, options, settings and slash commands of the program in both languages."""
    assert text(language) == manual().made(language), "run scripts/build_reference.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_manual_is_sound_roff(language: str) -> None:
    """Only the requests and escapes that every `man` knows, no empty line, and all sections once."""
    page = text(language)
    assert manual().problems(page) == []
    ids = ("name", "synopsis", "description", "commands", "chat", "settings", "environment", "files", "codes")
    headings = [manual().WORDS[id][language == "zh"] for id in (*ids, "examples")]
    assert re.findall(r'^\.SH "(.*)"$', page, re.MULTILINE) == headings
    assert all(section(page, heading).strip() for heading in headings)


def test_unsound_roff_is_found() -> None:
    """A stray request, an escape nobody wrote and an empty line would be noticed; text that begins so is no request."""
    wrong = [".oops", "a \\x b", "", "'quote"]
    assert sorted(manual().problems("\n".join([".TP", "good \\-\\-x", *wrong]))) == sorted(wrong)
    assert manual().roff(".oops -x \\n") == "\\&.oops \\-x \\en"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_has_no_warning(language: str) -> None:
    """groff sets the page with every warning on and says nothing."""
    path = ROOT / "docs" / "man" / manual().PAGES[language]
    done = subprocess.run(["groff", "-k", "-man", "-Tutf8", "-ww", path], capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()
    assert "bellevl" in done.stdout.decode()


def test_every_exit_code_is_explained() -> None:
    """EXIT STATUS has each code that exits.py gives, and no other."""
    codes = {str(value) for name, value in vars(exits).items() if name.isupper() and type(value) is int}
    assert set(heads(section(text("en"), "EXIT STATUS"))) == codes >= {"0", "130"}


def test_every_variable_is_explained() -> None:
    """Each BELLEVL_ variable that the program reads is a setting or stands below ENVIRONMENT."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bellevl_cli").rglob("*.py"))
    read = set(re.findall(r"\bBELLEVL_[A-Z_]*[A-Z]\b", source)) - {"BELLEVL_NAME"}
    explained = set(heads(section(text("en"), "ENVIRONMENT"))) | {key.variable for key in KEYS}
    assert read and read <= explained


def test_the_manual_is_installed_where_man_looks() -> None:
    """The package puts each page below share/man, where its place in docs/man says."""
    project = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = project["tool"]["setuptools"]["data-files"]
    wanted = {f"share/man/{Path(name).parent}": [f"docs/man/{name}"] for name in manual().PAGES.values()}
    assert files == wanted and all((ROOT / file).is_file() for [file] in files.values())
