"""Asking about a scene: `ask` draws different, unambiguous question-answer turns by the weights of a mix.

The question kinds stand in about_things.py and about_places.py, what may follow them in follow_ups.py. It
knows no token and no tensor.
"""

from __future__ import annotations

import numpy as np

from ..world.scene import Mix, Scene
from . import about_places, about_things  # noqa: F401  importing them enters their kinds in KINDS
from .follow_ups import follow_up
from .turns import KINDS, Draft, Rng, Turn, coin

__all__ = ["Turn", "ask"]
FOLLOW_UP_SHARE = 0.3


def _weights(mix: Mix) -> dict[str, float]:
    weights = {} if mix.only_listed else {name: weight for name, (weight, _) in KINDS.items()}
    weights.update(dict(mix.questions))
    return weights


def ask(scene: Scene, rng: Rng, mix: Mix | None = None, n: int = 6) -> tuple[Turn, ...]:
    """Draw up to `n` different turns about a scene, follow-ups right behind the turn they continue."""
    mix = mix or Mix()
    weights = _weights(mix)
    turns: list[Turn] = []
    while len(turns) < n and any(weights.values()):
        kinds = list(weights)
        chances = np.array([weights[name] for name in kinds])
        chosen = kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]
        draft = KINDS[chosen][1](scene, rng)
        if draft is None or any(draft.question == turn.question for turn in turns):
            weights[chosen] = 0.0
            continue
        weights[chosen] *= 0.3
        turns.append(draft.turn())
        turns += _follow_ups(scene, rng, draft, len(turns) - 1, n - len(turns))
    return tuple(turns)


def _follow_ups(scene: Scene, rng: Rng, draft: Draft, index: int, most: int) -> list[Turn]:
    """A chain of at most `most` (and two) turns that continue `draft`, which is turn `index`."""
    turns: list[Turn] = []
    while len(turns) < min(most, 2):
        target = draft.target
        colourless = target is not None and target.is_shape and target.colour_id < 0
        after = follow_up(scene, rng, draft) if coin(rng, 0.7 if colourless else FOLLOW_UP_SHARE) else None
        if after is None:
            break
        turns.append(after.turn(index + len(turns)))
        draft = after
    return turns
