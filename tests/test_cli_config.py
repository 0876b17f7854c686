"""`bellevl config`: shown, set, edited, and never worse than a person left it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import ROOT, Bellevl

from bellevl.errors import ConfigError
from bellevl_cli import configuring, keys, settings
from bellevl_cli.exits import UsageError
from bellevl_cli.options import ModelOptions
from bellevl_cli.running.session import Plan, load, plan

try:
    import tomllib as toml
except ImportError:  # Python 3.10
    import tomli as toml


@pytest.fixture
def config(environment: dict[str, str]) -> Path:
    """Where the program looks for its settings."""
    return Path(environment["HOME"]) / ".config/bellevl/config.toml"


def test_path_is_where_the_file_will_be(bellevl: Bellevl, config: Path, tmp_path: Path) -> None:
    """`config path` names the file, there or not; BELLEVL_CONFIG names another."""
    assert bellevl("config", "path").stdout.decode() == f"{config}\n"
    assert not config.exists()
    other = tmp_path / "我的.toml"
    assert bellevl("config", "path", env={"BELLEVL_CONFIG": str(other)}).stdout.decode() == f"{other}\n"


def test_set_keeps_what_a_person_wrote(bellevl: Bellevl, config: Path) -> None:
    """Setting, changing and removing touch one line; comments, unknown keys and tables stay."""
    config.parent.mkdir(parents=True)
    config.write_text('# mine\nsystem = "短"  # why\n\n[other]\nmodel = "x"\n', encoding="utf-8")
    assert bellevl("config", "set", "max-tokens", "99").returncode == 0
    assert bellevl("config", "set", "system", '说 "是" \\ 否').returncode == 0
    text = config.read_text(encoding="utf-8")
    assert text.startswith("# mine\n") and '\n[other]\nmodel = "x"\n' in text
    record = json.loads(bellevl("config", "show", "--json").stdout)
    assert record["max_tokens"] == {"value": 99, "source": "config"}
    assert record["system"]["value"] == '说 "是" \\ 否'
    assert record["model"] == {"value": None, "source": "default"}
    assert bellevl("config", "unset", "system").returncode == 0
    assert json.loads(bellevl("config", "show", "--json").stdout)["system"]["source"] == "default"


def test_show_says_who_decides(bellevl: Bellevl) -> None:
    """Every setting has a line with its value and source; an environment variable goes before the file."""
    bellevl("config", "set", "top_p", "0.5")
    done = bellevl("config", "show", env={"BELLEVL_TOP_P": "0.25"})
    lines = {line.split()[0]: line for line in done.stdout.decode().splitlines()}
    assert set(lines) == {key.name for key in keys.KEYS}
    assert "0.25" in lines["top_p"] and "环境变量" in lines["top_p"]
    told = bellevl("config", "set", "top_p", "0.75", env={"BELLEVL_TOP_P": "0.25"}).stderr.decode()
    assert "BELLEVL_TOP_P" in told


def test_a_setting_reaches_the_answer(bellevl: Bellevl, tiny_folder: Path, picture: Path) -> None:
    """max_tokens of config.toml is the longest answer, and an option on the command line goes before it."""
    bellevl("config", "set", "max_tokens", "3")
    bellevl("config", "set", "model", tiny_folder)
    usage = [
        json.loads(bellevl("ask", picture, "什么", "--json", *more).stdout)["usage"]["completion_tokens"]
        for more in ([], ["--max-tokens", "5"])
    ]
    assert usage == [3, 5]


def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, **options: object) -> Plan:
    """What would be loaded with `text` as config.toml and these options."""
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("BELLEVL_CONFIG", str(path))
    settings.forget_config()
    return plan(ModelOptions("nano", "cpu", **options))  # type: ignore[arg-type]


def test_language_script_and_window_can_be_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """answer_lang, script and ctx are the option's, else the variable's, else config.toml's, else the model's own."""
    own = planned(monkeypatch, tmp_path, "")
    assert (own.language, own.script) == (None, None) and own.generation.max_window_size != 640
    text = 'answer_lang = "zh"\nscript = "hant"\nctx = 640\n'
    kept = planned(monkeypatch, tmp_path, text)
    assert (kept.language, kept.script, kept.generation.max_window_size) == ("zh", "hant", 640)
    monkeypatch.setenv("BELLEVL_ANSWER_LANG", "en")
    monkeypatch.setenv("BELLEVL_CTX", "600")
    varied = planned(monkeypatch, tmp_path, text)
    assert (varied.language, varied.generation.max_window_size) == ("en", 600)
    asked = planned(monkeypatch, tmp_path, text, language="auto", script="hans", context=700)
    assert (asked.language, asked.script, asked.generation.max_window_size) == ("auto", "hans", 700)


def test_a_configured_script_without_the_package_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """script in config.toml without opencc is one line about what to install, before a weight is read."""
    chosen = planned(monkeypatch, tmp_path, 'script = "hant"\n')
    monkeypatch.setattr("bellevl_cli.options.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install opencc"):
        load(chosen, 64, lambda memory: None)


def test_the_configured_script_reaches_the_answer(bellevl: Bellevl, picture: Path) -> None:
    """What `bellevl config set script hant` says is how the next answer is written."""
    assert bellevl("config", "set", "script", "hant").returncode == 0
    assert bellevl("config", "set", "ctx", "100").returncode == 2
    question = ("ask", ROOT / "examples/cat.png", "这是什么？", "--greedy")
    assert "這是" in bellevl(*question).stdout.decode()
    assert "这是" in bellevl(*question, "--script", "hans").stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set", "temprature", "1"], "没有设置项 temprature (temperature?)"),
        (["set", "top_p", "high"], "top_p 为 'high'，不是数字"),
        (["set", "top_p", "3"], "不在 0 到 1 之间"),
        (["set", "format", "html"], "不是 auto, raw 或 markdown"),
        (["set", "top_p"], "缺少参数 值"),
    ],
)
def test_a_wrong_setting_is_exit_2(bellevl: Bellevl, config: Path, arguments: list[str], said: str) -> None:
    """A name that is not there, with the nearest one, and a value that cannot be: one line, nothing written."""
    done = bellevl("config", *arguments)
    assert done.returncode == 2 and said in done.stderr.decode(), done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1 and not config.exists()


def test_a_broken_file_is_told_and_not_lost(bellevl: Bellevl, config: Path, picture: Path) -> None:
    """What is no TOML stops every command that needs a setting with exit 2, and `set` does not write over it."""
    config.parent.mkdir(parents=True)
    config.write_text("model = = 3\n", encoding="utf-8")
    for command in (["config", "set", "top_p", "1"], ["config", "show"], ["show"], ["ask", picture, "什么"]):
        done = bellevl(*command)
        assert done.returncode == 2 and "不是可读的 TOML" in done.stderr.decode(), command
    assert config.read_text(encoding="utf-8") == "model = = 3\n"
    assert bellevl("config", "path").returncode == 0


def test_an_unknown_key_is_a_note(bellevl: Bellevl, config: Path) -> None:
    """A key that nobody knows is named once with the nearest one, and the command goes on."""
    config.parent.mkdir(parents=True)
    config.write_text('modle = "x"\n', encoding="utf-8")
    done = bellevl("show")
    assert done.returncode == 0
    assert [line for line in done.stderr.decode().splitlines() if "modle" in line and "model?" in line]
    assert done.stderr.decode().count("modle") == 1


def test_edit_opens_a_file_with_every_setting(bellevl: Bellevl, config: Path, tmp_path: Path) -> None:
    """The editor gets a file with all settings as comments; what it leaves is checked."""
    editor = tmp_path / "my editor"
    editor.write_text('#!/bin/sh\ncp "$2" "$2.seen"; echo \'top_p = \'$1 >> "$2"\n', encoding="utf-8")
    editor.chmod(0o755)
    done = bellevl("config", "edit", env={"VISUAL": f"'{editor}' 0.5"})
    assert done.returncode == 0, done.stderr.decode()
    seen = config.with_name("config.toml.seen").read_text(encoding="utf-8")
    assert toml.loads(seen) == {} and all(f"# {key.name} = " in seen for key in keys.KEYS)
    assert json.loads(bellevl("config", "show", "--json").stdout)["top_p"]["value"] == 0.5
    assert bellevl("config", "edit", env={"EDITOR": f"'{editor}' 7"}).returncode == 2
    done = bellevl("config", "edit", env={"EDITOR": "/no/such/editor"})
    assert done.returncode == 2 and "/no/such/editor" in done.stderr.decode()


@pytest.mark.parametrize("text", ["", "a = 1", "\n\n", "[t]\nx = 1\n", "# c\n[t]\nmatte = 2\n", 'matte = "a" # b\n'])
def test_changed_text_says_what_was_asked(text: str) -> None:
    """Whatever the file looks like, afterwards it says the new value and everything else as before."""
    key = keys.known("matte")
    after = configuring.changed(text, key, "白\n\x7f色", Path("f"))
    assert toml.loads(after) == {**toml.loads(text), "matte": "白\n\x7f色"}
    assert toml.loads(configuring.changed(after, key, None, Path("f"))) == {
        name: value for name, value in toml.loads(text).items() if name != "matte"
    }


def test_what_a_line_cannot_change_is_left_to_the_person() -> None:
    """A value over several lines is not cut in two."""
    with pytest.raises(ConfigError) as caught:
        configuring.changed('system = """a\nb"""\n', keys.known("system"), "c", Path("f"))
    assert caught.value.message == "config.by_hand"


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new text cannot be written whole, the old one is still there and nothing lies beside it."""
    path = tmp_path / "config.toml"
    path.write_text("top_p = 1\n", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        configuring.write_whole(path, "top_p = 0.5\n")
    assert path.read_text(encoding="utf-8") == "top_p = 1\n" and list(tmp_path.iterdir()) == [path]
