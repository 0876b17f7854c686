"""Every message in Chinese and English, by id. Which language is a person's environment's business.

`TEXTS` are the terminal's own messages, a file a room; bellevl's errors are English in `bellevl.errors.MESSAGES` and
Chinese in errors.py. JSON keys and exit codes are the same in both languages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from bellevl.errors import MESSAGES, BellevlError, one_line

from ..screen.clean import typed_text
from . import (
    asking,
    chat,
    convert,
    ends,
    evaluate,
    facts,
    help,
    logs,
    models,
    pictures,
    quantize,
    screen,
    scripts,
    serve,
    settings,
    slash,
)
from .errors import ERRORS, REASONS

#: Looked at in this order; the first that says anything decides.
VARIABLES = ("BELLEVL_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")

#: Settings whose option is called otherwise or that a person knows by their option.
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in ("max_tokens", "temperature", "top_p", "seed")}
OPTIONS |= {"group_size": "--group-size", "damp_percent": "--damp", "nsamples": "--samples", "seqlen": "--seqlen"}
OPTIONS |= {"budget": "--budget", "picture_weight": "--picture-weight", "method": "--method"}
OPTIONS |= {
    "bits": "--bits",
    "sym": "--asym",
    "float_targets": "--float-targets",
    "rotate": "--rotate",
    "awq_scaling": "--awq-scaling",
}
OPTIONS |= {"lm_head_bits": "--lm-head-bits"}

#: Every room's messages. An id stands in one of them only.
ROOMS = (
    asking.TEXTS,
    chat.TEXTS,
    convert.TEXTS,
    ends.TEXTS,
    evaluate.TEXTS,
    facts.TEXTS,
    help.TEXTS,
    logs.TEXTS,
    models.TEXTS,
    pictures.TEXTS,
    quantize.TEXTS,
    scripts.TEXTS,
    screen.TEXTS,
    settings.TEXTS,
    slash.TEXTS,
    serve.TEXTS,
)

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {id: texts for room in ROOMS for id, texts in room.items()}


def language(environ: Mapping[str, str] = os.environ) -> str:
    """ "zh" or "en": the first of `VARIABLES` that is set says which; anything but Chinese is English."""
    for name in VARIABLES:
        value = environ.get(name, "").strip().lower()
        if value:
            return "zh" if value.startswith(("zh", "chinese")) else "en"
    return "en"


def say(message: str, **facts: object) -> str:
    """The text of `message` in the person's language."""
    chinese, english = TEXTS[message]
    return (chinese if language() == "zh" else english).format(**facts)


def error_line(error: BellevlError) -> str:
    """Cause and cure in one line."""
    return say("error", cause=cause(error), hint=hint(error))


def cause(error: BellevlError) -> str:
    """What happened."""
    return one_line(_templates(error)[0].format(**_facts(error)))


def hint(error: BellevlError) -> str:
    """What to try."""
    return one_line(_templates(error)[1].format(**_facts(error)))


def _templates(error: BellevlError) -> tuple[str, str]:
    return (ERRORS if language() == "zh" else MESSAGES)[error.message]


def _facts(error: BellevlError) -> dict[str, str]:
    """The error's facts as they can be shown: names readable, settings as the option that was typed, phrases in Chinese
    where the table has them."""
    facts = {name: typed_text(str(fact)) for name, fact in error.facts.items()}
    if error.message in ("prompt.setting", "quantize.option", "quantize.nf4"):
        facts["name"] = OPTIONS.get(facts["name"], facts["name"])
    if "reason" in facts:
        facts["reason"] = reason(facts["reason"])
    return facts


def reason(text: str) -> str:
    """A phrase of bellevl or of the system in the person's language, where the table has it."""
    text = re.sub(r"^\[Errno -?\d+\] ([^:]+)(: .*)?$", r"\1", text)
    if language() != "zh":
        return text
    for pattern, chinese in REASONS:
        found = re.fullmatch(pattern, text)
        if found:
            return found.expand(chinese)
    if found := re.fullmatch(r"conversation (\d+): (.+)", text):
        return f"第 {found[1]} 个对话: {reason(found[2])}"
    first, mark, rest = text.partition("; ")
    return f"{reason(first)}；{reason(rest)}" if mark else text
