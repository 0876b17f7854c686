"""What goes wrong inside a quantization: each fault ends in a clear line or a named fallback, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from folders import contents
from torch import Tensor

from bellevl import load_model
from bellevl.errors import CheckpointError, QuantizeError
from quantize import Progress, Recipe, quantize
from quantize.blocks.reader import BlockReader
from quantize.record.receipt import headline, read_receipt
from quantize.solver import hessian

RECIPE = Recipe(nsamples=4, seqlen=64)


@pytest.fixture(scope="module")
def undisturbed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint quantized in peace."""
    target = tmp_path_factory.mktemp("faults") / "undisturbed"
    list(quantize(tiny_folder, target, RECIPE))
    return target


def run_until(job: Iterator[Progress], reached: Callable[[Progress], bool]) -> None:
    while not reached(next(job)):
        pass


def test_unreadable_shard_is_named_and_survived(tiny_folder: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A shard that ends too early while the job runs is named; with the shard back the same command finishes."""
    source = shutil.copytree(tiny_folder, tmp_path / "float")
    shard, aside = source / "model.safetensors", tmp_path / "aside"
    job = quantize(source, tmp_path / "int4", RECIPE)
    run_until(job, lambda step: step.stage == "embed")
    shutil.copyfile(shard, aside)
    short = tmp_path / "short"
    short.write_bytes(shard.read_bytes()[: shard.stat().st_size // 3])
    short.replace(shard)
    with pytest.raises(CheckpointError) as caught:
        list(job)
    assert caught.value.message == "model.damaged_shard" and "model.safetensors" in str(caught.value)
    aside.replace(shard)
    steps = list(quantize(source, tmp_path / "int4", RECIPE))
    assert all(step.stage != "copy" for step in steps), "what was done is not done again"
    assert contents(tmp_path / "int4") == contents(undisturbed)


def test_reading_that_fails_is_told_by_who_takes_the_block(tiny_folder: Path, tmp_path: Path) -> None:
    """An error of the thread that reads ahead comes out where its block is asked for, not before."""
    from bellevl.config import read_config

    source = shutil.copytree(tiny_folder, tmp_path / "float")
    config, _ = read_config(source)
    with BlockReader(source, config, 0) as reader:
        block, seconds = reader.take()
        assert block.index == 0 and seconds > 0
        assert reader.take()[0].index == 1
    (source / "model.safetensors").write_bytes(b"nothing")
    with BlockReader(source, config, 1) as reader, pytest.raises(CheckpointError, match="safetensors"):
        reader.take()


def test_nan_in_an_activation_is_named_and_survived(
    tiny_folder: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One NaN in what a layer sees stops the job with block and layer; without it the same command finishes."""
    add = hessian.HessianSum.add
    seen = []

    def spoiled(total: hessian.HessianSum, x: Tensor, weight: Tensor | None = None) -> None:
        seen.append(1)
        if len(seen) == 7:  # a whole block has four sums: this is the third of block 1
            x[1, 5] = float("nan")
        add(total, x, weight)

    monkeypatch.setattr(hessian.HessianSum, "add", spoiled)
    with pytest.raises(QuantizeError) as caught:
        list(quantize(tiny_folder, tmp_path / "int4", RECIPE))
    assert caught.value.message == "quantize.not_finite"
    assert caught.value.facts == {"block": 1, "layer": "mlp.w1"}
    monkeypatch.undo()
    steps = list(quantize(tiny_folder, tmp_path / "int4", RECIPE))
    assert steps[0].block == 1, "block 0 is kept"
    assert contents(tmp_path / "int4") == contents(undisturbed)


def failing(worst: Callable[[Tensor], bool]) -> Callable[[Tensor], bool]:
    """A `hessian.factorize` that spoils and refuses what `worst` picks, as a real failure does."""
    real = hessian.factorize

    def factorize(H: Tensor) -> bool:
        if not worst(H):
            return real(H)
        H -= 2 * H.tril()
        return False

    return factorize


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.float64)])
def test_hessian_that_is_not_positive_definite_falls_back(
    tiny_folder: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtypes: tuple[torch.dtype, ...],
) -> None:
    """Where no damping helps one layer, it alone is solved in float64 or rounded to nearest, and the receipt says so.

    Everything up to that layer is byte for byte as without the fault, and so are two runs with it.
    """
    expected = "nearest" if torch.float64 in dtypes else "gptq-float64"
    tried: list[int] = []

    def worst(H: Tensor) -> bool:
        """The last Hessian of block 0: mlp.c_proj. Three dampings are tried before it in three stages, one each."""
        tried.append(1)
        return H.dtype in dtypes and 4 <= len(tried) <= 6 + (torch.float64 in dtypes)

    for name in ("one", "two"):
        tried.clear()
        monkeypatch.setattr(hessian, "factorize", failing(worst))
        list(quantize(tiny_folder, tmp_path / name, RECIPE))
        monkeypatch.undo()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    receipt = read_receipt(tmp_path / "one")
    assert receipt is not None
    assert [(f["block"], f["layer"], f["method"]) for f in receipt["fallbacks"]] == [(0, "mlp.c_proj", expected)]
    assert headline(receipt)["fallbacks"] == 1
    assert expected in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    mine, theirs = (load_layers(folder) for folder in (tmp_path / "one", undisturbed))
    assert {name for name in mine if not torch.equal(mine[name], theirs[name])} <= {
        name for name in mine if name.startswith("transformer.h.1.") or "h.0.mlp.c_proj" in name
    }
    assert load_model(tmp_path / "one").quantization is not None


def load_layers(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_receipt_tells_files_costs_and_errors(tiny_folder: Path, undisturbed: Path) -> None:
    """Every file with its bytes and hash, every layer's error, every block's seconds by part, memory, versions."""
    receipt = json.loads((undisturbed / "receipt.json").read_text(encoding="utf-8"))
    import hashlib

    files = {path.name for path in undisturbed.iterdir()} - {"receipt.json", "report.html"}
    assert set(receipt["files"]) == files
    for name, entry in receipt["files"].items():
        data = (undisturbed / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert len(receipt["layers"]) == 10 and receipt["fallbacks"] == []
    cost = receipt["cost"]
    assert [block["block"] for block in cost["blocks"]] == [0, 1] and cost["runs"] == 1
    for block in cost["blocks"]:
        assert set(block["parts"]) == {"wait", "forward", "hessian", "solve", "pack", "write"}
        assert sum(block["parts"].values()) <= block["wall"] + 0.05
        assert block["peak_bytes"] > 10**7 and block["read"] > 0
    assert cost["seconds"]["total"] >= cost["seconds"]["blocks"] > 0
    assert cost["peak_bytes"] == max(count for _, count in cost["memory"])
    assert receipt["calibration"]["samples"] == 4 and receipt["calibration"]["tokens"] > 64
    assert set(receipt["source"]["files"]) == {"model.safetensors"}
    assert receipt["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def test_an_interrupted_jobs_receipt_counts_its_runs(tiny_folder: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Of a job in two runs the receipt has the blocks of both, and the weights' hashes are the undisturbed ones."""
    job = quantize(tiny_folder, tmp_path / "int4", RECIPE)
    run_until(job, lambda step: step.cost is not None)
    job.close()  # type: ignore[attr-defined]
    list(quantize(tiny_folder, tmp_path / "int4", RECIPE))
    receipt, other = read_receipt(tmp_path / "int4"), read_receipt(undisturbed)
    assert receipt is not None and other is not None
    assert receipt["cost"]["runs"] == 2 and len(receipt["cost"]["blocks"]) == 2
    assert (receipt["files"], receipt["layers"]) == (other["files"], other["layers"])


def test_report_opens_without_a_network(undisturbed: Path) -> None:
    """The page is one file: drawings are in it and nothing is fetched; names in it are harmless text."""
    from html.parser import HTMLParser

    from quantize.record.report import report_page

    page = (undisturbed / "report.html").read_text(encoding="utf-8")
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Collector().feed(page)
    assert not [tag for tag, _ in tags if tag in ("script", "link", "img", "iframe")]
    assert not [found for _, found in tags if found.keys() & {"src", "href"}] and "url(" not in page
    assert [tag for tag, _ in tags].count("svg") >= 2 and "mlp.c_proj" in page
    receipt = read_receipt(undisturbed)
    assert receipt is not None
    assert "<b>猫</b>" not in report_page(receipt, "<b>猫</b>")


def test_rounding_to_nearest_needs_no_calibration(tiny_folder: Path, tmp_path: Path) -> None:
    """Method "rtn" calibrates nothing, loads again, and every weight is within half a step of its source."""
    steps = list(quantize(tiny_folder, tmp_path / "int4", Recipe(method="rtn", search_scales=False)))
    assert all(step.stage != "embed" for step in steps)
    receipt = read_receipt(tmp_path / "int4")
    assert receipt is not None and receipt["calibration"]["samples"] == 0 and receipt["fallbacks"] == []
    source, made = load_layers(tiny_folder), load_model(tmp_path / "int4", torch.float32)
    for index, block in enumerate(made.transformer.h):
        weight = source[f"transformer.h.{index}.mlp.w1.weight"]
        step = load_layers(tmp_path / "int4")[f"transformer.h.{index}.mlp.w1.scales"].float().T
        off = (block.mlp.w1.dequantize() - weight).abs()
        assert (off <= 0.501 * step.repeat_interleave(128, dim=1) + 1e-6).float().mean() > 0.99
