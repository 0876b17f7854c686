"""What the documentation says is what the program has: the reference, the commands of the guides, the links."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from bellevl import __version__

ROOT = Path(__file__).parents[1]
GUIDES = ["docs/guide.md", "docs/guide.zh-CN.md"]
TEXTS = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", *GUIDES, "docs/reference.md", "docs/reference.zh-CN.md"]

#: Groups of commands.
GROUPS = ("bellevl config", "bellevl convert", "bellevl evaluate", "bellevl logs")

#: Words of a shell that end a command.
ENDS = re.compile(r"\|\||&&|[|;&<>]+|\d>.*")

#: What stands for every command.
ANY_COMMAND = ("COMMAND", "命令")


@cache
def script(name: str) -> ModuleType:
    """A file of scripts/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(ROOT / "scripts") not in sys.path:  # as Python has it for a script
        sys.path.append(str(ROOT / "scripts"))
    sys.modules[name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def reference() -> ModuleType:
    return script("build_reference")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_reference_is_what_help_says(language: str) -> None:
    """docs/reference has the commands, options, settings and slash commands of the program in both languages."""
    page = (ROOT / "docs" / reference().PAGES[language]).read_text(encoding="utf-8")
    assert page == reference().made(language), "run scripts/build_reference.py"


def sections(page: str) -> dict[str, str]:
    """A page's parts by their headings."""
    parts = re.split(r"(?m)^#+ (.*)$", page)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def every_command(command: Any, path: str = "bellevl") -> Iterator[tuple[str, Any]]:
    """(path, command) of the program, its groups and all their commands."""
    yield path, command
    for name, inside in getattr(command, "commands", {}).items():
        yield from every_command(inside, f"{path} {name}")


def test_the_reference_shows_options_as_they_are_typed() -> None:
    """Each option of each command and group is there with all its spellings, and with a value where the parser wants
    one and only there; a group that does something by itself says that its command may be left out."""
    parts = sections((ROOT / "docs" / "reference.md").read_text(encoding="utf-8"))
    with_a_value = 0
    for path, command in every_command(program()):
        rows = [re.split(", | / | ", row) for row in re.findall(r"(?m)^\| `(-[^`]*)` \|", parts[path])]
        for option in [p for p in command.params if p.param_type_name == "option" and not p.hidden]:
            row = next((row for row in rows if row[0] in option.opts), [])
            assert {word for word in row if word[0] == "-"} == {*option.opts, *option.secondary_opts}, (path, row)
            value = [word for word in row if word[0] != "-"]
            assert bool(value) == (not option.is_flag), (path, row)
            with_a_value += path in GROUPS and bool(value)
        if path in GROUPS:
            optional = command.invoke_without_command
            assert ("[COMMAND [ARGS]...]" in parts[path]) == optional, path
    assert with_a_value, "bellevl logs has options that take values"


def test_the_reference_has_codes_and_variables() -> None:
    """Every exit code of the program has its row, and so has every variable that its source reads."""
    from bellevl_cli import exits
    from bellevl_cli.keys import KEYS, VARIABLES

    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "bellevl_cli").rglob("*.py") if p.name != "keys.py")
    read = set(re.findall(r'"(BELLEVL_[A-Z_]+)"', source)) - {key.variable for key in KEYS}
    assert read and read <= set(VARIABLES) and all(name in source for name in VARIABLES)
    for name in ("reference.md", "reference.zh-CN.md"):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert codes == {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", page)}
        assert [variable for variable in VARIABLES if f"| `{variable}` |" not in page] == []


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


def test_a_changed_output_is_found(tmp_path: Path) -> None:
    """`run_guide.py --check` runs a guide's commands: it ends with 1 where an output is another one, and writes
    nothing; without it the output is put in."""
    guide = tmp_path / "guide.md"
    guide.write_text("```console\n$ bellevl --version\nbellevl 0.0.0\n```\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "scripts" / "run_guide.py"), str(guide)]
    before = guide.read_text(encoding="utf-8")
    checked = subprocess.run([*command, "--check"], capture_output=True, check=False)
    assert checked.returncode == 1 and b"-bellevl 0.0.0" in checked.stdout
    assert guide.read_text(encoding="utf-8") == before
    subprocess.run(command, capture_output=True, check=True)
    assert f"bellevl {__version__}" in guide.read_text(encoding="utf-8")
    assert subprocess.run([*command, "--check"], capture_output=True, check=False).returncode == 0


def test_what_differs_in_each_run_is_not_compared() -> None:
    """Another time, date or id is no change of a guide; another answer is one."""
    difference = script("run_guide").difference
    before = "4e2f  08:12  cat.png  1 turns\nload 4.2s · 19.0 token/s\nIt is blue."
    assert difference(before, before.replace("4e2f  08:12", "77aa  09:30").replace("4.2s", "3.1s")) == ""
    assert "+It is red." in difference(before, before.replace("blue", "red"))


def test_the_first_session_is_what_the_script_types() -> None:
    """docs/first-session.md has each line that scripts/record_session.py types, in its order, behind a prompt."""
    page = (ROOT / "docs" / "first-session.md").read_text(encoding="utf-8")
    typed = re.findall(r"(?m)^(?:(?:\(\S+\) )?\$|问>) (.+)$", page)
    made = [line for line in typed if not line.startswith("bellevl ask ")]  # make says what it runs
    assert made == [step.line for step in script("record_session").STEPS]


def test_a_step_is_over_when_the_prompt_is_back() -> None:
    """The recorder waits for the expected words and for an empty prompt behind them; of two lines the newest counts."""
    session = script("record_session")
    step = session.Step("/retry", "图中有")
    screen = "问> /retry\n旧的\n问>\n x  上下文 1/4\n问> /retry\n"
    assert not session.is_over(session.after(screen, "/retry")[-1], step)
    assert not session.is_over(session.after(screen + "图中有猫。\n", "/retry")[-1], step)
    assert session.is_over(
        session.after(screen + "图中有猫。\n问>\n\n cat.png  上下文 9/448  6 字/秒", "/retry")[-1], step
    )


def test_pictures_are_small_and_shown() -> None:
    """Each file of docs/pictures is a small picture that a page shows, and the script that makes them makes each."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    maker = (ROOT / "scripts" / "take_screenshots.py").read_text(encoding="utf-8")
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert pictures
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and max(picture.size) <= 1280
        assert path.stat().st_size < 150_000
        assert f"pictures/{path.name}" in pages and f'"{path.name}"' in maker


def test_a_screen_keeps_its_colours() -> None:
    """Colours of 16, of 256 and of red, green and blue come into the page, in the places of the screen; a wide
    character takes two of them, and what it says is no HTML."""
    page = script("take_screenshots").as_page(
        "before\n$ x\n\x1b[38;2;1;2;3m\x1b[48;5;196m船\x1b[0m<\x1b[31mr\x1b[39m\n\n\nend"
    )
    assert "before" not in page and page.count("<div>") == 4  # "$ x", the colours, one empty line, "end"
    assert '<i class="w" style="color:rgb(1 2 3);background:rgb(255 0 0)">船</i><i style="">&lt;</i>' in page
    assert f'<i style="color:{script("take_screenshots").BASIC[1]}">r</i>' in page


def test_one_part_of_a_guide_is_run_alone(tmp_path: Path) -> None:
    """`run_guide.py --part HEADING` puts in the outputs below that heading and leaves all others as they were; files
    of the other parts are there."""
    guide = tmp_path / "guide.md"
    first = "# Guide\n\n## A\n\n```toml\n# ~/a.toml\nx = 1\n```\n\n```console\n$ echo one\nwrong\n```\n\n"
    guide.write_text(f"{first}## B\n\n```console\n$ cat ~/a.toml\nwrong\n```\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "scripts" / "run_guide.py"), str(guide), "--part", "B"]
    subprocess.run(command, capture_output=True, check=True)
    text = "## B\n\n```console\n$ cat ~/a.toml\n# ~/a.toml\nx = 1\n```\n"
    assert guide.read_text(encoding="utf-8") == first + text
