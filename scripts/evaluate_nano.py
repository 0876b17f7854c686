"""What a nano checkpoint can do: `python scripts/evaluate_nano.py FOLDER [--split heldout] [--pictures 400]`.

Prints a Markdown table: share of right answers kind by kind, beside what guessing reaches.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from bellevl import load_model, load_tokenizer
from bellevl.nano.evaluate import evaluate, table
from bellevl.nano.world import Mix


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=["train", "heldout", "novel"], default="heldout")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--style", help="a drawing style, or the path of a sheet that no training saw")
    options = parser.parse_args()
    mix = replace(Mix(), styles=(options.style,)) if options.style else Mix()
    model, tokenizer = load_model(options.folder), load_tokenizer(options.folder)
    print(table(evaluate(model, tokenizer, options.split, options.pictures, options.seed, mix)))


if __name__ == "__main__":
    main()
