"""A conversation to the ids of a prompt: ChatML, picture slots, and what is dropped when the window is full.

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    Picture 1: <img>a slot of pads</img>
    What is this?<|im_end|>
    <|im_start|>assistant

Text of a person is encoded without special tokens; a picture is a slot of pads that the model fills with
features, and no path is ever in it. Of an answer only the grounding tags (`<ref>`, `<box>`, `<quad>`) are
special again. Knows no pixels and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import PromptError
from .tokenizer import GROUNDING_TAGS, IMAGE_TAGS, Tokenizer

DEFAULT_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class Turn:
    """One question with the pictures shown with it, and its answer (None: not answered)."""

    question: str
    answer: str | None = None
    pictures: int = 0


@dataclass(frozen=True)
class Conversation:
    """Turns, oldest first. The last one is to be answered; an answer it already has is gone on with."""

    turns: tuple[Turn, ...]
    system: str = DEFAULT_SYSTEM


@dataclass(frozen=True)
class Prompt:
    """`ids` to prefill; `forgotten` are the turns that had to be left out (indices in the conversation).

    `pictures` counts the slots in `ids`: those of the turns that were kept, in their order.
    """

    ids: list[int]
    forgotten: tuple[int, ...] = ()
    pictures: int = 0


@dataclass(frozen=True)
class Parts:
    """Tokens of each part of a conversation, as they stand in a prompt. A turn's count includes its pictures'."""

    system: int
    turns: tuple[int, ...]
    pictures: tuple[int, ...]
    pinned: int | None

    @property
    def total(self) -> int:
        return self.system + sum(self.turns)

    def kept(self, window: int, question: int = 0) -> tuple[int, ...]:
        """The turns that stay beside the next question of `question` tokens (indices)."""
        room = window - self.system - question - (0 if self.pinned is None else self.turns[self.pinned])
        return fit_window(self.turns, self.pinned, room)

    def taken(self, window: int) -> int:
        """Tokens that the next question finds before it."""
        return self.system + sum(self.turns[at] for at in self.kept(window))


class PictureSlot:
    """Marks the place of a picture in the content of a question."""


PICTURE = PictureSlot()
Content = Sequence[str | PictureSlot]


def build_prompt(tokenizer: Tokenizer, conversation: Conversation, n_queries: int, window: int) -> Prompt:
    """The prompt for the last turn's answer, at most `window` ids long; a picture takes `n_queries` + 2.

    The newest turn with a picture stays; of the others the oldest go first, and those that went are reported.
    Raises PromptError when the question does not fit beside the picture's turn.
    """
    assert conversation.turns, "a conversation without a question"
    *history, last = conversation.turns
    numbers = _first_numbers(conversation.turns)
    head = _part(tokenizer, "system", tokenizer.encode(conversation.system))
    turns = [_turn_ids(tokenizer, t, n, n_queries) for t, n in zip(history, numbers[:-1], strict=True)]
    end = _question_ids(tokenizer, last, numbers[-1], n_queries)
    pinned = _pinned(conversation.turns)
    room = window - len(head) - len(end) - (0 if pinned is None else len(turns[pinned]))
    if room < 0:
        tokens = len(tokenizer.encode(last.question))
        raise PromptError("prompt.too_long", tokens=tokens, room=max(tokens + room, 0))
    kept = fit_window([len(t) for t in turns], pinned, room)
    return Prompt(
        ids=[*head, *(i for at in kept for i in turns[at]), *end],
        forgotten=tuple(at for at in range(len(history)) if at not in kept),
        pictures=sum(history[at].pictures for at in kept) + last.pictures,
    )


def count_parts(tokenizer: Tokenizer, conversation: Conversation, n_queries: int) -> Parts:
    """What each part of `conversation`, whose turns are all answered or left alone, takes in the next prompt."""
    turns = conversation.turns
    numbers = _first_numbers(turns)
    return Parts(
        system=len(_part(tokenizer, "system", tokenizer.encode(conversation.system))),
        turns=tuple(len(_turn_ids(tokenizer, t, n, n_queries)) for t, n in zip(turns, numbers, strict=True)),
        pictures=tuple(turn.pictures * (n_queries + 2) for turn in turns),
        pinned=_newest_picture(turns),
    )


def fit_window(lengths: Sequence[int], pinned: int | None, room: int) -> tuple[int, ...]:
    """Which turns of `lengths` ids stay: the pinned one, and beside it as many of the newest as fit `room`.

    The first that does not fit ends it: nothing older stays either, for a dialogue with a hole misleads.
    """
    kept = [] if pinned is None else [pinned]
    for at in reversed(range(len(lengths))):
        if at == pinned:
            continue
        room -= lengths[at]
        if room < 0:
            break
        kept.append(at)
    return tuple(sorted(kept))


def fit_reference_window(lengths: Sequence[int], system: int, window: int) -> int:
    """Index of the oldest turn that the published code keeps (len(lengths): none).

    Its rule (qwen_generation_utils.py): newest first, while system + turns stay below the window. The new
    question is not counted, and a picture's turn goes like any other.
    """
    total = system
    for at in reversed(range(len(lengths))):
        total += lengths[at]
        if total >= window:
            return at + 1
    return 0


def build_reference_prompt(
    tokenizer: Tokenizer,
    query: str,
    history: Sequence[tuple[str, str | None]] = (),
    system: str = DEFAULT_SYSTEM,
    window: int = 6144,
    slot: int = 256,
) -> list[int]:
    """The ids that the published code makes of text written by a program, `<img>path</img>` and all.

    For comparisons and converted data; never give it what a person typed.
    Raises ValueError where an image in the text is malformed.
    """

    def encode(text: str) -> list[int]:
        return tokenizer.encode_with_specials(text, IMAGE_TAGS, slot)

    head = _part(tokenizer, "system", encode(system))
    turns = [_exchange(tokenizer, encode(q), None if a is None else encode(a)) for q, a in history]
    oldest = fit_reference_window([len(t) for t in turns], len(head), window)
    end = [*_line(tokenizer), *_part(tokenizer, "user", encode(query)), *_answer_start(tokenizer)]
    return [*head, *(i for turn in turns[oldest:] for i in turn), *end]


def question_content(turn: Turn, first_number: int = 1) -> Content:
    """What a question is made of: each picture announced by its number, then the text as it was typed."""
    content: list[str | PictureSlot] = []
    before = ""
    for number in range(first_number, first_number + turn.pictures):
        content += [f"{before}Picture {number}: ", PICTURE]
        before = "\n"
    return [*content, before + turn.question]


def encode_content(tokenizer: Tokenizer, content: Content, n_queries: int) -> list[int]:
    """Ids of text and picture slots; no special token comes out of the text."""
    slot = [tokenizer.image_start_id, *[tokenizer.image_pad_id] * n_queries, tokenizer.image_end_id]
    ids: list[int] = []
    for piece in content:
        ids += tokenizer.encode(piece) if isinstance(piece, str) else slot
    return ids


def encode_answer(tokenizer: Tokenizer, answer: str) -> list[int]:
    """Ids of a model's answer: the tags of its boxes are special tokens, as when the model wrote them."""
    return tokenizer.encode_with_specials(answer, GROUNDING_TAGS)


def answer_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of generated ids up to the first stop token, boxes as tags, without white space around it."""
    stops = {tokenizer.eod_id, tokenizer.im_start_id, tokenizer.im_end_id}
    end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
    return tokenizer.decode(ids[:end], skip_specials=True, keep_grounding=True, errors="ignore").strip()


def _turn_ids(tokenizer: Tokenizer, turn: Turn, number: int, n_queries: int) -> list[int]:
    question = encode_content(tokenizer, question_content(turn, number), n_queries)
    answer = None if turn.answer is None else encode_answer(tokenizer, turn.answer)
    return _exchange(tokenizer, question, answer)


def _question_ids(tokenizer: Tokenizer, turn: Turn, number: int, n_queries: int) -> list[int]:
    question = encode_content(tokenizer, question_content(turn, number), n_queries)
    begun = encode_answer(tokenizer, turn.answer or "")
    return [*_line(tokenizer), *_part(tokenizer, "user", question), *_answer_start(tokenizer), *begun]


def _exchange(tokenizer: Tokenizer, question: list[int], answer: list[int] | None) -> list[int]:
    """A turn of the history. Without an answer the published form is an empty line."""
    line = _line(tokenizer)
    reply = [] if answer is None else _part(tokenizer, "assistant", answer)
    return [*line, *_part(tokenizer, "user", question), *line, *reply]


def _part(tokenizer: Tokenizer, role: str, content: list[int]) -> list[int]:
    return [tokenizer.im_start_id, *tokenizer.encode(f"{role}\n"), *content, tokenizer.im_end_id]


def _answer_start(tokenizer: Tokenizer) -> list[int]:
    return [*_line(tokenizer), tokenizer.im_start_id, *tokenizer.encode("assistant\n")]


def _line(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode("\n")


def _first_numbers(turns: Sequence[Turn]) -> list[int]:
    """The number of each turn's first picture: pictures are counted through the whole conversation."""
    return [1 + sum(t.pictures for t in turns[:at]) for at in range(len(turns))]


def _pinned(turns: Sequence[Turn]) -> int | None:
    """The newest turn of the history with a picture; none if the question shows its own."""
    return None if turns[-1].pictures else _newest_picture(turns[:-1])


def _newest_picture(turns: Sequence[Turn]) -> int | None:
    return next((at for at in reversed(range(len(turns))) if turns[at].pictures), None)
