"""`bellevl quantize` as a person sees it; what it computes is tested with the pipeline."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Answer, Bellevl
from PIL import Image
from tiny import write_tiny_checkpoint

import quantize.pipeline
from bellevl_cli import guard
from bellevl_cli.exits import LeaveError
from bellevl_cli.models import quantizing as quantize_command
from bellevl_cli.models.quantizing import QuantizeOptions, readable_time
from bellevl_cli.screen.render import Renderer
from quantize.progress import Progress


def test_a_quantized_model_answers(bellevl: Bellevl, answer: Answer, tiny_folder: Path, tmp_path: Path) -> None:
    """The command makes a folder that show calls int4 and that answers; stdout stays empty, a second run is refused."""
    target = tmp_path / "int4"
    asked = ("quantize", tiny_folder, target, "--samples", "4", "--group-size", "32", "--asym")
    done = bellevl(*asked)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    assert "第 2/2 层完成" in done.stderr.decode() and "完成: " in done.stderr.decode()
    record = json.loads(bellevl("show", "--model", target, "--json").stdout)
    assert record["quantization"] == "gptq-int4 g32 asym"
    result = answer("问", model=target, greedy=True)
    assert len(result["text"]) == 24 and result["quantization"] == "gptq-int4 g32 asym"
    again = bellevl(*asked)
    assert again.returncode == 1 and "已有完整的模型" in again.stderr.decode()


@pytest.mark.parametrize(("option", "value"), [("--group-size", "33"), ("--damp", "0"), ("--samples", "0")])
def test_a_wrong_recipe_is_exit_2(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path, option: str, value: str) -> None:
    """A setting out of range is a usage error before anything is written."""
    done = bellevl("quantize", tiny_folder, tmp_path / "int4", option, value)
    assert done.returncode == 2 and "试试" in done.stderr.decode()
    assert not (tmp_path / "int4").exists()


def test_a_target_that_is_a_file_is_told(bellevl: Bellevl, tiny_folder: Path, picture: Path) -> None:
    """Who names a file as the new folder is told so."""
    done = bellevl("quantize", tiny_folder, picture)
    assert done.returncode == 1 and "是文件，不是目录" in done.stderr.decode()


def test_a_source_that_is_no_model_is_exit_4(bellevl: Bellevl, tmp_path: Path) -> None:
    """The source is looked at first."""
    assert bellevl("quantize", tmp_path / "none", tmp_path / "int4").returncode == 4


def test_ctrl_c_says_how_to_go_on(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the exit code is 130, the same command is named, and it goes on to the end."""
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    monkeypatch.setattr(guard, "install", lambda: None)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (60, 60), (10, 200, 30)).save(pictures / "green.png")
    options = QuantizeOptions(tiny_folder, tmp_path / "int4", calibration=pictures, samples=2)
    whole = quantize.pipeline.quantize

    def interrupted(*arguments: object) -> Iterator[Progress]:
        for progress in whole(*arguments):  # type: ignore[arg-type]
            yield progress
            if progress.stage == "block" and progress.report is None:
                raise KeyboardInterrupt

    monkeypatch.setattr(quantize.pipeline, "quantize", interrupted)
    renderer = Renderer(io.StringIO(), io.StringIO())
    with pytest.raises(LeaveError) as caught:
        quantize_command.run(options, renderer)
    assert caught.value.code == 130
    assert "重新运行同一条命令即可继续" in renderer.err.getvalue()  # type: ignore[attr-defined]
    monkeypatch.setattr(quantize.pipeline, "quantize", whole)
    renderer = Renderer(io.StringIO(), io.StringIO())
    quantize_command.run(options, renderer)
    said = renderer.err.getvalue()  # type: ignore[attr-defined]
    assert "第 2/2 层完成" in said and "第 1/2 层完成" not in said
    assert (tmp_path / "int4" / "config.json").is_file()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (75, "1:15"), (3675, "1:01:15")])
def test_times_are_readable(seconds: float, text: str) -> None:
    """Minutes and seconds, hours where there are some."""
    assert readable_time(seconds) == text


def test_a_dry_run_says_what_it_takes(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """--dry-run tells samples, time, memory and disk on stdout and writes nothing."""
    done = bellevl("quantize", tiny_folder, tmp_path / "int4", "--samples", "4", "--dry-run")
    assert done.returncode == 0, done.stderr.decode()
    told = done.stdout.decode()
    assert [line.split()[0] for line in told.splitlines()] == ["校准", "时间", "内存", "磁盘"]
    assert "4 个对话" in told
    assert not (tmp_path / "int4").exists()


def test_rounding_to_nearest_and_unknown_methods(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """--method rtn makes a model without calibrating; another name is a usage error that lists both."""
    wrong = bellevl("quantize", tiny_folder, tmp_path / "int4", "--method", "awq")
    assert wrong.returncode == 2 and "gptq" in wrong.stderr.decode() and "rtn" in wrong.stderr.decode()
    assert bellevl("quantize", tiny_folder, tmp_path / "int4", "--method", "rtn").returncode == 0
    shown = json.loads(bellevl("show", "--model", tmp_path / "int4", "--json").stdout)
    assert (shown["quantization"], shown["receipt"]["method"]) == ("gptq-int4 g128", "rtn")


def test_nf4_is_one_option(bellevl: Bellevl, answer: Answer, tiny_folder: Path, tmp_path: Path) -> None:
    """--method nf4 makes a folder that show names, verify passes and that answers; its estimate writes nothing."""
    target = tmp_path / "nf4"
    told = bellevl("quantize", tiny_folder, target, "--method", "nf4", "--dry-run")
    assert told.returncode == 0 and not target.exists()
    done = bellevl("quantize", tiny_folder, target, "--method", "nf4")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    shown = json.loads(bellevl("show", "--model", target, "--json").stdout)
    assert (shown["quantization"], shown["receipt"]["method"]) == ("bnb-nf4", "nf4")
    assert "NF4" in shown["kernel"]["reason"] and shown["receipt"]["worst_error"] < 0.2
    assert bellevl("verify", "--model", target, "--full").returncode == 0
    result = answer("问", model=target, greedy=True)
    assert len(result["text"]) == 24 and result["quantization"] == "bnb-nf4"
    table = bellevl("show", "--model", target)
    assert "torch 没有 NF4 权重的乘法" in table.stdout.decode()
    again = bellevl("quantize", target, tmp_path / "twice", "--method", "nf4")
    assert again.returncode == 1 and "已经量化过" in again.stderr.decode()
    converted = bellevl("convert", "gguf", target, tmp_path / "nf4.gguf")
    assert converted.returncode == 1 and "权重是 NF4" in converted.stderr.decode()


@pytest.mark.parametrize(
    "option",
    [("--bits", "8"), ("--group-size", "64"), ("--asym",), ("--rotate",), ("--awq-scaling",), ("--lm-head-bits", "8")],
)
def test_nf4_has_one_form(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path, option: tuple[str, ...]) -> None:
    """Settings that NF4 does not have are refused by name, in one line, before anything is written."""
    done = bellevl("quantize", tiny_folder, tmp_path / "nf4", "--method", "nf4", *option)
    assert done.returncode == 2 and f"{option[0]} 不能与 --method nf4 一起用" in done.stderr.decode()
    assert not (tmp_path / "nf4").exists()


def test_nf4_takes_settings_at_their_defaults(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """Who spells out the defaults asks for nothing else than NF4."""
    said = ("--method", "nf4", "--bits", "4", "--group-size", "128", "--lm-head-bits", "16", "--dry-run")
    assert bellevl("quantize", tiny_folder, tmp_path / "nf4", *said).returncode == 0


def test_ways_to_solve_are_options(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """Act order is on, all else is off unless said otherwise; the receipt tells what was taken."""
    said = ("--no-act-order", "--float-targets", "--rotate", "--awq-scaling")
    names = ("desc_act", "float_targets", "rotate", "awq_scaling")
    for number, (given, expected) in enumerate((((), (True, False, False, False)), (said, (False, True, True, True)))):
        target = tmp_path / f"int4-{number}"
        done = bellevl("quantize", tiny_folder, target, "--samples", "3", "--seqlen", "64", *given)
        assert done.returncode == 0, done.stderr.decode()
        recipe = json.loads((target / "receipt.json").read_text(encoding="utf-8"))["recipe"]
        assert tuple(recipe[name] for name in names) == expected


def test_a_rotated_model_answers(bellevl: Bellevl, answer: Answer, tiny_folder: Path, tmp_path: Path) -> None:
    """--rotate makes a folder like any other: verify passes and it answers; tied embeddings are refused in one line."""
    target = tmp_path / "int4"
    done = bellevl("quantize", tiny_folder, target, "--rotate", "--samples", "3", "--seqlen", "64")
    assert done.returncode == 0, done.stderr.decode()
    assert bellevl("verify", "--model", target, "--full").returncode == 0
    assert len(answer("问", model=target, greedy=True)["text"]) == 24
    tied = write_tiny_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    refused = bellevl("quantize", tied, tmp_path / "other", "--rotate", "--dry-run")
    assert refused.returncode == 2 and "tie_word_embeddings" in refused.stderr.decode()
    assert len(refused.stderr.decode().strip().splitlines()) <= 3 and not (tmp_path / "other").exists()


def test_bits_and_device_are_options(bellevl: Bellevl, answer: Answer, tiny_folder: Path, tmp_path: Path) -> None:
    """Eight bits are shown and answer; other widths, and devices that are not there, are refused in one line."""
    target = tmp_path / "int8"
    done = bellevl("quantize", tiny_folder, target, "--method", "rtn", "--bits", "8", "--device", "cpu")
    assert done.returncode == 0, done.stderr.decode()
    shown = json.loads(bellevl("show", "--model", target, "--json").stdout)
    assert shown["quantization"] == "gptq-int8 g-1" and "int8" in shown["kernel"]["reason"]
    assert len(answer("问", model=target, greedy=True)["text"]) > 0
    for option, value, code in (("--bits", "3", 2), ("--device", "cuda:99", 1), ("--device", "gpu", 2)):
        refused = bellevl("quantize", tiny_folder, tmp_path / "other", option, value)
        assert refused.returncode == code and value in refused.stderr.decode()
    assert not (tmp_path / "other").exists()


def test_gguf_from_the_command_line(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """`bellevl convert gguf` writes a file once; a second time and for float weights it is refused in one line."""
    assert bellevl("quantize", tiny_folder, tmp_path / "int4", "--method", "rtn").returncode == 0
    target = tmp_path / "模型.gguf"
    done = bellevl("convert", "gguf", tmp_path / "int4", target)
    assert done.returncode == 0, done.stderr.decode()
    assert target.read_bytes()[:4] == b"GGUF"
    again = bellevl("convert", "gguf", tmp_path / "int4", target)
    assert again.returncode == 1 and "已经存在" in again.stderr.decode()
    refused = bellevl("convert", "gguf", tiny_folder, tmp_path / "other.gguf")
    assert refused.returncode == 1 and "不是 int4" in refused.stderr.decode()
    assert not list(tmp_path.glob("other*"))
