"""Errors as OpenAI's API shapes them: an HTTP status and {"error": {message, type, param, code}}."""

from __future__ import annotations

import re
from typing import Any

from bellevl.errors import BellevlError, CheckpointError, PictureError, PromptError

from ..exits import describe, is_out_of_memory
from ..words import cause, say

#: Status -> OpenAI's word for the kind of error.
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ApiError(Exception):
    """What a client is told. `param` is the part of the request that is wrong, `code` a word for programs."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        self.status, self.message, self.code, self.param = status, message, code, param
        super().__init__(message)

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def wrong(message: str, param: str | None = None, **facts: object) -> ApiError:
    """A request that cannot be answered as it is; `message` is an id of the table of words, and the code."""
    return ApiError(400, say(message, **facts), message.removeprefix("api."), param)


def of(error: BaseException) -> ApiError:
    """Any error of an answer as a client is told it: what a person can cause is a 400, the rest is the server's."""
    if isinstance(error, ApiError):
        return error
    if is_out_of_memory(error):
        return ApiError(503, describe(error) or "", "out_of_memory")
    if isinstance(error, PictureError):
        told = PictureError(error.message, **{**error.facts, "path": "image_url"})  # it has no name here
        return ApiError(400, cause(told), error.message, "messages")
    if isinstance(error, PromptError):
        code = "context_length_exceeded" if error.message == "prompt.too_long" else error.message
        text = re.sub(r"--[a-z-]+", lambda option: option[0][2:].replace("-", "_"), cause(error))
        return ApiError(400, text, code, str(error.facts.get("name") or "messages"))
    if isinstance(error, CheckpointError) and error.message == "model.text_only":
        return ApiError(400, cause(error), error.message, "messages")
    if isinstance(error, BellevlError):
        return ApiError(500, cause(error), error.message)
    return ApiError(500, say("api.failed", kind=type(error).__name__), "internal_error")
