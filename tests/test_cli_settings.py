"""What the environment says: switches, model folders, and where the program may write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bellevl.errors import CheckpointError, ConfigError
from bellevl_cli import keys, settings


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("", False), ("0", False), ("Off", False)])
def test_a_switch_is_on_unless_it_says_no(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    """BELLEVL_DEBUG=0 is off: a variable that says no is not taken for one that is set."""
    monkeypatch.setenv("BELLEVL_DEBUG", value)
    assert settings.switched_on("BELLEVL_DEBUG") is on


def test_a_model_in_the_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~` is the home in BELLEVL_MODEL and in --model, also where no shell expands it."""
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BELLEVL_MODEL", "~/model")
    assert settings.choose_model(None).folder == settings.choose_model(Path("~/model")).folder == tmp_path / "model"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("~nobody-of-this-name/model", "model.missing"),
        ("x" * 5000, "model.unknown"),
        ("a\0b", "model.unknown"),
        ("file/inside", "model.missing"),
        ("./nano", "model.missing"),
        ("file", "model.file"),
    ],
)
def test_what_cannot_be_a_model_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, message: str
) -> None:
    """A home of nobody, a name too long, a file for a folder: a path is a missing folder, a word an unknown name."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(CheckpointError) as caught:
        settings.choose_model(name)
    assert caught.value.message == message


def test_a_file_is_told_from_a_missing_folder(tmp_path: Path) -> None:
    """Who names config.json or a weight file is told to name its folder."""
    (tmp_path / "config.json").touch()
    with pytest.raises(CheckpointError) as caught:
        settings.choose_model(tmp_path / "config.json")
    assert caught.value.message == "model.file"


def test_a_symlink_to_a_model_has_the_model_s_name(tmp_path: Path) -> None:
    """The name that is shown is the folder's own, however the path to it is written."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert settings.choose_model(tmp_path / "real" / ".." / "link").name == "real"


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder of models, and no other choice; the current folder is another one."""
    (tmp_path / "models").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("BELLEVL_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("BELLEVL_MODEL", raising=False)
    return tmp_path / "models"


def model_at(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_name_is_a_model_among_the_models(models: Path) -> None:
    """A name leads to its folder whatever its letters' case, `nano` to the embedded model."""
    wanted = model_at(models / "BELLE-VL")
    assert settings.choose_model("BELLE-VL").folder == settings.choose_model("belle-vl").folder == wanted
    assert settings.choose_model("nano").embedded


def test_a_model_here_comes_before_a_name(models: Path) -> None:
    """A folder of this name with a model in it is what a person sees; without one the name is meant."""
    named = model_at(models / "one")
    Path("one").mkdir()
    assert settings.choose_model("one").folder == named
    (Path("one") / "config.json").touch()
    assert settings.choose_model("one").folder == Path("one")


def test_an_unknown_name_says_the_nearest(models: Path) -> None:
    """A slip of the finger is answered with the name that was meant."""
    model_at(models / "BELLE-VL-14B-int4")
    with pytest.raises(CheckpointError) as caught:
        settings.choose_model("belle-vl-14b-in4")
    assert caught.value.message == "model.unknown" and "(BELLE-VL-14B-int4?)" in str(caught.value)


def test_the_only_model_is_the_default(models: Path) -> None:
    """Without a choice: the embedded model, then the only one that is here; of two one has to be named."""
    assert settings.choose_model(None).source == "embedded"
    first = model_at(models / "first")
    model_at(models / "unfinished.part")
    (models / "no-model").mkdir()
    chosen = settings.choose_model(None)
    assert (chosen.folder, chosen.source) == (first, "only")
    model_at(models / "second")
    with pytest.raises(CheckpointError) as caught:
        settings.choose_model(None)
    assert caught.value.message == "model.several" and "first, second" in str(caught.value)


def test_option_environment_configuration_default(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The option decides, then the environment, then config.toml, then the default."""
    for name in "abc":
        model_at(models / name)
    config = tmp_path / "config.toml"
    config.write_text('model = "c"\ntop_p = 1\n', encoding="utf-8")
    monkeypatch.setenv("BELLEVL_CONFIG", str(config))
    assert settings.choose_model(None).name == "c"
    monkeypatch.setenv("BELLEVL_MODEL", "b")
    assert settings.choose_model(None).name == "b"
    assert settings.choose_model("a").name == "a"
    assert settings.config_value("top_p") == 1.0 and isinstance(settings.config_value("top_p"), float)
    assert settings.config_value("top_p", option=0.5) == 0.5
    assert settings.config_value("max_tokens") is None and settings.config_value("max_tokens", 7) == 7


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("max_tokens = 0", "less than 1"),
        ("max_tokens = 1.5", "not a whole number"),
        ("max_tokens = true", "not a whole number"),
        ("top_p = 2", "not between 0 and 1"),
        ("plain = 1", "not true or false"),
        ("system = 3", "not text in quotes"),
        ('format = "html"', "not auto, raw or markdown"),
    ],
)
def test_a_value_that_cannot_be_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: str, reason: str
) -> None:
    """A wrong value names the file, the setting and what is wrong with it."""
    config = tmp_path / "wrong.toml"
    config.write_text(written, encoding="utf-8")
    monkeypatch.setenv("BELLEVL_CONFIG", str(config))
    with pytest.raises(ConfigError) as caught:
        settings.config_value(written.split(" ")[0])
    assert caught.value.facts["reason"] == reason and str(config) in str(caught.value)


def test_every_setting_is_read_somewhere() -> None:
    """The table promises nothing that the program does not do."""
    files = [path for path in Path(settings.__file__).parent.rglob("*.py") if path.name != "keys.py"]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    unread = [
        key.name for key in keys.KEYS if not re.search(rf'(config_value|sourced|setting)\(\s*"{key.name}"', source)
    ]
    assert set(unread) <= {"max_tokens", "temperature", "top_p"}  # read together in session.configured


@pytest.mark.parametrize("knows", [True, False])
def test_without_a_home_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, knows: bool) -> None:
    """Where no absolute folder is known (a container's user without a home), none is made, none named `~` either."""

    def user_state_path(*arguments: object, **options: object) -> Path:
        if knows:
            return Path("~/.local/state/bellevl")
        raise RuntimeError("could not determine the home directory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_state_path", user_state_path)
    with pytest.raises(OSError, match="~"):
        settings.state_folder()
    assert list(tmp_path.iterdir()) == []
