"""Trains the nano model: `python scripts/train_nano.py FOLDER [--until STAGE]`.

Every stage resumes where it was stopped. The last stage's folder is the result.
These settings keep large temporaries from being handed back to the system at every step:
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=268435456
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from bellevl.nano.train import PLAN, VOCABULARY, run_stage
from bellevl.tokenizer import load_tokenizer
from bellevl.training.loop import Progress, Schedule


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--until", choices=[stage.name for stage in PLAN], default=PLAN[-1].name)
    parser.add_argument("--steps", type=int, help="shorten every stage to this many steps")
    parser.add_argument("--eager", action="store_true", help="do not compile: slower, starts at once")
    options = parser.parse_args()
    tokenizer = load_tokenizer(VOCABULARY.parent)
    for stage in PLAN:
        if options.steps:
            stage = replace(stage, schedule=Schedule(options.steps, warmup=1))
        for progress in run_stage(stage, options.folder, tokenizer, compiled=not options.eager):
            report(progress)
        if stage.name == options.until:
            break


def report(progress: Progress) -> None:
    """A line every 20 steps."""
    if progress.step % 20 and progress.step != progress.steps:
        return
    figures = "  ".join(f"{name} {value:.4f}" for name, value in progress.figures.items())
    print(f"{time.strftime('%H:%M:%S')} {progress.job} {progress.step}/{progress.steps}  {figures}", flush=True)


if __name__ == "__main__":
    main()
