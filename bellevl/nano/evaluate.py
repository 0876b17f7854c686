"""What the nano model can do, kind of question by kind, beside what guessing would reach.

`scripts/evaluate_nano.py` prints the table. An answer counts when every
token of it is the likeliest one given the tokens before: exactly when greedy generation writes the whole answer. Boxes
are generated and count at an intersection over union of 0.5.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..generate import generate
from ..grounding import read_grounding
from ..image import preprocess
from ..model import BelleVL
from ..prompt import Conversation, build_prompt
from ..prompt import Turn as PromptTurn
from ..sampling import Sampling
from ..tokenizer import Tokenizer
from .questions import Turn, ask
from .rows import Row, RowBuilder, stack
from .train import picture_column
from .tune import ANSWER_ROOM, ROOM, conversations, hidden_states, row_mask
from .world import Mix, Split, draw_scene


@dataclass(frozen=True)
class Outcome:
    """One answer: whether all of it, and whether its deciding words were right; `decision` is the right decision."""

    kind: str
    right: bool
    decided: bool
    decision: str


@dataclass(frozen=True)
class Line:
    """One kind of question. `guess` is the share of the commonest decision among what its question leaves open."""

    kind: str
    answers: int
    right: float
    decided: float
    guess: float


def evaluate(
    model: BelleVL,
    tokenizer: Tokenizer,
    split: Split = "heldout",
    pictures: int = 400,
    seed: int = 9000,
    mix: Mix | None = None,
) -> list[Line]:
    """Draws `pictures` scenes of the split and asks everything that fits; one line a kind, best known first."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in _outcomes(model, tokenizer, split, pictures, seed, mix or Mix()):
        outcomes[outcome.kind].append(outcome)
    lines = [_line(kind, found) for kind, found in outcomes.items()]
    return sorted(lines, key=lambda line: line.kind)


def _line(kind: str, found: list[Outcome]) -> Line:
    return Line(
        kind=kind,
        answers=len(found),
        right=sum(o.right for o in found) / len(found),
        decided=sum(o.decided for o in found) / len(found),
        guess=guess_rate([o.decision for o in found], paired=kind == "relation"),
    )


#: Questions that name two answers leave only those two open.
PAIRS = (("左", "右"), ("上", "下"))


def guess_rate(decisions: list[str], paired: bool = False) -> float:
    """Share of right answers of somebody who always says the commonest one; `paired`: of the two that are named."""
    groups: dict[int, Counter[str]] = defaultdict(Counter)
    for decision in decisions:
        pair = next((i for i, pair in enumerate(PAIRS) if paired and decision[:1] in pair), -1)
        groups[pair][decision] += 1
    return sum(counter.most_common(1)[0][1] for counter in groups.values()) / len(decisions)


@torch.inference_mode()
def _outcomes(
    model: BelleVL, tokenizer: Tokenizer, split: Split, pictures: int, seed: int, mix: Mix, batch: int = 16
) -> Iterator[Outcome]:
    assert model.config.visual is not None
    builder = RowBuilder(tokenizer, model.config.visual.n_queries)
    rows: list[tuple[Row, list[Turn], Tensor]] = []
    for number in range(pictures):
        rng = np.random.default_rng((seed, number))
        scene = draw_scene(rng, split, mix=mix)
        talks = conversations(ask(scene, rng, mix, n=9), rng)
        row = builder.build(talks, ROOM, rng)
        turns = [turn for talk in builder.placed for turn in talk]
        rows.append((row, turns, preprocess(scene.picture, model.config.visual.image_size)))
        if len(rows) == batch or number == pictures - 1:
            yield from _score(model, tokenizer, rows)
            rows = []


def _score(model: BelleVL, tokenizer: Tokenizer, rows: list[tuple[Row, list[Turn], Tensor]]) -> Iterator[Outcome]:
    arrays = stack([row for row, _, _ in rows], ANSWER_ROOM)
    ids, positions, groups, sees = (torch.from_numpy(arrays[n]) for n in ("ids", "positions", "groups", "sees"))
    features = model.encode_images(torch.stack([pixels for _, _, pixels in rows]))
    slot = picture_column(tokenizer, features.shape[1])
    hidden = hidden_states(model, ids, positions, row_mask(groups, sees), features, slot)
    likeliest = model.lm_head(hidden).argmax(-1)
    for at, (row, turns, pixels) in enumerate(rows):
        for (begin, end, kind), turn in zip(row.answers, turns, strict=True):
            hit = likeliest[at, begin - 1 : end - 1] == ids[at, begin:end]
            deciding = torch.tensor(row.weights[begin:end]) >= 1
            if kind == "ground" and turn.follows is None:
                yield Outcome(kind, *_boxes_right(model, tokenizer, turn, pixels), turn.answer)
            else:
                yield Outcome(kind, bool(hit.all()), bool(hit[deciding].all()), decision_of(turn))


def decision_of(turn: Turn) -> str:
    """The deciding words of a turn's answer."""
    return "|".join(turn.answer[begin:end] for begin, end in turn.deciding)


def _boxes_right(model: BelleVL, tokenizer: Tokenizer, turn: Turn, pixels: Tensor) -> tuple[bool, bool]:
    """Generates the boxes; both values say whether each right box is met."""
    assert model.config.visual is not None
    conversation = Conversation((PromptTurn(turn.question, pictures=1),))
    prompt = build_prompt(tokenizer, conversation, model.config.visual.n_queries, 1024)
    sampling = Sampling(max_tokens=64, greedy=True)
    features = model.encode_images(pixels[None])
    tokens = [t.id for t in generate(model, prompt.ids, features, sampling=sampling, stop_ids={tokenizer.im_end_id})]
    found = read_grounding(tokenizer.decode(tokens)).boxes
    wanted = read_grounding(turn.answer).boxes
    met = len(found) == len(wanted) and all(overlap(a.norm, b.norm) >= 0.5 for a, b in zip(found, wanted, strict=True))
    return met, met


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    area = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return both / (area - both) if area > both else 0.0


def table(lines: list[Line]) -> str:
    """Markdown."""
    head = "| kind | answers | whole answer | decision | guessing |\n|---|---|---|---|---|\n"
    return head + "".join(
        f"| {line.kind} | {line.answers} | {line.right:.2f} | {line.decided:.2f} | {line.guess:.2f} |\n"
        for line in lines
    )
