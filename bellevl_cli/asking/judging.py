"""Whether an answer is what a script asked for: its schema, --extract, --expect. Writes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..screen.clean import clean_line
from ..words import say
from . import extract
from .answering import Answer
from .wishes import OutputWishes


@dataclass(frozen=True)
class Verdict:
    """`text` goes to stdout (None: nothing in the answer could), `trouble` is what is wrong, `more` is for JSON."""

    text: str | None
    trouble: str | None
    more: dict[str, Any]


def judge(given: Answer, has_schema: bool, wishes: OutputWishes) -> Verdict:
    """The text that is wanted of an answer. A schema cut off by the length, nothing to extract, another answer than
    the one expected: these are trouble."""
    text: str | None = given.text
    trouble: str | None = None
    more: dict[str, Any] = {}
    if has_schema:
        whole = given.piece.finish_reason == "stop"  # the grammar lets an answer stop where it is whole
        more["data"] = json.loads(given.raw) if whole else None
        if not whole:
            text, trouble = None, say("schema.unmet", tokens=given.piece.tokens)
    if wishes.extract is not None:
        text = None if text is None else extract.EXTRACTORS[wishes.extract](text)
        more["extracted"] = text
        if text is None:
            trouble = trouble or say("extract.unmet", what=wishes.extract)
    if wishes.expect is not None:
        more["expected"] = text is not None and extract.meets(text, wishes.expect)
        if not more["expected"]:
            trouble = trouble or say("expect.unmet", expected=clean_line(wishes.expect))
    return Verdict(text, trouble, more)
