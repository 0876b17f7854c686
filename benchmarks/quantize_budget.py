"""What a byte budget buys: KL divergence on held-out conversations of the embedded model with some layers at 8 bits.

    python benchmarks/quantize_budget.py [--source models/nano] [--samples 64] [--each]

The budgets are all layers at 4 bits and some percent more of their bytes. What `bellevl quantize --budget` spends them
on is compared with units drawn by lot and with the first units of the model; then the ranking itself: on how many
tokens it rests, and, with `--each`, whether a unit's divergence when it alone is rounded to nearest says what 8 bits
for it take away from the model quantized by GPTQ.

All are measured by `bellevl evaluate fidelity` on the same conversations, which calibrate none of them.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from _machine import describe_machine, machine_line, save_result  # noqa: E402

#: Budgets, as what is spent beyond 4 bits in percent of the quantized layers' bytes.
PERCENTS = (5, 10, 20)

#: Draws of units by lot.
DRAWS = 3

#: Tokens that the ranking is measured on; the last is what the others are compared with.
TOKENS = (256, 512, 1024, 2048, 8192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "models" / "nano")
    parser.add_argument("--samples", type=int, default=64, help="conversations that are measured on")
    parser.add_argument("--calibration", type=int, default=128, help="conversations that calibrate")
    parser.add_argument("--seed", type=int, default=0, help="seed of those that calibrate")
    parser.add_argument("--each", action="store_true", help="also every unit alone at 8 bits")
    options = parser.parse_args()
    machine = describe_machine()
    bench = Bench(options)
    with tempfile.TemporaryDirectory() as folder:
        tokens = list(bench.rank_tokens(Path(folder)))
        rows = list(bench.compare(Path(folder)))
        each = bench.compare_each(Path(folder), rows[0]) if options.each else None
    calibration = {"conversations": options.calibration, "seed": options.seed}
    units = [{"layers": list(layers), "kl": kl} for layers, kl in bench.kls.items()]
    record = {
        "machine": machine, "samples": options.samples, "calibration": calibration, "least": bench.least,
        "layer_bytes": bench.layer_bytes, "rows": rows, "tokens": tokens, "units": units, "each": each,
    }  # fmt: skip
    save_result("quantize_budget", record, page(record, machine_line(machine)))


class Bench:
    """The model, its units, and how a result is measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        from bellevl.checkpoint import Checkpoint
        from bellevl.evaluation.fidelity import Conversation
        from bellevl.tokenizer import load_tokenizer
        from quantize import Recipe
        from quantize.calibration import calibration_set, held_out_set
        from quantize.spending.bits_of_units import bounds
        from quantize.storage.layout import is_packed, plan_tensors

        self.source = options.source
        self.recipe = Recipe(nsamples=options.calibration, seed=options.seed)
        self.tokenizer = load_tokenizer(self.source)
        self.checkpoint = Checkpoint.open(self.source)
        config = self.checkpoint.config
        chosen = held_out_set(self.tokenizer, config, self.source, options.samples, 1024)
        self.conversations = [Conversation(sample.ids, sample.pictures) for sample in chosen.samples]
        self.calibration = calibration_set(None, self.tokenizer, config, self.source, self.recipe)
        self.least, self.most = bounds(self.checkpoint, self.recipe)
        plans = plan_tensors(self.checkpoint, self.recipe)
        self.layer_bytes = sum(plan.nbytes for plan in plans if is_packed(plan.name))
        self.kls: dict[tuple[str, ...], float] = {}

    def rank_tokens(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Rank correlation of units' divergences with those on most tokens, and the seconds they take."""
        from quantize.spending import sensitivity

        found = {}
        for tokens in TOKENS:
            work = folder / f"tokens{tokens}"
            work.mkdir()
            samples = sensitivity.measured_samples(self.calibration, tokens)
            measured = sensitivity.Sensitivity(self.source, self.checkpoint.config, self.recipe, samples, work)
            began = time.perf_counter()
            for _ in measured.run():
                pass
            found[tokens] = (sum(samples.lengths), time.perf_counter() - began, measured.result() or {})
        self.kls = found[sensitivity.TOKENS][2]
        best = list(found[TOKENS[-1]][2].values())
        for tokens, (real, seconds, kls) in found.items():
            row = {"most": tokens, "tokens": real, "seconds": round(seconds, 2)}
            yield row | {"correlation": correlation(list(kls.values()), best)}

    def compare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """A row for every way to spend every budget, before them all at 4 bits, behind them all at 8."""
        every = tuple(layer for unit in self.kls for layer in unit)
        yield self.measure("all 4 bits", 0, self.recipe, folder)
        for percent in PERCENTS:
            budget = self.least + self.layer_bytes * percent // 100
            yield self.measure("--budget", percent, replace(self.recipe, budget=budget), folder)
            for name, order in self.other_orders():
                layers = self.fill(order, budget)
                yield self.measure(name, percent, replace(self.recipe, eight_bits=layers), folder)
        percent = round(100 * (self.most - self.least) / self.layer_bytes)
        yield self.measure("all 8 bits", percent, replace(self.recipe, eight_bits=every), folder)

    def other_orders(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """Units in the order in which another way takes them."""
        for draw in range(DRAWS):
            yield f"by lot {draw + 1}", random.Random(draw).sample(list(self.kls), len(self.kls))
        yield "first units", list(self.kls)

    def fill(self, order: list[tuple[str, ...]], budget: int) -> tuple[str, ...]:
        """Layers of the units that fit, taken in this order."""
        from quantize.spending.bits_of_units import sizes_of

        sizes, taken = sizes_of(self.checkpoint, self.recipe), ()
        for unit in order:
            taken = (*taken, *unit) if sizes((*taken, *unit)) <= budget else taken
        return taken

    def compare_each(self, folder: Path, base: dict[str, Any]) -> dict[str, Any]:
        """What 8 bits for each unit alone take away from the quantized model's divergence."""
        gains = []
        for unit in self.kls:
            row = self.measure(unit[0], 0, replace(self.recipe, eight_bits=unit), folder)
            gains.append(base["kl_seen"] - row["kl_seen"])
        return {"gains": gains, "correlation": correlation(list(self.kls.values()), gains)}

    def measure(self, name: str, percent: int, recipe: Any, folder: Path) -> dict[str, Any]:
        """Quantizes, compares with the float model, and forgets the result."""
        from bellevl.evaluation.fidelity import fidelity
        from quantize import quantize
        from quantize.record.receipt import read_receipt

        target = folder / "result"
        for _ in quantize(self.source, target, recipe):
            pass
        found = fidelity(self.source, target, self.conversations, self.tokenizer)
        receipt = read_receipt(target) or {}
        eight = receipt["recipe"]["eight_bits"]
        size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
        shutil.rmtree(target)
        seen = [found.by[kind] for kind in ("text", "answer")]
        kl = sum(kind.tokens * kind.kl_mean for kind in seen) / sum(kind.tokens for kind in seen)
        print(f"{name:12} {percent:3}% {size} kl {found.all.kl_mean:.5f} answers {seen[1].kl_mean:.5f}", flush=True)
        return {"name": name, "percent": percent, "bytes": size, "eight_bits": eight, "kl_seen": kl, **found.record()}


def correlation(one: list[float], two: list[float]) -> float:
    """Spearman's rank correlation."""
    import torch

    ranks = [torch.tensor(values).argsort().argsort().double() for values in (one, two)]
    return round(float(torch.corrcoef(torch.stack(ranks))[0, 1]), 3)


def page(record: dict[str, Any], machine: str) -> str:
    """The same as a page."""
    rows, tokens, each = record["rows"], record["tokens"], record["each"]
    lines = [
        "# What a byte budget buys",
        "",
        f"`python benchmarks/quantize_budget.py{' --each' if each else ''}`: {record['samples']} held-out "
        f"conversations, {rows[0]['tokens']} positions; {record['calibration']['conversations']} others calibrate "
        f"(seed {record['calibration']['seed']}). KL(float || quantized) in nats. A budget is given as what it is "
        f"above all 4 bits, in percent of the {record['layer_bytes']:,} bytes of the quantized layers.",
        "",
        "| budget | spent on | bytes | layers at 8 bits | KL mean | of all 4 bits | KL answers | same top, answers |",
        "|---|---|---|---|---|---|---|---|",
        *(table_line(row, rows[0]) for row in rows),
        "",
        "## The ranking",
        "",
        "Rank correlation (Spearman) of the units' divergences with those measured on most tokens:",
        "",
        "| tokens | correlation | seconds |",
        "|---|---|---|",
        *(f"| {row['tokens']} | {row['correlation']:.3f} | {row['seconds']:.1f} |" for row in tokens),
        "",
    ]
    if each:
        lines += [
            "What 8 bits for one unit take away from the divergence outside of pictures of the model quantized by "
            f"GPTQ, and what was measured of it beforehand: rank correlation {each['correlation']:.3f}.",
            "",
            "| unit | measured beforehand | taken away |",
            "|---|---|---|",
            *(
                f"| {' + '.join(unit['layers'])} | {unit['kl']:.5f} | {gain:.5f} |"
                for unit, gain in zip(record["units"], each["gains"], strict=True)
            ),
            "",
        ]
    return "\n".join([*lines, f"Machine: {machine}."]) + "\n"


def table_line(row: dict[str, Any], base: dict[str, Any]) -> str:
    answer = row["by"]["answer"]
    return (
        f"| +{row['percent']}% | {row['name']} | {row['bytes']:,} | {len(row['eight_bits'])} | {row['kl_mean']:.5f} "
        f"| {row['kl_mean'] / base['kl_mean']:.2f} | {answer['kl_mean']:.5f} "
        f"| {100 * answer['top1_agreement']:.2f}% |"
    )


if __name__ == "__main__":
    main()
