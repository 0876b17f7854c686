"""`bellevl pull` against a hub on this machine: what is downloaded, gone on with, checked and refused."""

from __future__ import annotations

import ast
import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Bellevl, program
from hub import REPO, Hub, serving

#: What the tests download: the tiny model, with one large enough to be cut, and what no model needs.
OTHER = {
    "modeling_qwen.py": b"raise SystemExit('code of a repository was run')\n",
    "SimSun.ttf": b"a font",
    "assets/train.png": b"a picture",
    "../outside.safetensors": b"a name that climbs",
    "pytorch_model.bin": b"the same weights once more",
    "README.md": "---\nlicense: apache-2.0\n---\n# 小模型\n".encode(),
}


@pytest.fixture
def hub(tiny_folder: Path) -> Iterator[Hub]:
    """The tiny checkpoint as a repository."""
    files = {path.name: path.read_bytes() for path in sorted(tiny_folder.iterdir())}
    with serving(files | OTHER) as running:
        yield running


@pytest.fixture
def models(environment: dict[str, str]) -> Path:
    """Where the program keeps models."""
    return Path(environment["HOME"]) / ".local/share/bellevl/models"


def pull(bellevl: Bellevl, hub: Hub, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
    return bellevl("pull", REPO, "--endpoint", hub.address, *arguments, **options)


def told(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What stands on stderr, without the stages that a slow machine shows."""
    return [line for line in done.stderr.decode().splitlines() if " … " not in line]


def test_a_model_is_downloaded_checked_and_used(bellevl: Bellevl, hub: Hub, models: Path, tiny_folder: Path) -> None:
    """Only data comes, byte for byte; the record has each SHA-256; the model is then the one in use, by its name."""
    done = pull(bellevl, hub)
    assert done.returncode == 0 and done.stdout == b"", done.stderr.decode()
    folder = models / "Tiny-VL"
    assert sorted(path.name for path in models.iterdir()) == ["Tiny-VL"]
    names = {"README.md", "config.json", "generation_config.json", "model.safetensors", "qwen.tiktoken"}
    assert {path.name for path in folder.iterdir()} == names | {"download.json"}
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    record = json.loads((folder / "download.json").read_text(encoding="utf-8"))
    assert (record["repo"], record["commit"], record["endpoint"]) == (REPO, hub.commit, hub.address)
    for name, row in record["files"].items():
        assert row == {"bytes": len(hub.files[name]), "sha256": hashlib.sha256(hub.files[name]).hexdigest()}
    assert set(record["files"]) == names
    said = done.stderr.decode()
    assert "完成: Tiny-VL" in said and "bellevl ask 图片 --model Tiny-VL" in said
    listed = json.loads(bellevl("models", "--json").stdout)
    assert [(row["name"], row["in_use"]) for row in listed] == [("nano", False), ("Tiny-VL", True)]
    assert bellevl("verify", "--full").returncode == 0
    assert told(pull(bellevl, hub))[0].startswith("Tiny-VL 已是最新 (01234567)")
    assert len(hub.transfers("model.safetensors")) == 2  # the address and, once, the bytes behind it


def test_a_broken_connection_is_gone_on_with(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """Where the connection breaks, the next try asks for the rest only, in the same run."""
    size = len(hub.files["model.safetensors"])
    hub.cuts = [300_000, 200_000]
    done = pull(bellevl, hub)
    assert done.returncode == 0, done.stderr.decode()
    ranges = [range for range in hub.transfers("model.safetensors") if range]
    assert ranges and all(0 < int(range[6:-1]) < size for range in ranges)
    assert (models / "Tiny-VL/model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_ctrl_c_and_the_same_command_goes_on(
    bellevl: Bellevl, hub: Hub, environment: dict[str, str], models: Path
) -> None:
    """Ctrl-C keeps what is there, says so and ends with 130; the same command takes the rest, not the beginning."""
    hub.pause = 0.2
    command = [*program(), "pull", REPO, "--endpoint", hub.address]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    part = models / "Tiny-VL.part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(p.stat().st_size for p in part.glob(".model.safetensors*")):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, b"") and "已中断" in err.decode() and "Traceback" not in err.decode()
    assert part.is_dir() and not (models / "Tiny-VL").exists()
    listed = bellevl("models")
    assert "Tiny-VL" not in listed.stdout.decode()
    assert f"继续: bellevl pull {REPO}" in listed.stderr.decode()
    hub.pause, before = 0.0, len(hub.seen)
    done = pull(bellevl, hub)
    assert done.returncode == 0 and "继续下载" in done.stderr.decode(), done.stderr.decode()
    again = [address for address, _ in hub.seen[before:]]
    assert not any(address.endswith("config.json") for address in again)
    assert any(range for _, range in hub.seen[before:])
    assert (models / "Tiny-VL/model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_hub_without_ranges_begins_again(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """A server that ignores ranges sends the file from the start; the bytes are not joined wrongly."""
    hub.cuts, hub.ranges = [300_000], False
    assert pull(bellevl, hub).returncode == 0
    assert (models / "Tiny-VL/model.safetensors").read_bytes() == hub.files["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json"])
def test_a_wrong_hash_is_exit_4(bellevl: Bellevl, hub: Hub, models: Path, name: str) -> None:
    """A file that is not what was published is named and removed, nothing becomes a model; then it can be had."""
    content = hub.files[name]
    hub.sent[name] = content[:-3] + b"\n" + content[-2:]
    done = pull(bellevl, hub)
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 4 and name in last and "校验值" in last
    assert not (models / "Tiny-VL").exists()
    hub.sent.clear()
    assert pull(bellevl, hub).returncode == 0


def test_a_new_revision_replaces_the_old_one(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """Only files that changed are downloaded again, and the folder is whole before and after."""
    assert pull(bellevl, hub).returncode == 0
    hub.commit, before = "f" * 40, len(hub.seen)
    hub.files["README.md"] = b"new\n"
    assert pull(bellevl, hub).returncode == 0
    addresses = [address for address, _ in hub.seen[before:]]
    assert any(address.endswith("README.md") for address in addresses)
    assert not any("safetensors" in address or "/cdn/" in address for address in addresses)
    assert (models / "Tiny-VL/README.md").read_bytes() == b"new\n"
    assert [path.name for path in models.iterdir()] == ["Tiny-VL"]


def test_a_damaged_file_is_found_and_fetched_again(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """verify names the broken shard and the command that mends it, and that command mends it."""
    assert pull(bellevl, hub).returncode == 0
    weights = models / "Tiny-VL/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    done = bellevl("verify")
    assert done.returncode == 4 and "model.safetensors" in done.stderr.decode()
    assert f"bellevl pull {REPO} --to {weights.parent}" in done.stderr.decode()
    weights.unlink()
    assert pull(bellevl, hub, "--to", weights.parent).returncode == 0
    assert bellevl("verify", "--full").returncode == 0


@pytest.mark.parametrize(
    ("refusal", "code", "said"),
    [
        ((404, "RepoNotFound"), 1, "没有仓库 someone/Tiny-VL"),
        ((401, "GatedRepo"), 1, "要先同意条款"),
        ((404, "RevisionNotFound"), 1, "没有版本"),
        ((403, ""), 1, "HTTP 403"),
    ],
)
def test_refusals_are_one_line(bellevl: Bellevl, hub: Hub, refusal: tuple[int, str], code: int, said: str) -> None:
    """What a hub refuses is told in one line with its cure, exit code 1."""
    hub.refusal = refusal
    done = pull(bellevl, hub)
    assert done.returncode == code and said in done.stderr.decode(), done.stderr.decode()
    assert len(told(done)) == 1


def test_a_model_of_another_family_is_refused_before_its_weights(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """config.json is looked at first: a llama costs no gigabytes and leaves nothing behind."""
    hub.files["config.json"] = b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'
    done = pull(bellevl, hub)
    assert done.returncode == 4 and "llama" in done.stderr.decode().lower()
    assert not any("safetensors" in address or "/cdn/" in address for address, _ in hub.seen)
    assert list(models.iterdir()) == []


def test_a_repository_without_a_model_is_told(bellevl: Bellevl, hub: Hub) -> None:
    """Without a vocabulary or weights there is nothing to download."""
    del hub.files["qwen.tiktoken"]
    done = pull(bellevl, hub)
    assert done.returncode == 1 and "缺少 qwen.tiktoken" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["somewhere"], {}, "不是仓库名"),
        (["../../etc"], {}, "不是仓库名"),
        ([REPO, "--from", "ftp"], {}, "不认识来源 ftp"),
        ([REPO, "--endpoint", "mirror"], {}, "不是网址"),
        ([REPO], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE=0"),
        ([REPO, "--endpoint", "http://127.0.0.1:9"], {}, "连不上 http://127.0.0.1:9: 连接被拒绝"),
        ([REPO, "--endpoint", "http://127.0.0.1:9", "--from", "modelscope"], {}, "连不上 http://127.0.0.1:9"),
        ([REPO, "--from", "modelscope"], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE=0"),
    ],
)
def test_what_cannot_be_downloaded_is_one_line(
    bellevl: Bellevl, arguments: list[str], env: dict[str, str], said: str
) -> None:
    """Wrong names, other hubs, a switched-off or missing network: one line, exit code 1, nothing written."""
    done = bellevl("pull", *arguments, env=env)
    assert done.returncode == 1 and said in done.stderr.decode(), done.stderr.decode()
    assert len(told(done)) == 1


# ---- modelscope.cn


SCOPE = ("--from", "modelscope")


def test_modelscope_has_the_same_model(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """From the other hub come the same files, each checked by its SHA-256, and a second run finds nothing to do."""
    done = pull(bellevl, hub, *SCOPE)
    assert done.returncode == 0 and "每个文件的校验值都与公布的一致" in done.stderr.decode(), done.stderr.decode()
    folder = models / "Tiny-VL"
    names = {"README.md", "config.json", "generation_config.json", "model.safetensors", "qwen.tiktoken"}
    assert {path.name for path in folder.iterdir()} == names | {"download.json"}
    assert all((folder / name).read_bytes() == hub.files[name] for name in names)
    assert bellevl("verify", "--full").returncode == 0
    assert "已是最新" in told(pull(bellevl, hub, *SCOPE))[0]
    assert not any(address.startswith(("/api/models", f"/{REPO}")) for address, _ in hub.seen)


def test_modelscope_goes_on_where_it_broke(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """Ranges, broken connections and a server without ranges are the same there."""
    hub.cuts = [300_000, 200_000]
    assert pull(bellevl, hub, *SCOPE).returncode == 0
    ranges = [range for range in hub.transfers("model.safetensors") if range]
    assert ranges and all(int(range[6:-1]) > 0 for range in ranges)
    assert (models / "Tiny-VL/model.safetensors").read_bytes() == hub.files["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json"])
def test_modelscope_s_wrong_hash_is_exit_4(bellevl: Bellevl, hub: Hub, models: Path, name: str) -> None:
    """A file that is not what was listed is named and removed; the unfinished download says how it goes on."""
    hub.sent[name] = hub.files[name][:-2] + b"\n\n"
    done = pull(bellevl, hub, *SCOPE)
    assert done.returncode == 4 and name in done.stderr.decode().splitlines()[-1]
    assert not (models / "Tiny-VL").exists()
    assert f"继续: bellevl pull {REPO} --from modelscope" in bellevl("models").stderr.decode()


def test_what_modelscope_does_not_have(bellevl: Bellevl, hub: Hub) -> None:
    """A repository or revision that is not there, an answer that is no listing, and a file without a hash: a line."""
    assert "没有公开的仓库 a/b" in bellevl("pull", "a/b", *SCOPE, "--endpoint", hub.address).stderr.decode()
    done = pull(bellevl, hub, *SCOPE, "--revision", "v9")
    assert done.returncode == 1 and "版本 v9" in done.stderr.decode()
    hub.refusal = (500, "")
    assert "连不上" in pull(bellevl, hub, *SCOPE).stderr.decode()
    hub.refusal = (200, "")
    assert "不像模型站" in pull(bellevl, hub, *SCOPE).stderr.decode()


def test_a_token_does_not_go_to_another_hub(bellevl: Bellevl, hub: Hub) -> None:
    """HF_TOKEN is the other hub's: it is not sent to modelscope."""
    assert pull(bellevl, hub, *SCOPE, env={"HF_TOKEN": "hf_secret"}).returncode == 0
    assert hub.tokens == {None}


def test_a_folder_of_something_else_is_left_alone(bellevl: Bellevl, hub: Hub, tmp_path: Path) -> None:
    """--to never overwrites a folder that is not a download of that repository."""
    mine = tmp_path / "我的 模型"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep", encoding="utf-8")
    done = pull(bellevl, hub, "--to", mine)
    assert done.returncode == 1 and "不是 someone/Tiny-VL 的下载" in done.stderr.decode()
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


def test_the_mirror_may_stand_in_the_configuration(bellevl: Bellevl, hub: Hub, models: Path) -> None:
    """`endpoint` of config.toml, or HF_ENDPOINT, is the hub when the option says nothing."""
    assert bellevl("config", "set", "endpoint", hub.address).returncode == 0
    assert bellevl("pull", REPO).returncode == 0
    assert bellevl("pull", REPO, env={"BELLEVL_ENDPOINT": "http://127.0.0.1:9"}).returncode == 1


def test_only_one_file_knows_the_hub() -> None:
    """huggingface_hub is imported in models/hub.py and nowhere else in the program."""
    found = set()
    for package in ("bellevl", "bellevl_cli", "quantize"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            names |= {str(node.module) for node in tree if isinstance(node, ast.ImportFrom)}
            if any(name.split(".")[0] in ("huggingface_hub", "modelscope") for name in names):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"bellevl_cli/models/hub.py"}
