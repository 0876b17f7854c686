"""What the documentation says is what the program has: the reference, the commands of the guides, the links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
GUIDES = ["docs/guide.md", "docs/guide.zh-CN.md"]
TEXTS = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", *GUIDES, "docs/reference.md", "docs/reference.zh-CN.md"]

#: Words of a shell that end a command.
ENDS = re.compile(r"\|\||&&|[|;&<>]+|\d>.*")

#: What stands for every command.
ANY_COMMAND = ("COMMAND", "命令")


@cache
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_reference", ROOT / "scripts" / "build_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_reference_is_what_help_says(language: str) -> None:
    """docs/reference has the commands, options, settings and slash commands of the program in both languages."""
    page = (ROOT / "docs" / reference().PAGES[language]).read_text(encoding="utf-8")
    assert page == reference().made(language), "run scripts/build_reference.py"


def commands(text: str) -> list[list[str]]:
    """The words behind `bellevl` of every command line in a page's blocks and between backquotes."""
    blocks = re.findall(r"^```(?:console|sh)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown = [line for block in blocks for line in block.splitlines()]
    lines = [line.removeprefix("$ ") for line in shown if re.match(r"\$ |bellevl ", line)]
    lines += re.findall(r"`(bellevl [^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    found = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        words = list(lexer)
        for start in [place for place, word in enumerate(words) if word == "bellevl"]:
            rest = words[start + 1 :]
            end = next((place for place, word in enumerate(rest) if ENDS.fullmatch(word)), len(rest))
            found.append(rest[:end])
    return found


@cache
def program() -> Any:
    import typer

    from bellevl_cli.app import app

    return typer.main.get_command(app)


def wrong_word(words: list[str]) -> str | None:
    """The first command or option in a command line that the program does not have; None where all are there."""
    command, rest = program(), iter(words)
    for word in rest:
        if re.match(r"--?[A-Za-z]", word):
            known = {option: parameter for parameter in command.params for option in parameter.opts}
            if word.partition("=")[0] not in {*known, "-h", "--help"}:
                return word
            if word in known and not known[word].is_flag:
                next(rest, None)
        elif hasattr(command, "list_commands"):
            if word in ANY_COMMAND:
                return None
            if word not in command.commands:
                return word
            command = command.commands[word]
    return None


@pytest.mark.parametrize("guide", [*GUIDES, "README.md", "README.zh-CN.md"])
def test_commands_of_the_guides_exist(guide: str) -> None:
    """Each `bellevl …` line names a command and options that the program has."""
    lines = commands((ROOT / guide).read_text(encoding="utf-8"))
    assert lines, "the search found nothing"
    assert [(words, wrong) for words in lines if (wrong := wrong_word(words))] == []


def test_a_wrong_command_is_found() -> None:
    """A command or option that is not there would be noticed, in a pipe as well."""
    lines = commands("```console\n$ echo x | bellevl ask a.png --nosuch; bellevl log\n```\n`bellevl logs sow`")
    assert [wrong_word(words) for words in lines] == ["--nosuch", "log", "sow"]


def test_the_guides_use_every_command() -> None:
    """No command of the program is left out of a guide."""
    for guide in GUIDES:
        text = (ROOT / guide).read_text(encoding="utf-8")
        assert [name for name in program().commands if f"bellevl {name}" not in text] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_slash_commands_and_variables_exist(guide: str) -> None:
    """A command of the chat between backquotes is one, and a variable is read somewhere in the program."""
    from bellevl_cli.chat.slash import find as find_command
    from bellevl_cli.chat.slash import parse
    from bellevl_cli.keys import KEYS

    text = (ROOT / guide).read_text(encoding="utf-8")
    typed = re.findall(r"`([/／][^\s`/][^`\n]*)`", text)
    assert typed and [line for line in typed if find_command(parse(line).name) is None] == []
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "bellevl_cli").rglob("*.py"))
    known = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", source)) | {key.variable for key in KEYS}
    assert set(re.findall(r"\b(?:BELLEVL|HF)_[A-Z_]+\b", text)) <= known


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    """A link to a file leads to one, and to a heading that it has."""
    page = ROOT / name
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if heading:
            assert heading in headings(file), target


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_guides_name_no_machine() -> None:
    """Outputs in the guides hold no path of the machine that made them."""
    for guide in GUIDES:
        text = (ROOT / guide).read_text(encoding="utf-8")
        assert str(ROOT) not in text
        assert not re.search(r"/(?:tmp|root|home|work)/", text)
