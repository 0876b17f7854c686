"""Makes the embedded model of a trained one: `python scripts/release_nano.py TRAINED [--pictures 600]`.

TRAINED is the last stage's folder of scripts/train_nano.py. Writes the float original to models/nano, its int4 form
into the package (bellevl/nano/model), measures both on pictures that no training saw, and writes the model card and
the figures (accuracy.json) beside the weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bellevl import load_model, load_tokenizer, nano
from bellevl.nano.evaluate import Line, evaluate
from bellevl.nano.world import Mix
from quantize.pipeline import quantize
from quantize.recipe import Recipe

ROOT = Path(__file__).parents[1]
FLOAT = ROOT / "models" / "nano"
OPENMOJI = ROOT / "tests" / "data" / "openmoji" / "openmoji.webp"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path)
    parser.add_argument("--pictures", type=int, default=600)
    options = parser.parse_args()
    write_float(options.trained, FLOAT)
    write_int4(FLOAT, nano.folder())
    figures = measure(options.pictures)
    for folder in (FLOAT, nano.folder()):
        (folder / "accuracy.json").write_text(
            json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
        (folder / "README.md").write_text(card(figures, options.pictures), encoding="utf-8")


def write_float(trained: Path, target: Path) -> None:
    """Copies the checkpoint, its weights as float16: half the size, and what the int4 form keeps of them anyway."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("generation_config.json", "qwen.tiktoken"):
        shutil.copyfile(trained / name, target / name)
    config = json.loads((trained / "config.json").read_text(encoding="utf-8")) | {"torch_dtype": "float16"}
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    tensors = {name: tensor.half() for name, tensor in load_file(trained / "model.safetensors").items()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)  # safetensors writes for its owner alone


def write_int4(source: Path, target: Path) -> None:
    """Quantizes with the default recipe into a folder beside, then puts it in place."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "int4"
        for progress in quantize(source, made, Recipe()):
            print(progress)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)


def measure(pictures: int) -> dict[str, dict[str, list[dict[str, object]]]]:
    """Lines of every form on every set."""
    sets = {
        "heldout": ("heldout", Mix()),
        "novel": ("novel", Mix()),
        "openmoji": ("heldout", replace(Mix(), styles=(str(OPENMOJI),))),
    }
    found: dict[str, dict[str, list[dict[str, object]]]] = {}
    for form, folder in (("float", FLOAT), ("int4", nano.folder())):
        model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
        found[form] = {}
        for name, (split, mix) in sets.items():
            count = pictures if name == "heldout" else pictures // 2
            lines = evaluate(model, tokenizer, split, count, mix=mix)  # type: ignore[arg-type]
            found[form][name] = [rounded(line) for line in lines]
            print(form, name, "done")
    return found


def rounded(line: Line) -> dict[str, object]:
    """A line as it stands in accuracy.json."""
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(line).items()}


def card(figures: dict[str, dict[str, list[dict[str, object]]]], pictures: int) -> str:
    """The model card with the measured tables in it."""
    text = (ROOT / "scripts" / "nano_card.md").read_text(encoding="utf-8")
    return (
        text.replace("{{pictures}}", str(pictures))
        .replace("{{half}}", str(pictures // 2))
        .replace("{{heldout}}", both_forms(figures, "heldout"))
        .replace("{{novel}}", both_forms(figures, "novel"))
        .replace("{{openmoji}}", both_forms(figures, "openmoji"))
    )


def both_forms(figures: dict[str, dict[str, list[dict[str, object]]]], name: str) -> str:
    """One Markdown row a kind: answers, guessing, decision in float and int4, whole answer in float and int4."""
    columns = ("question", "answers", "guessing", "decision, float", "decision, int4", "whole, float", "whole, int4")
    rows = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    int4 = {line["kind"]: line for line in figures["int4"][name]}
    for line in figures["float"][name]:
        other = int4[line["kind"]]
        cells = [line["guess"], line["decided"], other["decided"], line["right"], other["right"]]
        rows.append(
            f"| {line['kind']} | {line['answers']} | " + " | ".join(f"{float(str(c)):.2f}" for c in cells) + " |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
