"""What a client asks: the JSON of /v1/chat/completions to a question, its dialogue and its picture. Knows no HTTP.

The model sees one picture at a time, so the newest one of a dialogue counts, and the dialogue begins with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..asking.request import default_question
from ..screen.clean import read_text
from ..words import say
from .api_errors import ApiError, wrong

#: What this program cannot do, with the values that ask for nothing.
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "audio": (),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "best_of": (1,),
    "suffix": ("",),
}

#: Settings of an answer: OpenAI's name (or this program's, where OpenAI has none) -> (kind, name in Sampling).
SETTINGS: Mapping[str, tuple[type, str]] = {
    "max_tokens": (int, "max_tokens"),
    "max_completion_tokens": (int, "max_tokens"),
    "temperature": (float, "temperature"),
    "top_p": (float, "top_p"),
    "top_k": (int, "top_k"),
    "repetition_penalty": (float, "repetition_penalty"),
    "seed": (int, "seed"),
}

#: The most texts that end an answer, and how long one may be.
MOST_STOPS, LONGEST_STOP = 4, 200

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+*-]+)?(;[\w.+-]+=[\w.+-]+)*;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class Exchange:
    """A question that was answered already. `pictured`: the picture was shown with it."""

    question: str
    answer: str
    pictured: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """A question to be answered. `forgotten`: messages before the newest picture, which the model is not told."""

    question: str
    history: tuple[Exchange, ...] = ()
    picture: bytes | None = None
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    forgotten: int = 0


@dataclass
class _Message:
    """A user's or the model's message: its text and its pictures' addresses."""

    role: str
    text: str
    pictures: list[str] = field(default_factory=list)


def read_json(raw: bytes, charset: str | None = None) -> dict[str, Any]:
    """A request's body. JSON is UTF-8; a console that writes GBK is understood, too. Raises ApiError."""
    try:
        text = raw.decode(charset) if charset else read_text(raw)
        body = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, LookupError, RecursionError) as error:
        raise wrong("api.json", reason=str(error)[:200]) from error
    if not isinstance(body, dict):
        raise wrong("api.object")
    return body


def parse(body: Mapping[str, Any], names: Sequence[str]) -> ChatRequest:
    """The request that `body` makes of a model that goes by `names`. Raises ApiError."""
    model = body.get("model")
    if model is not None and model not in names:
        raise ApiError(404, say("api.model", name=str(model)[:100], known=names[0]), "model_not_found", "model")
    for name, nothing in UNSUPPORTED.items():
        if name in body and body[name] is not None and body[name] not in nothing:
            raise wrong("api.unsupported", name, name=name)
    stream = _flag(body, "stream")
    options = body.get("stream_options") or {}
    system, messages = _messages(body.get("messages"))
    return ChatRequest(
        **_dialogue(messages),
        system=system,
        sampling=_sampling(body),
        stops=_stops(body.get("stop")),
        stream=stream,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False):
        raise wrong("api.value", name, name=name, reason=say("api.not_bool"))
    return bool(value)


def _messages(raw: Any) -> tuple[str | None, list[_Message]]:
    """The system prompt, and the other messages, those of one side in a row made one."""
    if not isinstance(raw, list) or not raw:
        raise wrong("api.value", "messages", name="messages", reason=say("api.not_list"))
    system: list[str] = []
    messages: list[_Message] = []
    for at, message in enumerate(raw):
        where = f"messages[{at}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "developer", "user", "assistant"):
            raise wrong("api.value", where, name=where, reason=say("api.role"))
        text, pictures = _content(message.get("content"), f"{where}.content", role)
        if role in ("system", "developer"):
            system.append(text)
        elif messages and messages[-1].role == role:
            messages[-1].text = "\n".join(filter(None, (messages[-1].text, text)))
            messages[-1].pictures += pictures
        else:
            messages.append(_Message(role, text, pictures))
    return "\n".join(system) if system else None, messages


def _content(content: Any, where: str, role: str) -> tuple[str, list[str]]:
    """A message's text and pictures; a text alone, or parts of either."""
    if content is None and role == "assistant":
        return "", []
    if isinstance(content, str):
        return _whole(content), []
    if not isinstance(content, list):
        raise wrong("api.value", where, name=where, reason=say("api.not_content"))
    texts, pictures = [], []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(_whole(part["text"]))
        elif kind == "image_url" and role == "user":
            address = part.get("image_url")
            address = address.get("url") if isinstance(address, dict) else address
            pictures.append(_address(address, f"{where}[{at}].image_url"))
        else:
            raise wrong("api.value", f"{where}[{at}]", name=f"{where}[{at}]", reason=say("api.not_part"))
    return "\n".join(texts), pictures


def _address(address: Any, where: str) -> str:
    """A picture inside the request; one that would have to be fetched is refused."""
    if not isinstance(address, str) or not address:
        raise wrong("api.value", where, name=where, reason=say("api.not_picture"))
    if not _DATA_URL.match(address):
        raise wrong("api.picture_url", where, url=address[:60])
    return address


def _dialogue(messages: list[_Message]) -> dict[str, Any]:
    """Question, history and picture as keywords of ChatRequest."""
    if not messages or messages[-1].role != "user":
        raise wrong("api.value", "messages", name="messages", reason=say("api.last"))
    if messages[0].role != "user":
        messages = messages[1:]  # a greeting of the model's, before anything was asked
    first = max((at for at, message in enumerate(messages) if message.pictures), default=0)
    addresses = messages[first].pictures
    if len(addresses) > 1:
        raise wrong("api.pictures", "messages", count=len(addresses))
    kept = messages[first:]
    asked, answers = kept[0:-1:2], kept[1::2]
    history = [
        Exchange(_question(question), answer.text, bool(question.pictures))
        for question, answer in zip(asked, answers, strict=True)
    ]
    return {
        "question": _question(kept[-1]),
        "history": tuple(history),
        "picture": decode_picture(addresses[0]) if addresses else None,
        "forgotten": first,
    }


def _question(message: _Message) -> str:
    if not message.text.strip() and not message.pictures:
        raise wrong("api.value", "messages", name="messages", reason=say("api.empty"))
    return message.text if message.text.strip() else default_question()


def decode_picture(address: str) -> bytes:
    """The bytes of a data: URL. Raises ApiError."""
    found = _DATA_URL.match(address)
    assert found is not None
    data = re.sub(r"\s+|%0[AaDd]", "", address[found.end() :]).replace("%2B", "+").replace("%2F", "/")
    data = data.replace("%3D", "=").replace("-", "+").replace("_", "/")
    try:
        picture = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong("api.base64", "messages") from error
    if not picture:
        raise wrong("api.base64", "messages")
    return picture


def _sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as `Sampling` takes them. Their ranges are its business."""
    settings: dict[str, Any] = {}
    for name, (kind, ours) in SETTINGS.items():
        value = body.get(name)
        if value is None:
            continue
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            reason = say("api.not_int" if kind is int else "api.not_number")
            raise wrong("api.value", name, name=name, reason=reason)
        settings[ours] = value
    if "temperature" in settings:
        settings["greedy"] = settings["temperature"] == 0
    return settings


def _stops(raw: Any) -> tuple[str, ...]:
    stops = [raw] if isinstance(raw, str) else raw or []
    fits = isinstance(stops, list) and len(stops) <= MOST_STOPS
    if not fits or not all(isinstance(s, str) and 0 < len(s) <= LONGEST_STOP for s in stops):
        raise wrong(
            "api.value", "stop", name="stop", reason=say("api.not_stops", most=MOST_STOPS, longest=LONGEST_STOP)
        )
    return tuple(stops)


def _whole(text: str) -> str:
    """JSON can spell half a character, which no encoding has."""
    return text.encode("utf-8", "replace").decode("utf-8")


class StopFinder:
    """Ends an answer before the first of `stops`; never gives out the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What of `text`, and of what was held back, can be given out now."""
        if not self._stops:
            return text
        if self.found:
            return ""
        self._held += text
        places = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            return self._held[: min(places)]
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """The end of the answer: what was held and was no stop after all."""
        return "" if self.found else self._held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
