"""`bellevl models`, `bellevl verify` and what `bellevl show` adds about a model folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from conftest import Bellevl
from safetensors.torch import load_file, save_file

from bellevl_cli.models import records
from bellevl_cli.models.show import licence
from bellevl_cli.models.verifying import safetensors_problem


@pytest.fixture
def models(environment: dict[str, str]) -> Path:
    """Where the program keeps models; empty."""
    folder = Path(environment["HOME"]) / ".local/share/bellevl/models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def sharded(tiny_folder: Path, models: Path) -> Path:
    """The tiny checkpoint in two shards with an index, under a Chinese name with a space."""
    folder = models / "小 模型"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    where = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / shard)
        where |= dict.fromkeys(part, shard)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    return folder


def record(folder: Path, name: str = "receipt.json") -> None:
    """Writes down what is in the folder now."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
    }
    (folder / name).write_text(json.dumps({"files": files}), encoding="utf-8")


def test_an_empty_place_has_the_embedded_model(bellevl: Bellevl) -> None:
    """With nothing downloaded the list has the embedded model, exit 0, and stderr the command to get BELLE-VL-14B."""
    done = bellevl("models")
    assert done.returncode == 0
    assert "nano (使用中)" in done.stdout.decode() and "gptq-int4 g128" in done.stdout.decode()
    assert "bellevl pull" in done.stderr.decode()


def test_models_says_what_each_is(bellevl: Bellevl, sharded: Path, models: Path, tmp_path: Path) -> None:
    """Name, weights, size, memory, place, and which is in use; a broken folder is a line, not an end."""
    (models / "broken").mkdir()
    (models / "broken/config.json").write_text("{", encoding="utf-8")
    rows = {row["name"]: row for row in json.loads(bellevl("models", "--json", env={"BELLEVL_MODEL": "nano"}).stdout)}
    assert set(rows) == {"nano", "broken", "小 模型"} and rows["nano"]["in_use"] and not rows["小 模型"]["in_use"]
    good = rows["小 模型"]
    assert good["dtype"] == "float32" and good["folder"] == str(sharded) and good["problem"] is None
    assert good["memory_bytes"] > good["disk_bytes"] / 2 > 0
    assert rows["broken"]["problem"] and rows["broken"]["memory_bytes"] is None
    table = bellevl("models").stdout.decode()
    assert "不可用: " in table and "小 模型" in table
    assert bellevl("models", "--names").stdout.decode().splitlines() == ["nano", "broken", "小 模型"]
    elsewhere = json.loads(
        bellevl("models", "--json", env={"BELLEVL_MODEL": str(shutil.copytree(sharded, tmp_path / "far"))}).stdout
    )
    assert [row["name"] for row in elsewhere if row["in_use"]] == ["far"]


def test_a_model_is_chosen_by_name(bellevl: Bellevl, sharded: Path) -> None:
    """--model takes the name of the list; a wrong one names the nearest, exit 4."""
    assert json.loads(bellevl("show", "--model", "小 模型", "--json").stdout)["folder"] == str(sharded)
    done = bellevl("show", "--model", "小模型")
    assert done.returncode == 4 and "(小 模型?)" in done.stderr.decode()
    assert bellevl("show", "--model", "完全不同的名字").returncode == 4


def test_verify_quick_is_quick_and_good(bellevl: Bellevl, sharded: Path) -> None:
    """A whole model passes, by sizes and heads, with a hint at --full; --full lists each SHA-256."""
    done = bellevl("verify")
    assert done.returncode == 0 and "--full" in done.stderr.decode()
    assert "model-00002-of-00002.safetensors" in done.stdout.decode()
    full = json.loads(bellevl("verify", "--full", "--json").stdout)
    digests = {row["name"]: row["sha256"] for row in full["files"]}
    assert (
        full["ok"] and digests["qwen.tiktoken"] == hashlib.sha256((sharded / "qwen.tiktoken").read_bytes()).hexdigest()
    )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("harm", ["short", "long", "head", "gone", "config", "tensor"])
def test_verify_names_what_is_broken(bellevl: Bellevl, sharded: Path, harm: str, full: bool) -> None:
    """A shard that is cut, too long, without a head, missing or not what the index says is named; exit 4."""
    shard = sharded / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    if harm == "tensor":
        index = sharded / "model.safetensors.index.json"
        text = index.read_text(encoding="utf-8")
        name = "transformer.h.0.ln_1.weight"
        where = json.loads(text)
        other = {"model-00001-of-00002.safetensors", shard.name} - {where["weight_map"][name]}
        where["weight_map"][name] = other.pop()
        index.write_text(json.dumps(where), encoding="utf-8")
        expected = where["weight_map"][name]
    elif harm == "config":
        (sharded / "generation_config.json").write_text("{,}", encoding="utf-8")
        expected = "generation_config.json"
    else:
        changed = {"short": content[:-9], "long": content + b"x", "head": b"\xff" * 16 + content[16:], "gone": None}[
            harm
        ]
        shard.unlink() if changed is None else shard.write_bytes(changed)
        expected = shard.name
    done = bellevl("verify", *(["--full"] if full else []))
    error = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 4 and expected in error, done.stderr.decode()
    assert "试试" in error and "错误" in done.stdout.decode()


def test_full_finds_what_sizes_cannot(bellevl: Bellevl, sharded: Path) -> None:
    """One changed byte in the middle passes the quick check and is found by --full where a record is beside it."""
    record(sharded)
    shard = sharded / "model-00001-of-00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(bytes(content))
    assert bellevl("verify").returncode == 0
    done = bellevl("verify", "--full", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 4 and not report["ok"]
    assert [row["name"] for row in report["files"] if row["problem"]] == [shard.name]
    shard.write_bytes(bytes(content[:-100]) + bytes([content[-100] ^ 1]) + bytes(content[-99:]))
    good = bellevl("verify", "--full")
    assert good.returncode == 0 and "与记录的 SHA-256 一致" in good.stderr.decode()


def test_full_looks_for_every_tensor(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """A file that is whole but lacks a tensor of the model is told by --full, which no size could."""
    folder = shutil.copytree(tiny_folder, tmp_path / "less")
    weights = load_file(folder / "model.safetensors")
    weights.pop("transformer.ln_f.weight")
    save_file(weights, folder / "model.safetensors")
    assert bellevl("verify", "--model", folder).returncode == 0
    done = bellevl("verify", "--model", folder, "--full")
    assert done.returncode == 4 and "transformer.ln_f.weight" in done.stderr.decode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 4) + b"{\xff}x",
        struct.pack("<Q", 21) + b'{"a":{"data_offsets"}',
        struct.pack("<Q", 8) + b'{"a": 1}',
    ],
)
def test_odd_heads_are_damage_not_crashes(tmp_path: Path, content: bytes) -> None:
    """Whatever stands where a safetensors head belongs, it is called damaged."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert safetensors_problem(path, len(content), set()) == "its head is damaged"


def test_show_tells_licence_source_and_quantizing(bellevl: Bellevl, sharded: Path) -> None:
    """The card's licence, where a download came from and what quantizing lost stand in the table and in --json."""
    (sharded / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    source = records.Source("someone/Tiny-VL", "0123456789", "https://hub.example")
    records.write_download(sharded, source, {})
    done = bellevl("show")
    text = done.stdout.decode()
    assert done.returncode == 0 and "apache-2.0" in text and "someone/Tiny-VL 01234567" in text
    kernel = json.loads(bellevl("show", "--model", "nano", "--json").stdout)["kernel"]
    assert kernel["product"] and kernel["reason"] and kernel["device"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"README.md": "no front\nlicense: x\n"}, None),
        ({"README.md": "---\r\nlicense: 'mit'\r\n---\r\nlicense: no\r\n"}, "mit"),
        (
            {"README.md": "# card", "LICENSE": "\n  Tongyi Qianwen\x1b[31m LICENSE AGREEMENT\n"},
            "Tongyi Qianwen LICENSE AGREEMENT",
        ),
    ],
)
def test_a_licence_is_what_the_folder_says(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    """The card's front matter, else the licence file's first line, else nothing is claimed."""
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert licence(tmp_path) == expected


def test_a_pickle_with_code_is_refused_not_run(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """A `.bin` that holds anything but tensors is named, exit 4, and what it would run is not run."""
    folder = shutil.copytree(tiny_folder, tmp_path / "evil")
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {marker}",)

    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Evil()}, folder / "pytorch_model.bin")
    for command in (["verify", "--full"], ["ask", picture_in(tmp_path), "什么"]):
        done = bellevl(*command, "--model", folder)
        assert done.returncode == 4 and "pytorch_model.bin" in done.stderr.decode(), done.stderr.decode()
        assert not marker.exists()


def picture_in(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(folder / "p.png")
    return folder / "p.png"
