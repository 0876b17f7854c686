"""`bellevl quantize` as a person sees it; what it computes is tested with the pipeline."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Answer, Bellevl
from PIL import Image

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


def test_ways_to_solve_are_options(bellevl: Bellevl, tiny_folder: Path, tmp_path: Path) -> None:
    """Act order is on and float targets are off unless said otherwise; the receipt tells what was taken."""
    said = ("--no-act-order", "--float-targets")
    for number, (given, expected) in enumerate((((), (True, False)), (said, (False, True)))):
        target = tmp_path / f"int4-{number}"
        done = bellevl("quantize", tiny_folder, target, "--samples", "3", "--seqlen", "64", *given)
        assert done.returncode == 0, done.stderr.decode()
        recipe = json.loads((target / "receipt.json").read_text(encoding="utf-8"))["recipe"]
        assert (recipe["desc_act"], recipe["float_targets"]) == expected


def test_bits_and_device_are_options(bellevl: Bellevl, answer: Answer, tiny_folder: Path, tmp_path: Path) -> None:
    """Eight bits are shown and answer; other widths, and devices that are not there, are refused in one line."""
    target = tmp_path / "int8"
    done = bellevl("quantize", tiny_folder, target, "--method", "rtn", "--bits", "8", "--device", "cpu")
    assert done.returncode == 0, done.stderr.decode()
    shown = json.loads(bellevl("show", "--model", target, "--json").stdout)
    assert shown["quantization"] == "gptq-int8 g128" and "int8" in shown["kernel"]["reason"]
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
