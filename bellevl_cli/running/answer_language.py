"""Answers in the language and the script that were asked for (`--lang`, `--script`).

Which language a text is in is told by its letters. An answer that begins in the wrong one is not shown: the question is
asked once more with a word about the language. The dialogue keeps what the person asked and what the model wrote.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from bellevl.chat import Piece
from bellevl.prompt import Turn

from .surviving import SurvivingChat

#: What the question gets when it is asked once more. Said to the model, so in the language that is wanted.
REQUESTS = {"zh": "请用中文回答。", "en": "Please answer in English."}

#: Chinese characters and Latin words that tell a language surely enough; an answer waits for them or for its end.
ENOUGH = 8

_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_WORD = re.compile(r"[A-Za-z]{2,}")
_MARKUP = re.compile(r"</?(?:ref|box|quad)>|<[^>]*$|```.*?(?:```|$)|`[^`]*`", re.DOTALL)

#: Behind one of these a phrase is over, and what stands before it can be converted.
_PHRASE_END = re.compile("[^\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


class Converter(Protocol):
    """Of opencc."""

    def convert(self, text: str) -> str: ...


def language_of(text: str) -> str | None:
    """ "zh", "en", or None where there is too little to tell. A Chinese character weighs as much as an English word;
    code and boxes' markup say nothing."""
    text = _MARKUP.sub(" ", text)
    chinese, words = len(_CHINESE.findall(text)), len(_WORD.findall(text))
    return None if chinese + words == 0 else "zh" if chinese >= words else "en"


def open_converter(script: str, environ: Mapping[str, str] = os.environ) -> Converter:
    """Into "hans", or into "hant" as it is written where the person is: Hong Kong, else Taiwan. Needs opencc."""
    import opencc

    places = (environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    hong_kong = next((place for place in places if place), "").startswith(("zh_HK", "zh_MO"))
    return opencc.OpenCC("t2s" if script == "hans" else "s2hk" if hong_kong else "s2tw")


class LanguageChat(SurvivingChat):
    """As SurvivingChat. `language` is "zh", "en", "auto" (the question's) or None; `converter` changes the script.
    `wrong` hears the language of an answer that is still in the wrong one after the second time."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.language: str | None = None
        self.converter: Converter | None = None
        self.wrong: Callable[[str], object] = lambda wanted: None

    def stream(self, text: str, image: Any = None, **keywords: Any) -> Iterator[Piece]:
        """As Chat; an answer whose form is prescribed has no language, and one about several pictures is left alone."""
        wanted = language_of(text) if self.language == "auto" else self.language
        pieces = super().stream(text, image, **keywords)
        if wanted is None or keywords.get("constraint") is not None or keywords.get("more"):
            return pieces
        return self._in_language(pieces, wanted, text, keywords)

    def _in_language(
        self, pieces: Iterator[Piece], wanted: str, text: str, keywords: dict[str, Any]
    ) -> Iterator[Piece]:
        """Holds the beginning back until its language can be told."""
        held, said = [], ""
        for piece in pieces:
            held.append(piece)
            said += piece.text
            if piece.finish_reason is not None or _weight(said) >= ENOUGH:
                break
        if not held or held[-1].finish_reason == "interrupted" or language_of(said) in (wanted, None):
            yield from held
            yield from pieces
            return
        getattr(pieces, "close", lambda: None)()
        yield from self._once_more(wanted, text, keywords)

    def _once_more(self, wanted: str, text: str, keywords: dict[str, Any]) -> Iterator[Piece]:
        """Asks again, about the picture that is there already."""
        self.turns = self.turns[:-1]
        again = {name: value for name, value in keywords.items() if name != "more"}
        said = ""
        for piece in super().stream(f"{text}\n{REQUESTS[wanted]}", None, **again):
            said += piece.text
            self.turns[-1] = replace(self.turns[-1], question=text)
            if piece.finish_reason is not None and language_of(said) not in (wanted, None):
                self.wrong(wanted)
            yield piece

    def _answer(self, turns: list[Turn], *arguments: Any, **keywords: Any) -> Iterator[Piece]:
        """In the script that was asked for, phrase by phrase: a character alone does not tell what becomes of it."""
        pieces = super()._answer(turns, *arguments, **keywords)
        if self.converter is None:
            yield from pieces
            return
        held = ""
        for piece in pieces:
            held += piece.text
            ends = [found.end() for found in _PHRASE_END.finditer(held)]
            cut = len(held) if piece.finish_reason is not None else ends[-1] if ends else 0
            ready, held = held[:cut], held[cut:]
            yield replace(piece, text=self.converter.convert(ready) if ready else "")


def _weight(text: str) -> int:
    text = _MARKUP.sub(" ", text)
    return len(_CHINESE.findall(text)) + len(_WORD.findall(text))
