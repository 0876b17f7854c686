"""AWQ's scaling: powers of two that cancel, the same function, and less lost where channels are loud."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Answer, Bellevl
from folders import contents, stop
from safetensors.torch import load_file, save_file
from tiny import write_tiny_checkpoint
from torch import Tensor

from bellevl import load_model
from bellevl.config import read_config
from bellevl.errors import QuantizeError
from quantize import Recipe, quantize
from quantize.record.estimate import estimate
from quantize.record.receipt import read_receipt
from quantize.record.report import report_page
from quantize.solver import scaling
from quantize.solver.gptq import QuantizedWeight, quantize_weights
from quantize.storage.layout import block_prefix
from quantize.task import Work, prepare

RECIPE = Recipe(nsamples=6, seqlen=96, awq_scaling=True)
IDS = torch.tensor([[260, 7, 99, 300, 41, 5, 290, 280, 17, 3, 301, 302]])

#: By how much some channels of `loud` are larger.
FACTOR = 16.0


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint with eight loud channels before every layer of its blocks, its weights the smaller for it:
    the same function."""
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("loud") / "float")
    config, _ = read_config(folder)
    tensors = load_file(folder / "model.safetensors")
    values = 2 * config.hidden_size
    for index in range(config.num_hidden_layers):
        prefix = block_prefix(index)

        def rows(name: str, prefix: str = prefix) -> Tensor:
            return tensors[prefix + name]

        for n, (made, readers) in enumerate(
            {
                "ln_1.weight": ("attn.c_attn.weight",),
                "ln_2.weight": ("mlp.w1.weight", "mlp.w2.weight"),
                "mlp.w1.weight": ("mlp.c_proj.weight",),
            }.items()
        ):
            channels = torch.arange(n, rows(made).shape[0], 16)
            rows(made)[channels] *= FACTOR
            for reader in readers:
                rows(reader)[:, channels] /= FACTOR
        channels = torch.arange(5, config.hidden_size, 16)
        for name in ("attn.c_attn.weight", "attn.c_attn.bias"):
            rows(name)[values + channels] *= FACTOR
        rows("attn.c_proj.weight")[:, channels] /= FACTOR
    save_file(tensors, folder / "model.safetensors")
    return folder


def lost(source: Path, target: Path, recipe: Recipe) -> float:
    """How far the quantized model's logits are from the float model's, relative."""
    list(quantize(source, target, recipe))
    with torch.inference_mode():
        expected = load_model(source)(IDS)
        return float((load_model(target)(IDS) - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def scaled(loud: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`loud`, scaled and quantized in one go."""
    target = tmp_path_factory.mktemp("scaled") / "int4"
    list(quantize(loud, target, RECIPE))
    return target


def test_scales_are_powers_of_two_around_one() -> None:
    """They grow with the activations, by alpha; inputs that are always 0 keep 1; none is beyond the limit."""
    energy = torch.tensor([1.0, 4.0, 256.0**2, 0.0, 1e-30, 1e30])
    assert torch.equal(scaling.channel_scales(energy, 0.0), torch.ones(6))
    s = scaling.channel_scales(energy, 0.5)
    assert s[3] == 1 and s.log2().frac().abs().sum() == 0
    assert s[0] < s[1] < s[2] and s[4] == 2.0**-scaling.LARGEST and s[5] == 2.0**scaling.LARGEST
    assert torch.equal(scaling.channel_scales(torch.full((7,), 3.0), 0.8), torch.ones(7))
    assert torch.equal(scaling.channel_scales(torch.zeros(7), 0.8), torch.ones(7))


def hessian_of(loudness: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [48, I] for inputs so loud, and their Hessian."""
    generator = torch.Generator().manual_seed(2)
    X = torch.randn(400, len(loudness), generator=generator) * loudness
    return torch.randn(48, len(loudness), generator=generator) / loudness, X.T @ X / 400


def test_loud_inputs_are_found_and_the_hessian_comes_back() -> None:
    """Where few inputs are loud, s follows them and the solution loses less; H is the same bits afterwards. Where all
    are alike nothing changes."""
    loudness = torch.ones(640)
    loudness[::40] = 32.0
    W, H = hessian_of(loudness)
    recipe, before = Recipe(group_size=32), H.clone()

    def solve(weights: list[Tensor], H: Tensor) -> list[QuantizedWeight]:
        return quantize_weights(weights, H, recipe)

    s = scaling.find_scales([W], H, solve)
    assert torch.equal(H, before)
    assert float(s[::40].min()) > float(s[1::40].max())
    plain = quantize_weights([W], H, recipe)[0].error
    scaling.divide_inputs(H, s)
    assert quantize_weights([scaling.multiply_inputs(W, s)], H, recipe)[0].error < 0.7 * plain
    W, H = hessian_of(torch.ones(640))
    assert torch.equal(scaling.find_scales([W], H, solve), torch.ones(640))


def test_weights_are_multiplied_exactly() -> None:
    """In bfloat16 as well as in float32 nothing is rounded; float16 becomes float32, in which nothing underflows."""
    s = torch.tensor([1 / 32, 1.0, 32.0])
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        W = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).to(dtype) * 1e-3
        assert torch.equal(scaling.multiply_inputs(W, s).double(), W.double() * s.double())


def test_a_loud_model_loses_less(loud: Path, tmp_path: Path) -> None:
    """The option takes a good part off what 4 bits cost the loud model."""
    plain = lost(loud, tmp_path / "plain", replace(RECIPE, awq_scaling=False))
    assert lost(loud, tmp_path / "scaled", RECIPE) < 0.8 * plain


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"float_targets": True},
        {"rotate": True},
        {"group_size": -1, "sym": False, "true_sequential": False},
        {"bits": 4, "eight_bits": ("transformer.h.0.attn.c_attn", "transformer.h.1.mlp.w2"), "lm_head_bits": 8},
    ],
    ids=["alone", "float targets", "rotated", "one group, asymmetric, in parallel", "mixed"],
)
def test_it_is_the_same_function(loud: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    """What divides inputs has gone into the norms and layers before them: what is lost is no more than without
    scaling, whatever else is chosen, and little with 8 bits."""
    recipe = replace(RECIPE, **{"bits": 8, **changes})  # type: ignore[arg-type]
    found = lost(loud, tmp_path / "scaled", recipe)
    assert found < 1.1 * lost(loud, tmp_path / "plain", replace(recipe, awq_scaling=False))
    assert recipe.bits == 4 or found < 0.25


def test_norms_are_divided_by_powers_of_two(loud: Path, scaled: Path) -> None:
    """The result's norms are the source's but for powers of two; the last norm is untouched."""
    before, after = (load_file(folder / "model.safetensors") for folder in (loud, scaled))
    for index in range(2):
        for norm in ("ln_1", "ln_2"):
            name = f"{block_prefix(index)}{norm}.weight"
            ratio = (before[name].half().float() / after[name].float()).log2()
            assert torch.equal(ratio, ratio.round()) and bool(ratio.any()), name
    assert torch.equal(after["transformer.ln_f.weight"], before["transformer.ln_f.weight"].half())


def test_a_quiet_model_stays_as_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    """Where no scale helps, the bytes are those of the plain job."""
    recipe = replace(RECIPE, awq_scaling=False)
    list(quantize(tiny_folder, tmp_path / "plain", recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "ALPHAS", (0.0,))
        list(quantize(tiny_folder, tmp_path / "scaled", RECIPE))
    assert contents(tmp_path / "scaled") == contents(tmp_path / "plain")


def test_interrupted_anywhere_it_ends_with_the_same_bytes(loud: Path, scaled: Path, tmp_path: Path) -> None:
    """Also between a layer and the one before it that takes its divisor; without the option it is another job."""
    steps = len(list(quantize(loud, tmp_path / "whole", RECIPE)))
    assert contents(tmp_path / "whole") == contents(scaled)
    for at in (steps - 12, steps - 9, steps - 3):
        target = tmp_path / f"stopped-{at}"
        stop(loud, target, RECIPE, at)
        with pytest.raises(QuantizeError, match="awq_scaling"):
            quantize(loud, target, replace(RECIPE, awq_scaling=False))
        list(quantize(loud, target, RECIPE))
        assert contents(target) == contents(scaled)


def test_receipt_report_and_estimate_know_of_it(loud: Path, scaled: Path, tmp_path: Path) -> None:
    """It is told in the receipt, on the page, and takes its time in the estimate."""
    receipt = read_receipt(scaled)
    assert receipt is not None and receipt["recipe"]["awq_scaling"] is True
    assert len(receipt["layers"]) == 10
    assert "<td>awq_scaling</td><td>True</td>" in report_page(receipt, "tiny")
    plain = replace(RECIPE, awq_scaling=False)
    works = [Work.of(prepare(loud, tmp_path / "none", recipe, None)).total for recipe in (plain, RECIPE)]
    assert works[0] < works[1]
    assert estimate(loud, tmp_path / "none", RECIPE).seconds > 0


def test_it_needs_calibration() -> None:
    """Rounding to nearest knows no activations, NF4 has one form: both refuse it."""
    for method in ("rtn", "nf4"):
        with pytest.raises(QuantizeError):
            Recipe(method=method, awq_scaling=True)


def test_a_scaled_model_answers(bellevl: Bellevl, answer: Answer, loud: Path, tmp_path: Path) -> None:
    """`--awq-scaling` makes a folder like any other: verify passes and it answers."""
    target = tmp_path / "int4"
    done = bellevl("quantize", loud, target, "--awq-scaling", "--samples", "3", "--seqlen", "64")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads((target / "receipt.json").read_text(encoding="utf-8"))["recipe"]["awq_scaling"] is True
    assert bellevl("verify", "--model", target, "--full").returncode == 0
    assert len(answer("问", model=target, greedy=True)["text"]) == 24
