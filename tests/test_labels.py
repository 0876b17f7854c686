"""Training sequences against every golden case of finetune.py."""

from __future__ import annotations

from typing import Any

import pytest
from vocabulary import GOLDEN, real_tokenizer

from bellevl.prompt import Conversation, Turn, build_prompt, encode_content, question_content
from bellevl.tokenizer import Tokenizer
from bellevl.training.labels import IGNORE, label_conversation, pad_example, reference_example

CASES = GOLDEN["finetune"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return real_tokenizer()


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_golden_finetune(tokenizer: Tokenizer, case: dict[str, Any]) -> None:
    """Ids, labels and length without padding are those of the published finetune.py."""
    example = reference_example(tokenizer, case["conversations"], case["max_len"])
    assert example.ids == case["input_ids"]
    assert example.labels == case["labels"]
    assert sum(token != tokenizer.eod_id for token in example.ids) == case["attention_mask_sum"]


def test_labels_are_ids_or_ignored(tokenizer: Tokenizer) -> None:
    """What is learned is the id at its place; the question and the picture's slot never are."""
    turn = Turn("这是什么？", pictures=1)
    question = encode_content(tokenizer, question_content(turn), n_queries=9)
    answer = tokenizer.encode("一只狗。")
    example = label_conversation(tokenizer, [("user", question), ("assistant", answer)])
    assert len(example.ids) == len(example.labels)
    assert all(label in (IGNORE, token) for token, label in zip(example.ids, example.labels, strict=True))
    learned = [label for label in example.labels if label != IGNORE]
    line = tokenizer.encode("\n")
    part = [tokenizer.im_start_id, tokenizer.im_end_id, *line]
    assert learned == [*part, *part, tokenizer.im_start_id, *answer, tokenizer.im_end_id, *line]


def test_training_and_asking_have_one_form(tokenizer: Tokenizer) -> None:
    """The prompt of a question is the beginning of the sequence that the model was trained on."""
    turn = Turn("图中有几个圆？", pictures=1)
    question = encode_content(tokenizer, question_content(turn), n_queries=9)
    example = label_conversation(tokenizer, [("user", question), ("assistant", tokenizer.encode("两个"))])
    prompt = build_prompt(tokenizer, Conversation((turn,)), n_queries=9, window=999)
    assert example.ids[: len(prompt.ids)] == prompt.ids


@pytest.mark.parametrize("length", [0, 5, 12, 40])
def test_padding_and_cutting(tokenizer: Tokenizer, length: int) -> None:
    """A sequence is cut or filled to the length asked for, and filling is not learned."""
    whole = label_conversation(tokenizer, [("user", [64])])
    example = pad_example(whole, length, pad_id=7)
    size = min(length, len(whole.ids))
    assert len(example.ids) == len(example.labels) == length
    assert example.ids[:size] == whole.ids[:size] and example.labels[:size] == whole.labels[:size]
    assert set(example.ids[size:]) <= {7} and set(example.labels[size:]) <= {IGNORE}


def test_empty_conversation(tokenizer: Tokenizer) -> None:
    """An entry without messages is the system prompt alone."""
    example = reference_example(tokenizer, [], max_len=20)
    assert example.ids[:11] == label_conversation(tokenizer, []).ids
    assert example.ids[11:] == [tokenizer.eod_id] * 9


@pytest.mark.parametrize("value", ["<img>unclosed", f"<img>{'p' * 300}</img>", "<img>a<box>b</img>"])
def test_malformed_image_in_data(tokenizer: Tokenizer, value: str) -> None:
    """Data with a broken image tag is refused, as by the published code."""
    with pytest.raises(ValueError, match="<img>"):
        reference_example(tokenizer, [{"from": "user", "value": value}], max_len=600)
