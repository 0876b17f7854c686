"""One block in memory: the next one waits outside, and what nobody will ask again is gone."""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bellevl.checkpoint import Checkpoint
from bellevl.config import ModelConfig, read_config
from bellevl.errors import CheckpointError
from bellevl.text import Block
from quantize import Recipe
from quantize.blocks import passes, reader
from quantize.blocks.passes import RotaryTables, Streams
from quantize.blocks.reader import BlockReader, read_block
from quantize.blocks.stages import QuantizedWeight, quantize_block
from quantize.meter import Stopwatch, give_back
from quantize.storage.activations import Activations

Events = list[tuple[str, int]]


def warm_all(checkpoint: Checkpoint) -> None:
    for name in checkpoint.names():
        checkpoint.warm(name)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Which block was warmed and read, in order."""
    told: Events = []
    real_read, real_warm = reader.read_block, reader.warm_block

    def read(source: Path, config: ModelConfig, index: int, rotation: None = None) -> Block:
        told.append(("read", index))
        return real_read(source, config, index, rotation)

    def warm(source: Path, index: int) -> None:
        told.append(("warm", index))
        real_warm(source, index)

    monkeypatch.setattr(reader, "read_block", read)
    monkeypatch.setattr(reader, "warm_block", warm)
    return told


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_next_block_waits_for_room(tiny_folder: Path, events: Events) -> None:
    """Without room it is read into the system's cache alone; with room a thread reads it, asked for or not."""
    config, _ = read_config(tiny_folder)
    with BlockReader(tiny_folder, config, 0, at_once=False) as blocks:
        assert blocks.take()[0].index == 0
        wait_for(lambda: ("warm", 1) in events)
        time.sleep(0.05)
        assert ("read", 1) not in events
        blocks.make_room()
        wait_for(lambda: ("read", 1) in events)
        assert blocks.take()[0].index == 1
    assert [event for event in events if event[0] == "read"] == [("read", 0), ("read", 1)]


def test_asking_for_a_block_is_room_enough(tiny_folder: Path, events: Events) -> None:
    """Nobody has to say that there is room."""
    config, _ = read_config(tiny_folder)
    with BlockReader(tiny_folder, config, 0, at_once=False) as blocks:
        assert [blocks.take()[0].index for _ in range(config.num_hidden_layers)] == [0, 1]


def test_a_reader_that_is_left_reads_no_more(tiny_folder: Path, events: Events) -> None:
    """Leaving it ends a thread that waits for room, without its block."""
    config, _ = read_config(tiny_folder)
    with BlockReader(tiny_folder, config, 1, at_once=False):
        wait_for(lambda: ("warm", 1) in events)
    assert ("read", 1) not in events


def test_blocks_are_read_at_once_where_there_is_room(tiny_folder: Path, events: Events) -> None:
    """On a GPU, and without calibration, the next block is read beside the work, and nothing is warmed."""
    config, _ = read_config(tiny_folder)
    with BlockReader(tiny_folder, config, 0) as blocks:
        blocks.take()
        wait_for(lambda: ("read", 1) in events)
    assert not [event for event in events if event[0] == "warm"]


def test_what_cannot_be_warmed_is_told_like_what_cannot_be_read(tiny_folder: Path, tmp_path: Path) -> None:
    """A shard that ends early is named to whoever takes the block."""
    source = shutil.copytree(tiny_folder, tmp_path / "float")
    config, _ = read_config(source)
    with Checkpoint.open(source) as checkpoint:
        warm_all(checkpoint)
        with pytest.raises(CheckpointError, match="nowhere"):
            checkpoint.warm("nowhere")
        path = source / "model.safetensors"
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 3)
        with pytest.raises(CheckpointError) as caught:
            warm_all(checkpoint)
    assert caught.value.message == "model.damaged_shard"
    with BlockReader(source, config, 0, at_once=False) as blocks, pytest.raises(CheckpointError):
        blocks.take()


def test_layers_and_codes_are_let_go(golden: Path, tmp_path: Path) -> None:
    """When mlp.c_proj, of the largest Hessian, is solved, neither the layers of attention nor, where a file holds what
    they gave, w1 and w2 are in memory, nor what any of them became."""
    folder = golden / "model" / "model"
    config, _ = read_config(folder)
    widths = {"entering": config.hidden_size, "scratch": config.hidden_size, "gated": config.mlp_width}
    files = [Activations(tmp_path / name, [40], width) for name, width in widths.items()]
    files[0].write(range(1), torch.randn(40, config.hidden_size))
    for gated in (None, files[2]):
        block = read_block(folder, config, 0)
        left: dict[str, list[weakref.ref[torch.Tensor]]] = {}
        for layer in ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2"):
            left[layer] = [weakref.ref(block.get_submodule(layer).weight)]  # type: ignore[arg-type]
        streams = Streams(files[0], files[1], gated)
        solving = quantize_block(block, 0, streams, RotaryTables(config), Recipe(group_size=32), Stopwatch())
        for solved in solving:
            if solved.layer == "mlp.c_proj":
                break
            assert isinstance(solved.weight, QuantizedWeight)
            left[solved.layer].append(weakref.ref(solved.weight.codes))
            left[solved.layer].append(weakref.ref(block.get_submodule(solved.layer).weight))  # type: ignore[arg-type]
            del solved
        alive = {layer for layer, tensors in left.items() if any(tensor() is not None for tensor in tensors)}
        assert alive == (set() if gated else {"mlp.w1", "mlp.w2"})
        solving.close()  # type: ignore[attr-defined]


def test_wide_activations_come_in_smaller_pieces(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tokens go together as keep the widest activations small; one sample is never taken apart."""
    folder = golden / "model" / "model"
    config, _ = read_config(folder)
    block = read_block(folder, config, 0)
    with Activations(tmp_path / "stream", [30, 30, 30, 90], config.hidden_size) as stream:
        monkeypatch.setattr(passes, "NUMBERS", 60 * config.mlp_width)
        walked = passes.Passes(block, Streams(stream, stream), RotaryTables(config), None)
    assert walked.spans == [range(2), range(2, 3), range(3, 4)]


def test_memory_can_be_given_back() -> None:
    """Wherever this runs it may be called at any time."""
    for _ in range(2):
        give_back()
