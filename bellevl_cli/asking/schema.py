"""`--schema`: 'name, price float, count int' or a JSON schema, and how the model is told of it. Knows no token."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bellevl.errors import PromptError

from ..exits import UsageError
from ..screen.clean import clean_line, typed_text
from ..words import say

if TYPE_CHECKING:
    from bellevl.constraint import Constraint
    from bellevl.json_grammar import Automaton

    from ..running.session import Session

#: What a type may be called -> JSON's name for it.
TYPES = {
    **dict.fromkeys(("str", "string", "text", "文本", "文字"), "string"),
    **dict.fromkeys(("int", "integer", "整数"), "integer"),
    **dict.fromkeys(("float", "number", "小数", "数字"), "number"),
    **dict.fromkeys(("bool", "boolean", "是否"), "boolean"),
}

_COMMA = re.compile(r"[,，\n]")
_COLON = re.compile(r"\s*[:：]\s*")
_LONGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Form:
    """What `--schema` asks for, or nothing (`schema` None): told to the model and kept to."""

    schema: dict[str, Any] | None = None
    automaton: Automaton | None = None

    @classmethod
    def of(cls, text: str | None) -> Form:
        """Raises UsageError, and PromptError for a schema that is not kept to here."""
        if text is None:
            return cls()
        from bellevl.json_grammar import build_automaton

        schema = read_schema(text)
        return cls(schema, build_automaton(schema))

    @property
    def wanted(self) -> bool:
        return self.schema is not None

    def told(self, question: str) -> str:
        """The question with the form behind it."""
        return question if self.schema is None else f"{question}\n{instruction(self.schema)}"

    def constraint(self, session: Session) -> Constraint | None:
        """What answers of `session` keep to. Imports torch."""
        if self.automaton is None:
            return None
        from bellevl.constraint import Constraint

        return Constraint(self.automaton, session.chat.tokenizer, session.chat.stop_ids)


def read_schema(text: str) -> dict[str, Any]:
    """The JSON schema that `text` names, is or stands for. Raises UsageError, PromptError for one not kept to here."""
    text = typed_text(text).strip()
    if text.startswith("{"):
        return _parsed(text)
    if text.endswith(".json") or (len(text) < 256 and Path(text).is_file()):
        return _parsed(_file(Path(text).expanduser()))
    return short_form(text)


def short_form(text: str) -> dict[str, Any]:
    """'name, price float, colour red|green, tags str[]: what it shows' -> an object of these, in this order."""
    items = text.split("\n") if "\n" in text.strip() else _COMMA.split(text)
    properties: dict[str, Any] = {}
    for item in filter(None, (one.strip() for one in items)):
        words, *description = _COLON.split(item, maxsplit=1)
        name, _, kind = words.strip().partition(" ")
        if not name or name in properties:
            raise UsageError(say("schema.name", item=clean_line(item)))
        properties[name] = {**_type(kind.strip(), item), **({"description": description[0]} if description else {})}
    if not properties:
        raise UsageError(say("schema.empty"))
    return {"type": "object", "properties": properties, "required": list(properties)}


def _type(kind: str, item: str) -> dict[str, Any]:
    if kind.endswith("[]"):
        return {"type": "array", "items": _type(kind[:-2].strip(), item)}
    if "|" in kind:
        values = [value.strip() for value in kind.split("|")]
        if not all(values):
            raise UsageError(say("schema.type", kind=clean_line(kind), item=clean_line(item)))
        return {"enum": values}
    if kind and kind.lower() not in TYPES:
        raise UsageError(say("schema.type", kind=clean_line(kind), item=clean_line(item)))
    return {"type": TYPES.get(kind.lower(), "string")}


def instruction(schema: dict[str, Any]) -> str:
    """What the model is told: the form with a word for every value."""
    return say("schema.instruction", form=_form(schema))


def _form(schema: Any) -> str:
    """As in {"name": text, "price": number}."""
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    if "anyOf" in schema:
        return " | ".join(_form(one) for one in schema["anyOf"])
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        return " | ".join(_form({**schema, "type": one}) for one in kind)
    if kind == "object":
        inside = ", ".join(f"{json.dumps(n, ensure_ascii=False)}: {_value(s)}" for n, s in schema["properties"].items())
        return f"{{{inside}}}"
    if kind == "array":
        return f"[{_form(schema['items'])}, …]"
    words = {
        "string": say("schema.string"), "integer": say("schema.integer"), "number": say("schema.number"),
        "boolean": "true | false", "null": "null",
    }  # fmt: skip
    return words[kind]


def _value(schema: dict[str, Any]) -> str:
    told = schema.get("description")
    return f"{_form(schema)} ({told})" if isinstance(told, str) else _form(schema)


def _file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(_LONGEST_FILE)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PromptError("prompt.schema_file", path=path, reason=reason) from error


def _parsed(text: str) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        schema = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise PromptError("prompt.schema", reason=str(error)) from error
    if not isinstance(schema, dict):
        raise PromptError("prompt.schema", reason="a part of it is not an object")
    return schema
