"""The vision encoder over the calibration pictures: the same features, one block in memory."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bellevl import load_model, load_tokenizer, nano
from bellevl.checkpoint import Checkpoint
from bellevl.errors import CheckpointError
from quantize import Recipe
from quantize.calibration import CalibrationSet, Sample, calibration_set
from quantize.prefix import embed_samples
from quantize.storage.activations import Activations
from quantize.task import disk_bytes, prepare
from quantize.vision import PictureFeatures, patch_bytes

FOLDER = nano.folder()


@pytest.fixture(scope="module")
def samples() -> CalibrationSet:
    """Four conversations of the embedded model: with one picture, with two, with none, with one."""
    with Checkpoint.open(FOLDER) as checkpoint:
        made = calibration_set(None, load_tokenizer(FOLDER), checkpoint.config, FOLDER, Recipe(nsamples=4)).samples
    one, two, three, four = made
    both = Sample(two.ids + three.ids, two.pictures + three.pictures)
    return CalibrationSet((one, both, Sample(tuple(range(20, 60))), four))


def entering(folder: Path, samples: CalibrationSet, target: Path) -> tuple[list[Tensor], list[float]]:
    """What enters block 0 of every sample, and what was told on the way."""
    target.mkdir()
    with Checkpoint.open(folder) as checkpoint:
        stream = Activations(target / "stream.bin", samples.lengths, checkpoint.config.hidden_size)
        told = list(embed_samples(checkpoint, samples, stream))
    assert [path.name for path in target.iterdir()] == ["stream.bin"], "nothing is left of the patches"
    return [stream.read(range(n, n + 1)) for n in range(len(samples.samples))], told


def test_what_enters_block_0_is_the_models(samples: CalibrationSet, tmp_path: Path) -> None:
    """Bit by bit what the whole model makes of the ids and pictures; the share that is done grows to one."""
    found, told = entering(FOLDER, samples, tmp_path / "work")
    model = load_model(FOLDER, torch.float32)
    assert model.config.visual is not None
    with torch.inference_mode():
        for n, sample in enumerate(samples.samples):
            size = model.config.visual.image_size
            features = model.encode_images(samples.pixels(n, size)) if sample.pictures else None
            assert torch.equal(found[n], model.embed(torch.tensor([sample.ids]), features)[0])
    assert told == sorted(told) and told[-1] == 1.0
    assert len(told) == 3 * (1 + model.config.visual.layers) + 1


def test_conversations_without_pictures_need_no_encoder(
    samples: CalibrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is read then."""
    read: list[str] = []
    real = Checkpoint.read_copy
    monkeypatch.setattr(Checkpoint, "read_copy", lambda self, name, *given, **named: (
        read.append(name), real(self, name, *given, **named))[1])  # fmt: skip
    entering(FOLDER, CalibrationSet(samples.samples[2:3]), tmp_path / "work")
    assert not [name for name in read if ".visual." in name]


def test_one_block_is_in_memory(samples: CalibrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a block is read, of those before it at most the last one is still there."""
    alive: dict[str, list[weakref.ref[Tensor]]] = {}
    counts = []
    real = PictureFeatures._load

    def load(features: PictureFeatures, module: torch.nn.Module, prefix: str) -> None:
        counts.append(sum(any(tensor() is not None for tensor in tensors) for tensors in alive.values()))
        real(features, module, prefix)
        if prefix:
            alive[prefix] = [weakref.ref(tensor) for tensor in module.parameters()]

    monkeypatch.setattr(PictureFeatures, "_load", load)
    entering(FOLDER, samples, tmp_path / "work")
    assert len(alive) > 3 and max(counts) <= 1


@pytest.mark.parametrize("after", [0, 2, 4, 11, 17])
def test_an_interrupted_job_looks_on_from_the_block_it_came_to(
    samples: CalibrationSet, tmp_path: Path, after: int
) -> None:
    """Stopped within any step, what enters block 0 is the same; whole steps are not done again."""
    expected, told = entering(FOLDER, samples, tmp_path / "whole")
    work = tmp_path / "work"
    work.mkdir()
    with Checkpoint.open(FOLDER) as checkpoint:
        stream = Activations(work / "stream.bin", samples.lengths, checkpoint.config.hidden_size)
        stopped = embed_samples(checkpoint, samples, stream)
        for _ in range(after):
            next(stopped)
        stopped.close()  # type: ignore[attr-defined]
        again = list(embed_samples(checkpoint, samples, stream))
    assert [path.name for path in work.iterdir()] == ["stream.bin"]
    # Of a step of three conversations that was stopped nothing is kept, and the last told nothing of its end.
    assert again == told[max(after - 1, 0) // 3 * 3 :]
    for n, x in enumerate(expected):
        assert torch.equal(stream.read(range(n, n + 1)), x)


def test_weights_of_the_encoder_that_are_not_finite_are_named(samples: CalibrationSet, tmp_path: Path) -> None:
    """Also one in the middle of its blocks, which is long gone when its effect is seen."""
    name = "transformer.visual.transformer.resblocks.1.mlp.c_fc.weight"
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors[name][3, 5] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        entering(folder, samples, tmp_path / "work")
    assert caught.value.message == "model.not_finite" and name in str(caught.value)


def test_the_disk_has_room_for_the_patches(tiny_folder: Path, tmp_path: Path) -> None:
    """Where pictures are large and conversations short, it is the patches that the job needs room for."""
    task = prepare(tiny_folder, tmp_path / "int4", Recipe(nsamples=6, seqlen=96), None)
    assert task.config.visual is not None
    pictures = sum(len(sample.pictures) for sample in task.calibration.samples)
    assert patch_bytes(task.config, task.calibration) == 2 * pictures * 16 * 32 * 4
    wide = replace(task.config, visual=replace(task.config.visual, image_size=4480))
    larger = replace(task, config=wide)
    assert disk_bytes(larger) > disk_bytes(task)
    assert disk_bytes(larger) >= task.result_bytes + patch_bytes(wide, task.calibration)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_rows_of_a_tensor_can_be_read_alone(tiny_folder: Path, tmp_path: Path, form: str) -> None:
    """They are those of the whole tensor, cast where that is asked for."""
    folder = tiny_folder
    if form == "bin":
        folder = shutil.copytree(tiny_folder, tmp_path / "model")
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    with Checkpoint.open(folder) as checkpoint:
        whole = checkpoint.read_copy("transformer.wte.weight")
        for rows in (range(3), range(7, 100), range(len(whole) - 1, len(whole))):
            part = checkpoint.read_copy("transformer.wte.weight", rows=rows)
            assert torch.equal(part, whole[rows.start : rows.stop])
            half = checkpoint.read_copy("transformer.wte.weight", torch.float16, rows=rows)
            assert torch.equal(half, part.half())
        part.zero_()
        assert bool(checkpoint.read_copy("transformer.wte.weight")[-1].any()), "memory of its own"
