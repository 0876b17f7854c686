"""How tokens are to be drawn, checked. Knows no tensor: a wrong setting is told before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from .config import GenerationConfig
from .errors import PromptError

#: Below this temperature logits overflow float32, and only the likeliest token is left of them anyway.
COLDEST = 1e-6


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `top_k` 0 and `top_p` 1 keep everything; `greedy` takes the likeliest."""

    max_tokens: int = 512
    greedy: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    @classmethod
    def of(cls, defaults: GenerationConfig, **settings: object) -> Sampling:
        """The checkpoint's defaults, overridden by `settings` that are not None.

        Raises PromptError for a value out of range, TypeError for an unknown name.
        """
        base = cls(
            max_tokens=defaults.max_new_tokens,
            greedy=not defaults.do_sample,
            temperature=defaults.temperature,
            top_k=defaults.top_k,
            top_p=defaults.top_p,
            repetition_penalty=defaults.repetition_penalty,
        )
        unknown = set(settings) - {field.name for field in fields(cls)}
        if unknown:
            raise TypeError(f"unknown sampling settings: {', '.join(sorted(unknown))}")
        sampling = replace(base, **{name: value for name, value in settings.items() if value is not None})  # type: ignore[arg-type]
        sampling.check()
        return sampling

    def check(self) -> None:
        """Raises PromptError for a value out of range."""
        _require("max_tokens", self.max_tokens, self.max_tokens >= 1, "less than 1")
        _require("temperature", self.temperature, 0 <= self.temperature <= 100, "not between 0 and 100")
        _require("top_k", self.top_k, self.top_k >= 0, "less than 0")
        _require("top_p", self.top_p, 0 <= self.top_p <= 1, "not between 0 and 1")
        penalty = self.repetition_penalty
        _require("repetition_penalty", penalty, 0 < penalty <= 100, "not above 0 and at most 100")
        seed = self.seed
        _require("seed", seed, seed is None or -(2**63) <= seed < 2**64, "not a whole number from -2^63 to 2^64 - 1")

    @property
    def deterministic(self) -> bool:
        """The likeliest token is taken: nothing is drawn."""
        return self.greedy or self.temperature < COLDEST or self.top_k == 1


def _require(name: str, value: object, ok: bool, reason: str) -> None:
    if not ok:
        raise PromptError("prompt.setting", name=name, value=value, reason=reason)
