"""The forms of an answer: text as it comes, a whole text, JSON, JSON with the text as it comes. Asks nothing itself."""

from __future__ import annotations

from typing import Any, Protocol

from ..screen.clean import json_line
from ..screen.render import Renderer
from ..words import say


class Output(Protocol):
    """One answer after the other: `begin`, pieces as they come, then `end` with the whole and what JSON says of it."""

    def begin(self, name: str) -> None: ...

    def piece(self, text: str) -> None: ...

    def end(self, text: str, record: dict[str, Any]) -> None: ...


class StreamedText:
    """Text as it comes; `headers`: a line with the picture's name above each answer."""

    def __init__(self, renderer: Renderer, headers: bool) -> None:
        self._renderer, self._headers = renderer, headers
        self._first = True

    def begin(self, name: str) -> None:
        if self._headers:
            self._renderer.line(("" if self._first else "\n") + say("ask.header", name=name))
        self._first = False

    def piece(self, text: str) -> None:
        self._renderer.answer(text)

    def end(self, text: str, record: dict[str, Any]) -> None:
        self._renderer.end_answer()


class WholeText(StreamedText):
    """Text when it is complete."""

    def piece(self, text: str) -> None:
        return

    def end(self, text: str, record: dict[str, Any]) -> None:
        self._renderer.answer(text)
        self._renderer.end_answer()


class JsonLines:
    """One object a line for each answer; with `deltas` one for each piece before it."""

    def __init__(self, renderer: Renderer, deltas: bool = False) -> None:
        self._renderer, self._deltas = renderer, deltas

    def begin(self, name: str) -> None:
        return

    def piece(self, text: str) -> None:
        if self._deltas and text:
            self._renderer.line(json_line({"type": "delta", "text": text}))

    def end(self, text: str, record: dict[str, Any]) -> None:
        self._renderer.line(json_line({"type": "answer", **record} if self._deltas else record))


def choose_output(renderer: Renderer, json: bool, jsonl: bool, whole: bool, headers: bool) -> Output:
    """`whole`: nothing may be shown before all of it is known."""
    if json or jsonl:
        return JsonLines(renderer, deltas=jsonl)
    return (WholeText if whole else StreamedText)(renderer, headers)
