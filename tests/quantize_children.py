"""Runs quantizations in child processes that are killed, interrupted or run out of disk at a chosen moment.

Started once as a program of its own: `python quantize_children.py SOURCE FOLDER`, it reads one JSON line per run
{"target": name, "how": "no" | "kill" | "interrupt" | "disk", "at": n, "recipe": name} and writes one per result. Each
run is forked before torch has started a thread, so it costs a tenth of a second instead of an import of torch.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from bellevl.errors import BellevlError
from quantize import Recipe, quantize
from quantize.storage.activations import Activations

RECIPE = Recipe(nsamples=6, seqlen=96, shard_bytes=200_000, lm_head_bits=8)


#: What a run may ask for by "recipe".
RECIPES = {
    "default": RECIPE,
    "nf4": Recipe(method="nf4", shard_bytes=200_000),
    "budget": replace(RECIPE, budget=690_000),
}


class Fuse:
    """Counts records, renamed files and written activations, and goes off at number `at`."""

    def __init__(self, how: str, at: int) -> None:
        self.how, self.at, self.count = how, at, 0

    def tick(self) -> None:
        self.count += 1
        if self.count != self.at:
            return
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "interrupt":
            signal.raise_signal(signal.SIGINT)
        elif self.how == "disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))

    def install(self) -> None:
        replace, write = Path.replace, Activations.write

        def counted_replace(path: Path, target: Path) -> Path:
            self.tick()
            return replace(path, target)

        def counted_write(stream: Activations, n: int, x: torch.Tensor) -> None:
            self.tick()
            write(stream, n, x)

        Path.replace, Activations.write = counted_replace, counted_write  # type: ignore[method-assign]


def run(source: str, target: Path, how: str, at: int, recipe: Recipe) -> dict[str, object]:
    """One quantization; how it ended and how many ticks it had."""
    fuse = Fuse(how, at)
    fuse.install()
    try:
        for _ in quantize(source, target, recipe):
            fuse.tick()
    except KeyboardInterrupt:
        return {"end": "interrupted", "ticks": fuse.count}
    except BellevlError as error:
        return {"end": error.message, "text": str(error), "ticks": fuse.count}
    return {"end": "done", "ticks": fuse.count}


def fork(source: str, target: Path, how: str, at: int, recipe: Recipe) -> dict[str, object]:
    """The same in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            os.write(writer, json.dumps(run(source, target, how, at, recipe)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return {"end": f"signal {os.WTERMSIG(status)}"}
    return json.loads(told)


def main() -> None:
    torch.set_num_threads(1)
    source, folder = sys.argv[1], Path(sys.argv[2])
    list(quantize(source, folder / "undisturbed", RECIPE))  # also imports and fills what the children then share
    for line in sys.stdin:
        order = json.loads(line)
        recipe = RECIPES[order.get("recipe", "default")]
        result = fork(source, folder / order["target"], order["how"], order["at"], recipe)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
