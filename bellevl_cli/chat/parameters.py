"""What /set changes: how answers are drawn, and the system prompt. Knows where each value comes from, and no chat."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bellevl.errors import PromptError

from ..options import SamplingOptions
from ..words import reason

if TYPE_CHECKING:
    from bellevl.config import GenerationConfig
    from bellevl.sampling import Sampling

YES, NO = frozenset({"on", "yes", "true", "1", "开"}), frozenset({"off", "no", "false", "0", "关"})


class WrongValueError(Exception):
    """A value that a parameter cannot have; `reason` says so in the person's language."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Parameter:
    """`read` makes a value of what was typed and raises ValueError; `wrong` is what such text is not."""

    name: str
    aliases: tuple[str, ...]
    read: Callable[[str], Any]
    wrong: str


def _switch(text: str) -> bool:
    if text.lower() not in YES | NO:
        raise ValueError(text)
    return text.lower() in YES


#: In the order of /set.
PARAMETERS = (
    Parameter("temperature", ("温度", "temp"), float, "not a number"),
    Parameter("top_p", (), float, "not a number"),
    Parameter("top_k", (), int, "not a whole number"),
    Parameter("repetition_penalty", ("重复惩罚",), float, "not a number"),
    Parameter("max_tokens", ("长度",), int, "not a whole number"),
    Parameter("greedy", ("贪心",), _switch, "not true or false"),
    Parameter("seed", ("种子",), int, "not a whole number"),
)


def find_parameter(name: str) -> Parameter | None:
    """By name, in any spelling: max-tokens is max_tokens."""
    name = unicodedata.normalize("NFKC", name).lower().lstrip("-").replace("-", "_")
    return next((p for p in PARAMETERS if name == p.name or name in p.aliases), None)


class Parameters:
    """Values of this session over those it began with, those over the model's own."""

    def __init__(
        self, begun: SamplingOptions, generation: GenerationConfig, configured: dict[str, str] | None = None
    ) -> None:
        """`begun` are the command line's, `generation` the model's own with what is configured; `configured` says of
        these who did it."""
        self._begun = {name: value for name, value in begun.keywords().items() if value is not None}
        self._configured = configured or {}
        self._generation = generation
        self._session: dict[str, Any] = {}

    def keywords(self) -> dict[str, Any]:
        """As `Chat.stream` takes them."""
        return {**self._begun, **self._session}

    def drawn(self, new_seed: bool = False, seed: int | None = None) -> dict[str, Any]:
        """The keywords with a seed, so that the same answer can be had again. `new_seed`: another one than before."""
        keywords = self.keywords()
        if seed is not None:
            return {**keywords, "seed": seed}
        if self.settled().deterministic or ("seed" in keywords and not new_seed):
            return keywords
        return {**keywords, "seed": secrets.randbelow(2**31)}

    def settled(self) -> Sampling:
        """All values that count now."""
        from bellevl.sampling import Sampling

        return Sampling.of(self._generation, **self.keywords())

    def set(self, parameter: Parameter, text: str) -> Any:
        """The new value. Raises WrongValueError; nothing is changed then."""
        try:
            value = parameter.read(unicodedata.normalize("NFKC", text))
        except (ValueError, OverflowError) as error:
            raise WrongValueError(reason(parameter.wrong)) from error
        self.check(parameter, value)
        self._session[parameter.name] = value
        return value

    def check(self, parameter: Parameter, value: Any) -> None:
        """Raises WrongValueError for a value out of range."""
        from bellevl.sampling import Sampling

        try:
            Sampling.of(self._generation, **{**self.keywords(), parameter.name: value})
        except PromptError as error:
            raise WrongValueError(reason(str(error.facts["reason"]))) from error

    def reset(self, parameter: Parameter | None = None) -> None:
        """One value, or all, as the session began."""
        if parameter is None:
            self._session.clear()
        else:
            self._session.pop(parameter.name, None)

    def rows(self) -> list[tuple[str, Any, str]]:
        """(name, value, source) of each; the source is "default", "config", "environment", "option" or "session"."""
        settled = self.settled()
        return [(p.name, getattr(settled, p.name), self.source(p.name)) for p in PARAMETERS]

    def source(self, name: str) -> str:
        if name in self._session:
            return "session"
        return "option" if name in self._begun else self._configured.get(name, "default")


def configured_by() -> dict[str, str]:
    """ "config" or "environment" for each parameter that is set there."""
    from .. import keys
    from ..settings import sourced

    found = {p.name: sourced(p.name)[1] for p in PARAMETERS if p.name in keys.BY_NAME}
    return {name: source for name, source in found.items() if source != "default"}
