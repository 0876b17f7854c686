"""Slash commands about the last question and its answer."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from ..words import say
from .copying import copy
from .registry import COMMANDS, command
from .shown import readable

if TYPE_CHECKING:
    from .repl import ChatLoop


@command("retry", "regen", "重答", group="answers", takes="text")
def _retry(loop: ChatLoop, argument: str) -> None:
    argument = unicodedata.normalize("NFKC", argument)
    found = re.fullmatch(r"(?:(?:--?seed|种子)?[\s=]*(-?\d{1,20}))?", argument.strip())
    question = loop.threads.last_question()
    if found is None:
        loop.say("chat.usage", usage=COMMANDS["retry"].usage)
    elif question is None:
        loop.say("chat.nothing_asked")
    elif not loop.chat.turns:  # the last question again, but about the picture that is shown now
        loop.ask(question)
    else:
        if loop.parameters.settled().deterministic:
            loop.say("chat.deterministic")
        loop.answers.retry(None if found[1] is None else int(found[1]))


@command("continue", "继续", group="answers")
def _continue(loop: ChatLoop, argument: str) -> None:
    if not loop.chat.turns:
        loop.say("chat.nothing_asked")
    elif loop.chat.finish_reason == "stop":
        loop.say("chat.complete")
    else:
        loop.answers.go_on()


@command("prev", "上一个", group="answers")
def _prev(loop: ChatLoop, argument: str) -> None:
    if not loop.answers.previous():
        loop.say("chat.no_previous")


@command("edit", "修改", group="answers")
def _edit(loop: ChatLoop, argument: str) -> None:
    """The last question comes to the line; what is sent then takes its place, as if it had been asked so."""
    if not loop.chat.turns:
        loop.say("chat.nothing_asked")
        return
    loop.lines.put(loop.chat.turns[-1].question)
    loop.editing = True


@command("undo", "撤销", group="answers")
def _undo(loop: ChatLoop, argument: str) -> None:
    question = loop.answers.undo()
    if question is None:
        loop.say("chat.nothing_asked")
    else:
        loop.say("chat.undone", question=question)


@command("copy", "复制", group="answers")
def _copy(loop: ChatLoop, argument: str) -> None:
    text = readable(loop.chat.turns[-1].answer) if loop.chat.turns else ""
    if not text:
        loop.say("chat.nothing_answered")
        return
    terminal = next((stream for stream in (loop.renderer.err, loop.renderer.out) if stream.isatty()), None)
    program = copy(text, terminal)
    if program is None:
        loop.say("chat.copy_failed")
    else:
        loop.tell(say("chat.copied", count=len(text), program=program))
