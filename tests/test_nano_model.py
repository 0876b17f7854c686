"""The embedded model: it answers what its card says, from its weights, and is what the pipeline makes of the float."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bellevl
from bellevl import Chat, nano, packing
from bellevl.nano.evaluate import Line, evaluate
from bellevl.nano.world import Mix
from bellevl.qlinear import Int4Linear
from quantize.pipeline import quantize
from quantize.recipe import Recipe
from quantize.record.receipt import read_receipt

ROOT = Path(__file__).parents[1]
FLOAT = ROOT / "models" / "nano"
EXAMPLES = ROOT / "examples"

#: Deciding words right on held-out pictures, at least, on the 400 pictures of accuracy.json.
REACHED = {
    "scene": 0.95, "name": 0.95, "colour": 0.9, "shape": 0.9, "position": 0.9, "relation": 0.9,
    "exist_yn": 0.9, "exist_zh": 0.85, "exist_en": 0.9,
}  # fmt: skip

#: Fewer pictures scatter more: two standard errors of 60 answers at nine of ten right.
SCATTER = 0.08

#: A mix in which every kind above comes up often.
ASKED = Mix(
    spatial=0.45, count=0.05, single=0.25, scene=0.25, text=0.0,
    questions=tuple((kind, 1.0) for kind in REACHED), only_listed=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def lines() -> dict[str, Line]:
    """The int4 model on 100 held-out pictures, kind by kind."""
    model, tokenizer = bellevl.load_model(nano.folder()), bellevl.load_tokenizer(nano.folder())
    return {line.kind: line for line in evaluate(model, tokenizer, "heldout", 100, seed=77, mix=ASKED)}


@pytest.mark.parametrize("kind", REACHED)
def test_it_can_do_what_its_card_says(lines: dict[str, Line], kind: str) -> None:
    """On fresh held-out pictures the int4 model decides this kind of question well, and far better than by guessing."""
    line = lines[kind]
    assert line.answers >= 20
    assert line.decided >= REACHED[kind] - SCATTER
    assert line.decided > line.guess + 0.15


def test_its_card_tells_the_measured_truth() -> None:
    """accuracy.json, which the card's tables come from, has every kind in both forms, and the card shows them."""
    figures = json.loads((nano.folder() / "accuracy.json").read_text(encoding="utf-8"))
    card = (nano.folder() / "README.md").read_text(encoding="utf-8")
    for form in ("float", "int4"):
        found = {line["kind"]: line for line in figures[form]["heldout"]}
        assert all(found[kind]["decided"] >= least for kind, least in REACHED.items())
        assert all(f"{line['decided']:.2f}" in card for line in found.values())


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(bellevl.load_model(nano.folder()), bellevl.load_tokenizer(nano.folder()))


def answer(chat: Chat, question: str, picture: str | None = None) -> str:
    return "".join(chat.ask(question, EXAMPLES / picture if picture else None, greedy=True))


def test_it_sees_the_examples(chat: Chat) -> None:
    """Asked about example pictures it names what is drawn on them: the same question, three pictures, three answers."""
    assert "猫" in answer(chat, "这是什么？", "cat.png")
    meadow = answer(chat, "描述图片", "草地.png")
    assert "草地" in meadow
    assert "草地" not in answer(chat, "背景是什么？", "海面.png")


def test_it_speaks_chinese_and_english(chat: Chat) -> None:
    """A Chinese question is answered in Chinese, an English one in English, both in whole sentences or yes and no."""
    chinese = answer(chat, "描述图片", "shapes.png")
    assert chinese.endswith("。") and not any(c.isascii() and c.isalpha() for c in chinese)
    assert answer(chat, "Is there a cat in this image? Please answer yes or no.", "cat.png") in ("Yes", "Yes.")


def test_a_follow_up_needs_the_dialogue(chat: Chat) -> None:
    """ "And an apple?" is answered about the picture by what was asked before it; without the question before, not."""
    assert answer(chat, "图里有猫吗？", "cat.png").startswith("有")
    assert answer(chat, "苹果呢？").startswith("没有")
    assert len(chat.turns) == 2


def test_small_talk_needs_no_picture(chat: Chat) -> None:
    """Without a picture it says what it is, in whole Chinese sentences."""
    chat.picture = None
    chat.clear()
    assert "bellevl" in answer(chat, "你是谁？") and answer(chat, "你好").endswith(("。", "！", "？"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float original quantized here with the default recipe."""
    target = tmp_path_factory.mktemp("made") / "int4"
    for _ in quantize(FLOAT, target, Recipe()):
        pass
    return target


def test_the_shipped_model_is_what_the_pipeline_makes(made: Path) -> None:
    """On a processor like the one that made it, quantizing the float original changes at most 0.1 % of the shipped
    codes; on any, each layer loses what the shipped one lost, and what is not quantized is equal."""
    shipped, here = load_file(nano.folder() / "model.safetensors"), load_file(made / "model.safetensors")
    assert shipped.keys() == here.keys()
    differing = total = 0
    for name, tensor in shipped.items():
        if name.endswith(".qweight"):
            a, b = packing.unpack_rows(tensor), packing.unpack_rows(here[name])
            differing, total = differing + int((a != b).sum()), total + a.numel()
        elif not name.endswith((".scales", ".qzeros")):
            assert torch.equal(tensor, here[name]), name
    assert total > 4_000_000
    shipped_receipt, receipt = read_receipt(nano.folder()), read_receipt(made)
    assert shipped_receipt is not None and receipt is not None
    machines = [r["machine"].get(key) for key in ("processor", "instructions") for r in (shipped_receipt, receipt)]
    if machines[0] == machines[1] and machines[2] == machines[3]:
        assert differing <= 0.001 * total
    # Elsewhere the last digits of a sum are others; one weight that rounds the other way then moves all after it.
    lost = zip(shipped_receipt["layers"], receipt["layers"], strict=True)
    changes = [here["error"] / there["error"] - 1 for there, here in lost]
    assert max(map(abs, changes)) < 0.03 and abs(sum(changes) / len(changes)) < 0.01


def test_int4_answers_nearly_as_the_float_original(lines: dict[str, Line]) -> None:
    """Over all kinds with 20 answers, int4 loses less than three points of right decisions against the float."""
    model, tokenizer = bellevl.load_model(FLOAT), bellevl.load_tokenizer(FLOAT)
    float_lines = {line.kind: line for line in evaluate(model, tokenizer, "heldout", 100, seed=77, mix=ASKED)}
    kinds = [kind for kind, line in lines.items() if line.answers >= 20]
    lost = [float_lines[kind].decided - lines[kind].decided for kind in kinds]
    assert sum(lost) / len(lost) < 0.03


def test_everything_quantized_is_int4() -> None:
    """All linears of the language model's blocks are int4 layers, the rest float; the package stays under 25 MB."""
    model = bellevl.load_model(nano.folder())
    assert sum(isinstance(m, Int4Linear) for m in model.modules()) == 5 * model.config.num_hidden_layers
    package = Path(bellevl.__file__).parent
    assert sum(f.stat().st_size for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts) < 25e6
