"""Every message in both languages, complete and with the same gaps."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

from bellevl import errors
from bellevl.errors import MESSAGES, CheckpointError, PictureError
from bellevl_cli import commands, words
from bellevl_cli.chat.registry import GROUPS
from bellevl_cli.chat.slash import COMMANDS

ROOT = Path(__file__).parents[1]
CHINESE = re.compile("[\u4e00-\u9fff]")


def gaps(text: str) -> set[str]:
    """The names of a text's gaps."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def calls(folder: str, names: set[str]) -> list[tuple[str, ast.Call]]:
    """(function, call) of every call of `names` in a package."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in names:
                    found.append((name, node))
    return found


@pytest.mark.parametrize("message", sorted(words.TEXTS))
def test_texts_have_both_languages_with_the_same_gaps(message: str) -> None:
    """Each of the terminal's messages exists in Chinese and English, with the same facts in it."""
    chinese, english = words.TEXTS[message]
    assert chinese.strip() and english.strip()
    assert gaps(chinese) == gaps(english)
    assert not CHINESE.search(english)


def test_no_message_stands_twice() -> None:
    """An id belongs to one room."""
    assert len(words.TEXTS) == sum(len(room) for room in words.ROOMS)


def test_every_error_has_chinese_words() -> None:
    """bellevl's errors and the terminal's Chinese table have the same ids."""
    assert set(words.ERRORS) == set(MESSAGES)


@pytest.mark.parametrize("message", sorted(MESSAGES))
def test_errors_tell_the_same_facts(message: str) -> None:
    """The Chinese cause has the facts of the English one; the cure invents none."""
    facts = [gaps(text) for text in MESSAGES[message]]
    cause, hint = words.ERRORS[message]
    assert CHINESE.search(cause) and CHINESE.search(hint)
    assert gaps(cause) == facts[0]
    assert gaps(hint) <= facts[0] | facts[1]


def test_ids_in_the_source_stand_in_the_table() -> None:
    """No command says a message that the table does not have."""
    said = {
        call.args[0].value
        for _, call in calls("bellevl_cli", {"say"})
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    assert said, "the search found nothing"
    assert said <= set(words.TEXTS)


def test_no_message_is_left_over() -> None:
    """Every id of the table is used somewhere in the terminal's source."""
    files = [path for path in (ROOT / "bellevl_cli").rglob("*.py") if path.parent.name != "words"]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    source += (ROOT / "bellevl_cli/words/__init__.py").read_text(encoding="utf-8")
    built = {f"help.{function.__name__}" for function in commands.COMMANDS}
    built |= {f"{kind}.{name}" for kind in ("command", "usage", "example") for name in COMMANDS}
    built |= {f"group.{name}" for name in GROUPS}
    built |= {f"source.{name}" for name in ("default", "config", "environment", "option", "session")}
    built |= {f"doctor.{level}" for level in ("ok", "warning", "error")}
    unused = {message for message in words.TEXTS if f'"{message}"' not in source} - built
    assert unused == set()


def test_raised_errors_stand_in_the_table() -> None:
    """Each error that bellevl and quantize raise has its message."""
    classes = {name for name in vars(errors) if name.endswith("Error")}
    raised = {
        call.args[0].value
        for folder in ("bellevl", "quantize", "bellevl_cli")
        for _, call in calls(folder, classes)
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }
    raised = {message for message in raised if re.fullmatch(r"[a-z]+\.[a-z0-9_]+", message)}
    assert raised and raised <= set(MESSAGES)


def test_constant_reasons_have_chinese_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason written down in the source reads Chinese in a Chinese message."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    classes = {name for name in vars(errors) if name.endswith("Error")}
    helpers = {"_demand", "_require", "refuse", "wrong", "damaged"}
    found = calls("bellevl", classes | helpers) + calls("quantize", classes | helpers)
    values = [k.value for name, call in found if name in classes for k in call.keywords if k.arg == "reason"]
    values += [call.args[-1] for name, call in found if name in helpers and call.args]
    constants = {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    assert len(constants) > 20
    assert {reason for reason in constants if not CHINESE.search(words.reason(reason))} == set()


@pytest.mark.parametrize(
    "said",
    [
        "torch's int4 product on cpu, bfloat16 activations",
        "torch's int4 product is not for float32 on cpu; small enough to keep expanded",
        "torch's int4 product needs groups that are multiples of 32",
        "1.5 GB of 13.6 GB are free",
        "Expecting value: line 1 column 1 (char 0)",
        "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "b'no pictu'",
        "conversation 3: a message without a value",
        "rank 7 where 5 belongs",
    ],
)
def test_reasons_with_facts_have_chinese_words(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Phrases that are put together where they arise read Chinese, too, and stay as they are in English."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    assert CHINESE.search(words.reason(said)) and "{" not in words.reason(said)
    monkeypatch.setenv("BELLEVL_LANG", "en")
    assert words.reason(said) == said


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW.Big5"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_CN", "LANG": "en_US"}, "zh"),
        ({"LANGUAGE": "zh:en", "LC_ALL": "en_US.UTF-8"}, "zh"),
        ({"BELLEVL_LANG": "en", "LANGUAGE": "zh", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"BELLEVL_LANG": "zh", "LANG": "en_US.UTF-8"}, "zh"),
        ({"BELLEVL_LANG": "", "LANG": "zh_CN.UTF-8"}, "zh"),
    ],
)
def test_language_is_the_first_variable_that_is_set(environ: dict[str, str], expected: str) -> None:
    """BELLEVL_LANG decides, then LANGUAGE, LC_ALL, LC_MESSAGES, LANG; all but Chinese is English."""
    assert words.language(environ) == expected


def test_error_line_is_one_line_in_either_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cause and cure stand in one line, and a file's name cannot break or colour it."""
    error = PictureError("picture.missing", path="a\n\x1b[31m.png", folder="/tmp", near=" (b.png?)")
    for chosen, word in (("zh", "试试"), ("en", "Try")):
        monkeypatch.setenv("BELLEVL_LANG", chosen)
        line = words.error_line(error)
        assert word in line and "b.png" in line
        assert "\n" not in line and "\x1b" not in line


def test_reasons_are_said_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known phrase among the facts becomes Chinese, its numbers kept."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    error = CheckpointError("model.config", path="c", field="f", value="0", reason="not between 1 and 512")
    assert "不在 1 到 512 之间" in words.error_line(error)
