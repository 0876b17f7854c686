"""Int4 checkpoints from and to GPTQModel, optimum, bitsandbytes and transformers: `make interop` runs this in their
environment.

    python scripts/interop.py [--layers INT4]

Ours in theirs: an int4 folder of the embedded model, as `bellevl quantize` writes it, is loaded by GPTQModel's own
class for Qwen and by transformers' GPTQConfig (optimum on top of GPTQModel), both with the architecture of
`bellevl.hf`. Every linear of the language model is then one of GPTQModel's layers. Theirs in ours: GPTQModel quantizes
the same float model and saves it in both versions of the format; transformers saves one under the wrong version's name.
The same both ways for NF4: what bitsandbytes packs of every layer, our folder in transformers with bitsandbytes'
layers, and what those two quantize and save.

A line compares logits of questions with and without a picture, every position, in float32 on both sides, and greedy
answers of both programs. GPTQModel's class calibrates text alone; that does not matter for what a file means.
`--layers`: also every int4 layer of another folder, for example of the full size, decoded by both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FLOAT, INT4 = ROOT / "models" / "nano", ROOT / "bellevl" / "nano" / "model"

#: (picture or None, question)
QUESTIONS = (
    (None, "你好"),
    ("cat.png", "描述图片"),
    ("night.png", "What is in the picture?"),
    ("shapes.png", "图里有几个东西？"),
)

#: Largest difference of logits (they reach about 10) that sums in another order explain.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """One question as both sides get it: ids [1, T], pixels [1, 3, S, S] or None."""

    ids: Any
    pixels: Any


@dataclass(frozen=True)
class Seen:
    """What a program makes of the cases: logits [T, V] of each and the ids of its greedy answers."""

    logits: list[Any]
    answers: list[list[int]]


class Table:
    """The lines of the result, said on the real standard output: theirs say a lot on it too."""

    def __init__(self, log: Path) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        self.log, self.failed = log, 0

    def say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def check(self, name: str, prove: Callable[[], str]) -> None:
        """One line: what `prove` found, or why it failed."""
        began = time.perf_counter()
        try:
            found, verdict = prove(), "ok  "
        except Exception as error:  # one that fails must not hide the others
            found, verdict = f"{type(error).__name__}: {str(error).splitlines()[0][:150]}", "FAIL"
            self.failed += 1
        self.say(f"{verdict}  {name}: {found}  [{time.perf_counter() - began:.0f} s]")


def main() -> int:
    """The command; 1 when a line failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=Path, metavar="INT4", help="also compare every layer of this int4 folder")
    options = parser.parse_args()
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(os.cpu_count() or 1, 2)))  # fewer: it does not start
    with tempfile.TemporaryDirectory() as temporary:
        layers = options.layers and options.layers.resolve()
        os.chdir(temporary)  # GPTQModel leaves logs where it runs
        table = Table(Path(temporary) / "log")
        names = ("gptqmodel", "optimum", "bitsandbytes", "transformers", "torch")
        table.say(", ".join(f"{name} {version(name)}" for name in names))
        ours_in_theirs(table, Path(temporary))
        theirs_in_ours(table, Path(temporary))
        nf4_both_ways(table, Path(temporary))
        if layers:
            table.check(f"every layer of {layers.name}", lambda: same_layers(layers))
        if table.failed:
            table.say("\n".join(table.log.read_text(errors="replace").splitlines()[-40:]))
    return int(table.failed > 0)


def ours_in_theirs(table: Table, temporary: Path) -> None:
    """The embedded model's folder, and folders of the other forms that `bellevl quantize` writes."""
    table.say("ours in theirs")
    table.check("GPTQModel.load, default", lambda: same(theirs(by_gptqmodel(INT4)), ours(INT4)))
    table.check("transformers + GPTQConfig, default", lambda: same(theirs(by_transformers(INT4)), ours(INT4)))
    table.check("GPTQModel's layers, default, every layer", lambda: same_layers(INT4))
    forms = {
        "group 32": {"group_size": 32},
        "one group": {"group_size": -1},
        "groups of act order": {"desc_act": True, "static_groups": False, "nsamples": 8, "method": "gptq"},
    }
    for name, settings in forms.items():
        folder = quantized(temporary, name, settings)
        table.check(f"GPTQModel.load, {name}", lambda folder=folder: same(theirs(by_gptqmodel(folder)), ours(folder)))
    eight = {"lm_head_bits": 8, "eight_bits": ("transformer.h.2.mlp.w1", "transformer.h.2.mlp.w2")}
    mixed = quantized(temporary, "mixed bits", eight)
    table.check("GPTQModel.load, head and two layers in 8 bits", lambda: same(theirs(by_gptqmodel(mixed)), ours(mixed)))
    folder = quantized(temporary, "asymmetric", {"sym": False})
    table.check("transformers + GPTQConfig, asymmetric", lambda: same(theirs(by_transformers(folder)), ours(folder)))
    table.check("GPTQModel.load, asymmetric: refuses v1 files that it did not make", lambda: refused(folder))


def theirs_in_ours(table: Table, temporary: Path) -> None:
    """What GPTQModel quantized, and what transformers saved."""
    table.say("theirs in ours")
    for form, sym in (("gptq", True), ("gptq_v2", False)):
        folder = temporary / f"theirs {form}"
        name = f"GPTQModel.quantize, saved as {form}, {'symmetric' if sym else 'asymmetric'}"
        table.check(name, lambda f=folder, form=form, sym=sym: made_by_gptqmodel(f, form, sym))
    for name, source in (("symmetric", INT4), ("asymmetric", temporary / "asymmetric")):
        folder = temporary / f"saved {name}"
        label = f"transformers: loaded and saved, {name} (v2 words under the name of v1)"
        table.check(label, lambda s=source, f=folder: saved_by_transformers(s, f))


def nf4_both_ways(table: Table, temporary: Path) -> None:
    """What `--method nf4` writes, and what transformers writes with bitsandbytes."""
    table.say("NF4, both ways")
    folder = quantized(temporary, "nf4", {"method": "nf4", "search_scales": True})
    table.check("bitsandbytes, every layer", lambda: same_nf4_layers(folder))
    table.check(
        "transformers + bitsandbytes, ours in theirs", lambda: same(theirs(by_bitsandbytes(folder)), ours(folder))
    )
    for name, double in (("", False), (", double quantization", True)):
        target = temporary / f"theirs nf4{name}"
        label = f"transformers + bitsandbytes, theirs in ours{name}"
        table.check(label, lambda t=target, d=double: made_by_bitsandbytes(t, d))


def same_nf4_layers(folder: Path) -> str:
    """Every layer: the bytes that bitsandbytes packs of the float weights, and the weights that it decodes of ours."""
    import torch
    from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit

    from bellevl.checkpoint import Checkpoint
    from bellevl.nf4_linear import Nf4Linear
    from bellevl.nf4_state import ABSMAX, CODES, STATE, TABLE

    layers = 0
    with Checkpoint.open(folder) as checkpoint, Checkpoint.open(FLOAT) as source:
        for name in [n.removesuffix(f".{ABSMAX}") for n in checkpoint.names() if n.endswith(ABSMAX)]:
            found = {part: checkpoint.read(f"{name}.{part}") for part in (CODES, ABSMAX, TABLE, STATE)}
            weight = source.read(f"{name}.weight")
            packed, state = quantize_4bit(weight, quant_type="nf4", blocksize=64)
            if not torch.equal(packed, found[CODES]) or not torch.equal(state.absmax, found[ABSMAX]):
                raise ValueError(f"{name} is packed otherwise")
            mine = Nf4Linear(weight.shape[1], weight.shape[0], bias=False)
            for part, tensor in found.items():
                mine._buffers[part] = tensor
            read = QuantState.from_dict(
                {part: found[part].clone() for part in (ABSMAX, TABLE, STATE)}, torch.device("cpu")
            )
            read.dtype = torch.float32
            if not torch.equal(dequantize_4bit(found[CODES], read), mine.dequantize()):
                raise ValueError(f"{name} is decoded otherwise")
            layers += 1
    return f"{layers} layers, packed bytes and decoded weights equal bit by bit"


def by_bitsandbytes(folder: Path, settings: Any = None) -> Any:
    """transformers' loader with bitsandbytes' layers; `settings` quantize a float folder."""
    import torch
    from transformers import AutoModelForCausalLM

    import bellevl.hf  # noqa: F401 - registers the architecture

    given = {} if settings is None else {"quantization_config": settings}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16, device_map="cpu", **given)


def made_by_bitsandbytes(folder: Path, double: bool) -> str:
    """Quantizes with transformers and bitsandbytes and saves; the same folder loaded by it and by us."""
    import shutil

    import torch
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float16,
        bnb_4bit_use_double_quant=double, llm_int8_skip_modules=["lm_head", "transformer.visual"],
    )  # fmt: skip
    by_bitsandbytes(FLOAT, settings).save_pretrained(folder)
    shutil.copy(FLOAT / "qwen.tiktoken", folder)
    return same(theirs(by_bitsandbytes(folder)), ours(folder))


def made_by_gptqmodel(folder: Path, form: str, sym: bool) -> str:
    """Quantizes with GPTQModel; the same folder loaded by it and by us."""
    import torch
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    teach_replay()
    config = QuantizeConfig(bits=4, group_size=128, sym=sym, format=form, offload_to_disk=False)
    model = GPTQModel.load(str(FLOAT), quantize_config=config, dtype=torch.float16)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 1600, (16, 64), generator=generator).tolist()
    model.quantize([{"input_ids": row, "attention_mask": [1] * 64} for row in ids], backend=BACKEND.GPTQ_TORCH)
    model.save(str(folder))
    return same(theirs(by_gptqmodel(folder)), ours(folder))


def teach_replay() -> None:
    """GPTQModel calls a recorded block with arguments of newer models; its hook for that drops what ours does not take.

    Only quantizing needs this, loading does not.
    """
    from gptqmodel.models.definitions.qwen import QwenQModel

    def kept(self: Any, layer: Any, layer_input: Any, additional_inputs: dict[str, Any], target_device: Any) -> Any:
        return {name: value for name, value in additional_inputs.items() if name in ("rotary", "mask", "cache")}

    QwenQModel.prepare_layer_replay_kwargs = kept


def saved_by_transformers(source: Path, folder: Path) -> str:
    """Loads `source` with GPTQConfig and saves it: says v1, has the words of v2. Read by us it is still the source."""
    import json
    import shutil

    from safetensors.torch import load_file

    model = by_transformers(source)
    model.save_pretrained(folder)
    shutil.copy(source / "qwen.tiktoken", folder)
    name = "transformer.h.0.attn.c_proj.qzeros"
    before, after = (load_file(path / "model.safetensors")[name] for path in (source, folder))
    said = json.loads((folder / "config.json").read_text())["quantization_config"]["checkpoint_format"]
    if said != "gptq" or (after - before != 0x11111111).any():
        raise ValueError(f"saved as {said}, and its zeros are not v2's: the habit is gone")
    return same(ours(folder), ours(source))


def refused(folder: Path) -> str:
    """GPTQModel's own answer."""
    try:
        by_gptqmodel(folder)
    except ValueError as error:
        return str(error)
    raise ValueError("it was loaded")


def same(one: Seen, other: Seen) -> str:
    """The figures, or ValueError where two programs disagree."""
    difference = max(float((a - b).abs().max()) for a, b in zip(one.logits, other.logits, strict=True))
    largest = max(float(logits.abs().max()) for logits in other.logits)
    positions = sum(len(logits) for logits in other.logits)
    found = f"{positions} positions, logits differ by at most {difference:.2g} of {largest:.1f}"
    if not difference <= TOLERANCE:
        raise ValueError(found)
    if one.answers != other.answers:
        raise ValueError(f"{found}, but the answers differ: {one.answers} and {other.answers}")
    return f"{found}, {len(one.answers)} answers equal"


def same_layers(folder: Path) -> str:
    """Every int4 layer of a folder in GPTQModel's plain layer and in ours: the decoded weights, bit by bit."""
    import torch
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    from bellevl.checkpoint import Checkpoint
    from bellevl.qlinear import Int4Linear

    layers = 0
    with Checkpoint.open(folder) as checkpoint, torch.inference_mode():
        quantization = checkpoint.quantization
        if quantization is None:
            raise ValueError("not an int4 folder")
        for name in [n.removesuffix(".qweight") for n in checkpoint.names() if n.endswith(".qweight")]:
            words = {part: checkpoint.read(f"{name}.{part}") for part in ("qweight", "qzeros", "scales", "g_idx")}
            inputs, outputs = words["g_idx"].numel(), words["scales"].shape[1]
            mine = Int4Linear(inputs, outputs, quantization)
            peer = TorchLinear(
                bits=4, group_size=quantization.group_size, sym=quantization.sym, desc_act=quantization.desc_act,
                in_features=inputs, out_features=outputs,
            )  # fmt: skip
            for part, tensor in words.items():
                setattr(mine, part, tensor)
                setattr(peer, part, tensor.clone())
            peer.scales = peer.scales.float()
            if quantization.zero_offset:
                peer.qzeros += 0x11111111  # what its loader does to v1
            peer.post_init()
            if not torch.equal(peer.dequantize_weight().T, mine.dequantize()):
                raise ValueError(f"{name} is decoded otherwise")
            layers += 1
    return f"{layers} layers, weights equal bit by bit"


def quantized(temporary: Path, name: str, settings: dict[str, Any]) -> Path:
    """The embedded model's float folder quantized by us."""
    from quantize import Recipe, quantize

    for _ in quantize(FLOAT, temporary / name, Recipe(**{"method": "rtn", "search_scales": False} | settings)):
        pass
    return temporary / name


def by_gptqmodel(folder: Path) -> Any:
    """GPTQModel's loader with its plain layer, which runs on any machine."""
    import torch
    from gptqmodel import BACKEND, GPTQModel

    import bellevl.hf  # noqa: F401 - registers the architecture

    return GPTQModel.load(str(folder), backend=BACKEND.GPTQ_TORCH, dtype=torch.float16, device="cpu").model


def by_transformers(folder: Path) -> Any:
    """transformers' loader with optimum's quantizer."""
    import torch
    from transformers import AutoModelForCausalLM, GPTQConfig

    import bellevl.hf  # noqa: F401 - registers the architecture

    settings = GPTQConfig(bits=4, backend="gptq_torch")
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=settings, dtype=torch.float16, device_map="cpu"
    )


def theirs(model: Any) -> Seen:
    """A model of transformers whose linears are GPTQModel's or bitsandbytes', asked."""
    import torch
    from bitsandbytes.nn import Linear4bit
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    blocks = model.transformer.h.named_modules()
    linears = [module for name, module in blocks if name.endswith(("c_attn", "c_proj", "w1", "w2"))]
    if not linears or not all(isinstance(module, BaseQuantLinear | Linear4bit) for module in linears):
        raise ValueError("not all linears are theirs")
    torch.nn.Module.float(model)  # both sides compute alike: what differs then is what was read
    for linear in linears:
        if isinstance(linear, Linear4bit):
            linear.compute_dtype = linear.weight.quant_state.dtype = torch.float32
            linear.support_avx512bf16_for_cpu = False  # where a processor has it, everything would be bfloat16
    logits, answers = [], []
    with torch.inference_mode():
        for case in cases():
            logits.append(model(case.ids, pixel_values=case.pixels).logits[0])
            said = model.generate(
                case.ids, pixel_values=case.pixels, do_sample=False, max_new_tokens=16, eos_token_id=end_id()
            )
            answers.append(said[0, case.ids.shape[1] :].tolist())
    return Seen(logits, answers)


def ours(folder: Path) -> Seen:
    """The folder in this package, without transformers."""
    import torch

    from bellevl import load_model
    from bellevl.generate import generate
    from bellevl.sampling import Sampling

    model = load_model(folder, dtype=torch.float32)
    logits, answers = [], []
    with torch.inference_mode():
        for case in cases():
            features = None if case.pixels is None else model.encode_images(case.pixels)
            logits.append(model(case.ids, features)[0])
            sampling = Sampling(max_tokens=16, greedy=True)
            said = generate(model, case.ids[0].tolist(), features, sampling=sampling, stop_ids={end_id()})
            answers.append([token.id for token in said])
    return Seen(logits, answers)


def cases() -> Iterator[Case]:
    """The questions as the family's models get them."""
    import torch
    from PIL import Image

    from bellevl import load_tokenizer
    from bellevl.config import read_config
    from bellevl.image import preprocess
    from bellevl.prompt import Conversation, Turn, build_prompt

    tokenizer, visual = load_tokenizer(INT4), read_config(INT4)[0].visual
    assert visual is not None
    for name, question in QUESTIONS:
        turns = (Turn(question, pictures=int(name is not None)),)
        prompt = build_prompt(tokenizer, Conversation(turns=turns), visual.n_queries, 1024)
        pixels = None
        if name is not None:
            with Image.open(ROOT / "examples" / name) as picture:
                pixels = preprocess(picture, visual.image_size)[None]
        yield Case(torch.tensor([prompt.ids]), pixels)


def end_id() -> int:
    """The token that ends an answer."""
    from bellevl import load_tokenizer

    return load_tokenizer(INT4).im_end_id


if __name__ == "__main__":
    sys.exit(main())
