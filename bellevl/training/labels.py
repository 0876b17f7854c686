"""Training sequences: the ids of a conversation and which of them are learned.

`label_conversation` takes messages as ids, so pictures may already be slots of pads (prompt.py);
`reference_example` takes the published fine-tuning data, text with `<img>path</img>` in it. Labels are the
ids themselves where they are learned and IGNORE elsewhere; the shift by one is the loss's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..prompt import DEFAULT_SYSTEM
from ..tokenizer import Tokenizer

IGNORE = -100


@dataclass(frozen=True)
class Example:
    """One sequence; `ids` and `labels` are of one length."""

    ids: list[int]
    labels: list[int]


def label_conversation(
    tokenizer: Tokenizer, messages: Sequence[tuple[str, Sequence[int]]], system: str = DEFAULT_SYSTEM
) -> Example:
    """ChatML of `messages`, (role, ids) with the roles "user" and "assistant" in the order of the dialogue.

    As in the published finetune.py, an answer is learned, and of every part its `<|im_start|>`, and its
    `<|im_end|>` with the line end after it; role names, system prompt and questions are not.
    """
    ids: list[int] = []
    labels: list[int] = []
    for role, content in [("system", tokenizer.encode(system)), *messages]:
        assert role in ("system", "user", "assistant"), role
        header = tokenizer.encode(f"{role}\n")
        end = [tokenizer.im_end_id, *tokenizer.encode("\n")]
        learned = list(content) if role == "assistant" else [IGNORE] * len(content)
        ids += [tokenizer.im_start_id, *header, *content, *end]
        labels += [tokenizer.im_start_id, *[IGNORE] * len(header), *learned, *end]
    return Example(ids, labels)


def pad_example(example: Example, length: int, pad_id: int) -> Example:
    """`example` cut or padded on the right to `length`; padding is not learned."""
    missing = max(length - len(example.ids), 0)
    return Example(
        ids=example.ids[:length] + [pad_id] * missing,
        labels=example.labels[:length] + [IGNORE] * missing,
    )


def reference_example(
    tokenizer: Tokenizer,
    conversations: Sequence[Mapping[str, str]],
    max_len: int,
    slot: int = 256,
    system: str = DEFAULT_SYSTEM,
) -> Example:
    """An entry of published fine-tuning data, {"from": "user" or "assistant", "value": text} each.

    The result is `max_len` long. A first message that is not the user's is dropped. Special tokens in the
    text are special: for data from a trusted place. Raises ValueError where an image is malformed.
    """
    if conversations and conversations[0]["from"] != "user":
        conversations = conversations[1:]
    messages = [(m["from"], tokenizer.encode_with_specials(m["value"], slot=slot)) for m in conversations]
    return pad_example(label_conversation(tokenizer, messages, system), max_len, tokenizer.eod_id)
