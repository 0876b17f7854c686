"""Answers as OpenAI's API shapes them: one JSON object, or a stream of server-sent events.

What OpenAI's shape has no place for stands under "bellevl": boxes in pixels of the picture, seconds, what was
forgotten. While a request waits, the stream has comment lines (": waiting 2"), which clients skip.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from ..pictures.boxes import box_records, read_boxes
from .engine import End
from .requests import ChatRequest

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """One answer's envelope: its id, its time, the model's name."""

    model: str
    request: ChatRequest
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, end: End) -> dict[str, Any]:
        """The answer in one object."""
        message = {"role": "assistant", "content": end.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(end), "bellevl": self._more(end)}

    def first(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def last(self, end: End) -> bytes:
        """The reason and the rest; usage in a chunk of its own where it was asked for."""
        chunk = self._chunk({}, end.finish_reason, bellevl=self._more(end))
        if self.request.include_usage:
            chunk += event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage(end)})
        return chunk + DONE

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.request.include_usage else {}
        return event({**self._head("chat.completion.chunk"), "choices": [choice], **usage, **more})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }

    def _more(self, end: End) -> dict[str, Any]:
        found = read_boxes(end.text)
        boxes = [] if end.size is None else box_records(found.boxes, end.size)
        stats = end.stats
        return {
            "boxes": boxes,
            "bad_boxes": found.bad_boxes,
            "image_size": None if end.size is None else list(end.size),
            "forgotten_messages": self.request.forgotten,
            "forgotten_turns": len(stats.forgotten),
            "timings": {
                "vision_seconds": round(stats.vision_seconds, 3),
                "prefill_seconds": round(stats.prefill_seconds, 3),
                "decode_seconds": round(stats.decode_seconds, 3),
            },
        }


def usage(end: End) -> dict[str, int]:
    prompt, new = end.stats.prompt_tokens, end.stats.new_tokens
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n\n"


def waiting(ahead: int) -> bytes:
    """A comment: so many are before this request."""
    return f": waiting {ahead}\n\n".encode()
