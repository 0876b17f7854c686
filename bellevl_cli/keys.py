"""Everything config.toml may say, in one table, and what a value of it has to look like; the environment variables
that are no setting, in another. Reads no file.

A key is read with `settings.config_value(name)`. Its environment variable is its name in capitals: `max_tokens` is
BELLEVL_MAX_TOKENS. `bellevl config show` prints this table.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from bellevl.config import KV_FORMS
from bellevl.errors import ConfigError

#: The smallest window: a picture of 256 tokens and a question.
LEAST_CONTEXT = 512

#: Words for yes and no, in the environment and on the command line.
YES, NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class Key:
    """A setting. `default` None: where nothing is said, the model or the program decides. `help` is a message id."""

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    @property
    def variable(self) -> str:
        return f"BELLEVL_{self.name.upper()}"

    def checked(self, value: Any, where: str) -> Any:
        """`value` (from a TOML file) as it may be used. Raises ConfigError; `where` says who said it."""
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise self._wrong(value, where, KINDS[self.kind])
        if self.choices and value not in self.choices:
            *most, last = self.choices
            raise self._wrong(value, where, f"not {', '.join(most)} or {last}")
        if isinstance(value, (int, float)) and not self.low <= value <= self.high:
            raise self._wrong(value, where, self._range())
        return value

    def parsed(self, text: str, where: str) -> Any:
        """The value that was typed, as text. Raises ConfigError."""
        try:
            return self.checked(self._read(text.strip()), where)
        except ValueError as error:
            raise self._wrong(text, where, KINDS[self.kind]) from error

    def _read(self, text: str) -> Any:
        if self.kind is bool:
            if text.lower() not in YES | NO:
                raise ValueError(text)
            return text.lower() in YES
        return self.kind(text)

    def _range(self) -> str:
        if math.isinf(self.high):
            return f"less than {self.low:g}"
        return f"not between {self.low:g} and {self.high:g}"

    def _wrong(self, value: Any, where: str, reason: str) -> ConfigError:
        return ConfigError("config.value", where=where, name=self.name, value=repr(value), reason=reason)


#: What a value of the wrong type is not.
KINDS: dict[type, str] = {
    str: "not text in quotes",
    bool: "not true or false",
    int: "not a whole number",
    float: "not a number",
}

#: Where the vision encoder may be: with the language model, or on the CPU whatever the device is.
VISION_PLACES = ("auto", "cpu")

#: In the order of `bellevl config show`.
KEYS: tuple[Key, ...] = (
    Key("model", str, None, "config.model"),
    Key("models", str, None, "config.models"),
    Key("device", str, None, "config.device"),
    Key("kv", str, "float", "config.kv", choices=KV_FORMS),
    Key("vision", str, "auto", "config.vision", choices=VISION_PLACES),
    Key("endpoint", str, None, "config.endpoint"),
    Key("system", str, None, "config.system"),
    Key("question", str, None, "config.question"),
    Key("max_tokens", int, None, "config.max_tokens", low=1),
    Key("temperature", float, None, "config.temperature", low=0, high=100),
    Key("top_p", float, None, "config.top_p", low=0, high=1),
    Key("ctx", int, None, "config.ctx", low=LEAST_CONTEXT),
    Key("answer_lang", str, None, "config.answer_lang", choices=("zh", "en", "auto")),
    Key("script", str, None, "config.script", choices=("hans", "hant")),
    Key("format", str, "auto", "config.format", choices=("auto", "raw", "markdown")),
    Key("color", str, "auto", "config.color", choices=("auto", "always", "never")),
    Key("plain", bool, False, "config.plain"),
    Key("stats", bool, False, "config.stats"),
    Key("punctuation", str, "full", "config.punctuation", choices=("full", "keep")),
    Key("draw_boxes", bool, True, "config.draw_boxes"),
    Key("editing_mode", str, "emacs", "config.editing_mode", choices=("emacs", "vi")),
    Key("matte", str, "white", "config.matte"),
    Key("log", bool, True, "config.log"),
    Key("store_images", bool, False, "config.store_images"),
)

#: Environment variables that are no setting -> what they do, a message id.
VARIABLES: dict[str, str] = {
    "BELLEVL_LANG": "variable.lang",
    "BELLEVL_CONFIG": "variable.config",
    "BELLEVL_NO_LOG": "variable.no_log",
    "BELLEVL_NOHISTORY": "variable.no_history",
    "BELLEVL_TOKEN": "variable.token",
    "BELLEVL_SHOW": "variable.show",
    "BELLEVL_DEBUG": "variable.debug",
    "HF_ENDPOINT": "variable.endpoint",
    "HF_TOKEN": "variable.hub_token",
    "HF_HUB_OFFLINE": "variable.offline",
    "NO_COLOR": "variable.no_color",
    "FORCE_COLOR": "variable.force_color",
    "TERM": "variable.term",
}

BY_NAME = {key.name: key for key in KEYS}


def known(name: str) -> Key:
    """The key called `name`; a dash is as good as an underscore. Raises ConfigError."""
    key = BY_NAME.get(name.strip().lower().replace("-", "_"))
    if key is None:
        meant = near(name)
        raise ConfigError("config.unknown", name=name, near=f" ({meant}?)" if meant else "")
    return key


def near(name: str) -> str | None:
    """The key that was meant, if any looks like `name`."""
    found = difflib.get_close_matches(name.lower().replace("-", "_"), BY_NAME, n=1, cutoff=0.6)
    return found[0] if found else None
