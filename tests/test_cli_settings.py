"""What the environment says: switches, model folders, and where the program may write."""

from __future__ import annotations

from pathlib import Path

import pytest

from bellevl.errors import CheckpointError
from bellevl_cli import settings


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


@pytest.mark.parametrize("name", ["~nobody-of-this-name/model", "x" * 5000, "a\0b", "file/inside"])
def test_what_cannot_be_a_folder_is_a_missing_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """A home of nobody, a name too long, a file for a folder: each is told as a model that is not there."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(CheckpointError) as caught:
        settings.choose_model(Path(name))
    assert caught.value.message == "model.missing"


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
