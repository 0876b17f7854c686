"""`--ocr`: what a local OCR reads goes into the question as data, or is all that is wanted."""

from __future__ import annotations

from ..pictures.asked import AskedPicture
from ..pictures.ocr import read_lines, with_lines
from ..screen.clean import json_line
from ..screen.render import Renderer
from ..words import say
from .looking import Opener


def read_only(openers: list[Opener], as_json: bool, renderer: Renderer) -> None:
    """`--ocr only`: the lines of each picture, without a model. Raises PictureError."""
    for number, opener in enumerate(openers):
        asked = opener()
        renderer.stage(say("ocr.stage", name=asked.name))
        lines = read_lines(asked)
        renderer.clear_stage()
        if as_json:
            told = [{"text": line.text, "score": round(line.score, 3), "xyxy_px": list(line.corners)} for line in lines]
            renderer.line(json_line({"image": {"path": asked.name, "sha256": asked.sha256}, "lines": told}))
            continue
        if len(openers) > 1:
            renderer.line(("\n" if number else "") + say("ask.header", name=asked.name))
        for line in lines:
            renderer.line(line.text)
        if not lines:
            renderer.say("ocr.nothing")


def question_with_ocr(question: str, asked: AskedPicture, renderer: Renderer) -> str:
    """`--ocr on`: the question with what was read before it. Raises PictureError."""
    renderer.stage(say("ocr.stage", name=asked.name))
    lines = read_lines(asked)
    renderer.clear_stage()
    renderer.note(say("ocr.used", count=len(lines)) if lines else say("ocr.nothing"))
    return with_lines(question, lines)
