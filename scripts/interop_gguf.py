"""The GGUF file that `bellevl convert gguf` writes, run by llama.cpp: `make interop-gguf` builds that and runs this.

    python scripts/interop_gguf.py [--model INT4] [--record]

Logits of every position of a few text questions, and greedy answers, beside this package's own (float32). llama.cpp
rounds the activations of a Q4_0 layer to int8, which no file can change; so the file is also written with the same
weights in float32, where nothing is rounded: that is what says that the weights are the same. `--record` keeps the
table in benchmarks/results.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import llama_cpp
import numpy as np
import torch
from torch import Tensor

from bellevl import load_model, load_tokenizer, packing
from bellevl.checkpoint import Checkpoint
from bellevl.generate import generate
from bellevl.prompt import Conversation, Turn, build_prompt
from bellevl.sampling import Sampling
from quantize.storage import gguf_file

ROOT = Path(__file__).parents[1]
QUESTIONS = ("你好", "What is in the picture?", "猫和狗有什么不同？请说说它们的颜色。", "一共有几个东西？")
NEW_TOKENS = 24

#: Largest difference of logits (they reach 20) where weights are the same: the float16 head rounds what it multiplies.
EXACT = 1e-2


@dataclass(frozen=True)
class Run:
    """What a program made of the questions: logits [T, V] and greedy answers of each."""

    logits: list[Tensor]
    answers: list[list[int]]


@dataclass(frozen=True)
class Distance:
    """From our run to another one, over all positions."""

    positions: int
    largest: float
    rms: float
    kl_mean: float
    top1_agreement: float
    answers_equal: int
    answers: int


def main() -> int:
    """The command; 1 when weights or answers differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "bellevl" / "nano" / "model", metavar="INT4")
    parser.add_argument("--record", action="store_true", help="keep the table in benchmarks/results")
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.model)
    prompts = [prompt_ids(tokenizer, question) for question in QUESTIONS]
    mine = ours(options.model, prompts, tokenizer.im_end_id)
    with tempfile.TemporaryDirectory() as temporary:
        plain, wide = Path(temporary) / "q4_0.gguf", Path(temporary) / "float32.gguf"
        gguf_file.write_gguf(options.model, plain)
        with mock.patch.object(gguf_file, "_layer", expanded):
            gguf_file.write_gguf(options.model, wide)
        found = {
            "Q4_0": distance(mine, by_llama_cpp(plain, prompts, tokenizer.im_end_id)),
            "the same weights in float32": distance(mine, by_llama_cpp(wide, prompts, tokenizer.im_end_id)),
        }
        same_ids = tokenized_alike(plain, tokenizer)
    text = table(found, options.model, same_ids)
    print(text)
    if options.record:
        record(found, text)
    exact = found["the same weights in float32"].largest <= EXACT
    answered = all(one.answers_equal == one.answers for one in found.values())
    return int(not (exact and answered and same_ids))


def prompt_ids(tokenizer: Any, question: str) -> list[int]:
    """A text question in ChatML."""
    return build_prompt(tokenizer, Conversation(turns=(Turn(question),)), 0, 1024).ids


def ours(folder: Path, prompts: list[list[int]], end: int) -> Run:
    """The int4 folder in this package, in float32."""
    model = load_model(folder, dtype=torch.float32)
    sampling = Sampling(max_tokens=NEW_TOKENS, greedy=True)
    with torch.inference_mode():
        logits = [model(torch.tensor([ids]))[0] for ids in prompts]
        answers = [[t.id for t in generate(model, ids, sampling=sampling, stop_ids={end})] for ids in prompts]
    return Run(logits, answers)


def by_llama_cpp(path: Path, prompts: list[list[int]], end: int) -> Run:
    """The file in llama.cpp, keys and values in float32."""
    model = llama_cpp.Llama(str(path), n_ctx=512, n_batch=512, logits_all=True, type_k=0, type_v=0, verbose=False)
    logits, answers = [], []
    for ids in prompts:
        model.reset()
        model.eval(ids)
        logits.append(torch.from_numpy(np.array(model.scores[: len(ids)])).float())
        answers.append(list(greedy(model, ids, end)))
    model.close()
    return Run(logits, answers)


def greedy(model: llama_cpp.Llama, ids: list[int], end: int) -> Iterator[int]:
    """Tokens of the answer, its end too."""
    model.reset()
    for count, token in enumerate(model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0), 1):
        yield token
        if token == end or count == NEW_TOKENS:
            return


def expanded(checkpoint: Checkpoint, name: str, source: str, inputs: int, outputs: int) -> gguf_file._Tensor:
    """A layer with the weights that its words mean, in float32 (in float16 they would be rounded)."""

    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        codes, scales = packing.unpack_rows(checkpoint.read(f"{source}.qweight")), checkpoint.read(f"{source}.scales")
        weight = packing.dequantize(codes, scales.float(), torch.full(scales.shape, 8, dtype=torch.uint8))
        yield weight.T.contiguous().numpy()

    return gguf_file._Tensor(name, gguf_file.F32, (outputs, inputs), pieces)


def tokenized_alike(path: Path, tokenizer: Any) -> bool:
    """Whether llama.cpp's vocabulary makes the same ids of the questions."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    texts = [*QUESTIONS, (ROOT / "README.md").read_text(encoding="utf-8")[:2000]]
    found = [model.tokenize(text.encode(), add_bos=False) == tokenizer.encode(text) for text in texts]
    model.close()
    return all(found)


def distance(mine: Run, other: Run) -> Distance:
    """`kl_mean` is KL(ours || other)."""
    a, b = torch.cat(mine.logits), torch.cat(other.logits)
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    pairs = zip(mine.answers, other.answers, strict=True)
    return Distance(
        positions=len(a),
        largest=float((a - b).abs().max()),
        rms=float((a - b).square().mean().sqrt()),
        kl_mean=float((p.exp() * (p - q)).sum(-1).mean()),
        top1_agreement=float((a.argmax(-1) == b.argmax(-1)).float().mean()),
        answers_equal=sum(one == two for one, two in pairs),
        answers=len(mine.answers),
    )


def table(found: dict[str, Distance], folder: Path, same_ids: bool) -> str:
    """As a page."""
    name = "the embedded model" if folder.parent.name == "nano" else folder.name
    lines = [
        "# The GGUF file in llama.cpp",
        "",
        f"`make interop-gguf`: the int4 form of {name} in llama-cpp-python {version('llama-cpp-python')}, beside this "
        f"package in float32; {len(QUESTIONS)} text questions. Questions and a page of text give "
        f"{'the same' if same_ids else 'OTHER'} ids.",
        "",
        "| layers in the file | positions | largest difference of logits | rms | KL | same best token | same answer |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one.positions} | {one.largest:.2g} | {one.rms:.2g} | {one.kl_mean:.2g} "
            f"| {one.top1_agreement:.1%} | {one.answers_equal} of {one.answers} |"
        )
    return "\n".join(
        [*lines, "", "llama.cpp rounds what Q4_0 layers multiply to int8, and what the head does to float16."]
    )


def record(found: dict[str, Distance], text: str) -> None:
    """Keeps the table and its figures."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from _machine import describe_machine, machine_line, save_result

    machine = describe_machine()
    figures = {name: asdict(one) for name, one in found.items()}
    page = f"{text}\n\nMachine: {machine_line(machine)}.\n"
    save_result("interop_gguf", {"machine": machine, "found": figures}, page)


if __name__ == "__main__":
    sys.exit(main())
