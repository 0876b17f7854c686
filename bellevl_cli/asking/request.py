"""From a command line to pictures and a question: which words are which, stdin, templates. Opens no picture."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace

from ..exits import UsageError
from ..options import ModelOptions
from ..pictures.asked import STDIN, is_picture_name, is_picture_path
from ..screen.clean import clean_line, read_text, typed_text
from ..settings import config_value
from ..words import say
from . import templates
from .wishes import AskOptions

#: More than this on stdin is no question.
LONGEST_QUESTION = 1 << 20


@dataclass(frozen=True)
class Request:
    """Pictures as they were named, and what is asked about them. `defaulted`: nobody wrote a question."""

    pictures: tuple[str, ...]
    question: str
    defaulted: bool = False
    system: str | None = None
    schema: str | None = None
    together: bool = False


def read_request(options: AskOptions) -> Request:
    """Raises UsageError for words that cannot be sorted, and for a question on a stdin that is empty or taken."""
    template = templates.find(options.template) if options.template else None
    elsewhere = options.pictures.clip or options.thread.goes_on
    pictures, written = split_words(options.words, elsewhere, options.question is not None)
    if not pictures and not elsewhere:
        raise UsageError(say("usage.missing", name=say("help.name_picture")))
    if (pictures or options.pictures.clip) and options.thread.goes_on:
        raise UsageError(say("ask.thread_picture"))
    asked = read_question(written if options.question is None else options.question, pictures)
    together = options.together or (template is not None and template.together)
    if template is not None:
        system, schema = template.system, options.schema or template.schema
        return Request(pictures, template.filled(options.params, asked), False, system, schema, together)
    if options.params:
        raise UsageError(say("template.none_for_params"))
    return Request(pictures, asked or default_question(), not asked, None, options.schema, together)


def default_question() -> str:
    """What is asked where nobody asks anything."""
    return str(config_value("question") or say("default_question"))


def fill_template(
    name: str | None, params: tuple[str, ...], asked: str, model: ModelOptions
) -> tuple[str, ModelOptions, str | None]:
    """(question, model with the template's system prompt, schema) for one picture at a time. Raises UsageError for a
    template that is not there or that wants several pictures at once."""
    if name is None:
        if params:
            raise UsageError(say("template.none_for_params"))
        return asked, model, None
    template = templates.find(name)
    if template.together:
        raise UsageError(say("template.together", name=template.name))
    system = template.system if model.system is None else model.system
    return template.filled(params, asked), replace(model, system=system), template.schema


def split_words(words: tuple[str, ...], elsewhere: bool, asked: bool) -> tuple[tuple[str, ...], str | None]:
    """(pictures, question): the last word is the question unless it is a picture or the only picture there can be.

    `elsewhere`: a picture comes from somewhere else, `asked`: the question does.
    """
    if not words:
        return (), None
    last_is_picture = asked or (len(words) == 1 and not elsewhere) or names_picture(words[-1])
    pictures = words if last_is_picture else words[:-1]
    _check_pictures(pictures, words)
    if pictures.count(STDIN) > 1:
        raise UsageError(say("ask.stdin_twice"))
    return pictures, None if last_is_picture else words[-1]


def names_picture(word: str) -> bool:
    """Whether `word` stands for a picture and not for a question. A name without a file is one where it has no spaces:
    what is missing shall be missed, not asked about."""
    return is_picture_name(word) and (is_picture_path(word) or len(word.split()) == 1)


def _check_pictures(pictures: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Raises UsageError where a question was written first or without quotes."""
    for at, word in enumerate(pictures):
        if _may_be_picture(word):
            continue
        if at == 0:
            later = next((w for w in words[1:] if is_picture_name(w) and is_picture_path(w)), None)
            if later is not None:
                raise UsageError(say("ask.order", name=clean_line(typed_text(later))))
        elif len(words) > 2:
            raise UsageError(say("ask.extra", name=clean_line(typed_text(word))))


def _may_be_picture(word: str) -> bool:
    return word == STDIN or is_picture_name(word) or is_picture_path(word) or os.sep in word


def read_question(text: str | None, pictures: tuple[str, ...]) -> str:
    """The question as it was typed, or read from stdin for "-"; "" where there is none."""
    if text is None:
        return ""
    if text != STDIN:
        return typed_text(text).strip()
    if STDIN in pictures:
        raise UsageError(say("ask.stdin_twice"))
    asked = read_text(sys.stdin.buffer.read(LONGEST_QUESTION)).removeprefix("\ufeff").strip()
    if not asked:
        raise UsageError(say("ask.stdin_empty"))
    return asked
