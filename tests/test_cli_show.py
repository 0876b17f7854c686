"""`bellevl show` and `bellevl doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Bellevl
from tiny import write_tiny_checkpoint

from bellevl_cli import doctor, doctor_checks
from bellevl_cli.screen.table import table_lines


def test_show_counts_without_weights(bellevl: Bellevl, tmp_path: Path) -> None:
    """show needs config.json alone; --json has what the table has."""
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    size = (folder / "model.safetensors").stat().st_size
    record = json.loads(bellevl("show", "--model", folder, "--json").stdout)
    assert (record["name"], record["architecture"], record["quantization"]) == ("tiny", "QWenLMHeadModel", None)
    assert record["parameters"]["total"] * 4 <= record["files"]["model.safetensors"] == size
    assert record["context_window"] == 2048 and record["vision"]["tokens_per_picture"] == 4
    (folder / "model.safetensors").unlink()
    done = bellevl("show", "--model", folder)
    assert done.returncode == 0 and done.stderr == b""
    text = done.stdout.decode()
    assert "2 层，宽 128，1 头" in text and "56×56 像素" in text and "qwen.tiktoken" in text


def test_a_hostile_config_cannot_steer_the_terminal(bellevl: Bellevl, tmp_path: Path) -> None:
    """Escape sequences in a folder's name, its files' names and its config reach no stream."""
    bad = "x\x1b]52;c;aGk=\x07\x9b2J\x1b[31m"
    folder = write_tiny_checkpoint(tmp_path / f"tiny{bad}", torch_dtype=bad, architectures=["QWenLMHeadModel", bad])
    (folder / f"{bad}.txt").touch()
    table, record = bellevl("show", "--model", folder), bellevl("show", "--model", folder, "--json")
    assert table.returncode == record.returncode == 0
    for output in (table.stdout, table.stderr, record.stdout):
        assert not any(c in output.decode() for c in "\x1b\x07\x9b")
    assert json.loads(record.stdout)["folder"] == str(folder)


def test_show_of_nothing_is_exit_4(bellevl: Bellevl, tmp_path: Path) -> None:
    """A folder that is no model is told in one line."""
    done = bellevl("show", "--model", tmp_path, "--json")
    assert (done.returncode, done.stdout) == (4, b"") and len(done.stderr.decode().splitlines()) == 1


def test_doctor_reports_every_line(bellevl: Bellevl) -> None:
    """doctor names Python, torch, memory, the int4 product and why; the embedded model sees that a circle
    is green, and nobody was called meanwhile."""
    done = bellevl("doctor", "--net", "--json")
    findings = {finding["id"]: finding for finding in json.loads(done.stdout)}
    machine = {"python", "torch", "memory", "device", "int4", "state", "heic", "terminal"}
    assert machine | {"config", "font", "clipboard", "pictures", "model"} <= set(findings)
    assert findings["font"]["facts"]["chinese"] and len(findings["model"]["facts"]["sha256"]) == 64
    assert findings["int4"]["facts"]["product"] and findings["int4"]["facts"]["reason"]
    assert findings["network"]["text"] == "网络连接: 0"
    assert done.returncode == 0, done.stdout.decode()
    assert findings["answer"]["facts"]["tokens"] > 0 and "绿" in findings["answer"]["facts"]["text"]


def test_a_check_that_cannot_be_done_is_one_line_of_the_table() -> None:
    """Without torch, say, doctor reports that and goes on."""

    def _torch() -> Iterator[doctor.Finding]:
        raise ModuleNotFoundError("No module named 'torch'")

    [finding] = doctor._findings(_torch)
    assert (finding.id, finding.level) == ("torch", "error") and "No module named" in finding.text


def test_doctor_tells_a_broken_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A configuration that cannot be read is a line of the table, an error, with the file's name."""
    broken = tmp_path / "config.toml"
    broken.write_text("top_p = 'high'\n", encoding="utf-8")
    monkeypatch.setenv("BELLEVL_CONFIG", str(broken))
    [finding] = [f for check in doctor.CHECKS if check.__name__ == "_config" for f in doctor._findings(check)]
    assert finding.level == "error" and str(broken) in finding.text and "top_p" in finding.text


def test_the_driver_is_read_where_linux_says_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The NVIDIA driver's version, of the open and the closed kernel module; None without a driver."""
    version = tmp_path / "version"
    monkeypatch.setattr(doctor_checks, "DRIVER", version)
    assert doctor_checks._driver() is None
    for line in ("Kernel Module  550.54.15  Tue", "Open Kernel Module for x86_64  550.54.15  Release"):
        version.write_text(f"NVRM version: NVIDIA UNIX x86_64 {line}\n", encoding="ascii")
        assert doctor_checks._driver() == "550.54.15"


def test_columns_line_up_by_width() -> None:
    """A Chinese character counts as two columns."""
    assert table_lines([("名", "值", "x"), ("abcd", "v", "")]) == ["名    值  x", "abcd  v   "]
