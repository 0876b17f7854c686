"""Slash commands about the dialogue: forgetting it, measuring it, keeping it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..screen.clean import clean_line, typed_text
from ..screen.table import table_lines
from ..words import say
from .registry import COMMANDS, command

if TYPE_CHECKING:
    from bellevl.prompt import Parts

    from .repl import ChatLoop

#: Columns of a question in a list.
QUESTION_WIDTH = 32

#: Kept dialogues that /sessions lists.
MOST_SESSIONS = 20


@command("clear", "清空", group="dialogue")
def _clear(loop: ChatLoop, argument: str) -> None:
    """The dialogue is forgotten, the picture stays. The log keeps what was said under its own id."""
    thread = loop.threads.current
    loop.chat.clear()
    thread.forget_answers()
    thread.log_id = None
    kept = "" if thread.picture is None else say("chat.kept_picture", name=thread.picture.name)
    loop.say("chat.cleared", picture=kept)


@command("reset", "重置", group="dialogue")
def _reset(loop: ChatLoop, argument: str) -> None:
    """Dialogues, pictures and settings are as at the beginning."""
    loop.threads.forget()
    loop.reset_settings()
    loop.say("chat.reset")


@command("tokens", "用量", group="dialogue")
def _tokens(loop: ChatLoop, argument: str) -> None:
    parts, window = loop.chat.parts(), loop.window()
    kept = parts.kept(window)
    rows = [("  " + say("tokens.system"), str(parts.system), "")]
    for at, turn in enumerate(loop.chat.turns):
        if parts.pictures[at]:
            rows.append(("  " + say("tokens.picture"), str(parts.pictures[at]), ""))
        note = clean_line(turn.question) if at in kept else say("tokens.forgotten")
        rows.append(("  " + say("tokens.turn", number=at + 1), str(parts.turns[at] - parts.pictures[at]), _short(note)))
    used = loop.used_tokens()
    head = say("tokens.head", used=used, window=window, left=max(window - used, 0))
    loop.tell("\n".join([head, *(line.rstrip() for line in table_lines(rows)), _next_to_go(parts, kept)]))


def _next_to_go(parts: Parts, kept: tuple[int, ...]) -> str:
    """What is forgotten first once the window is full."""
    free = [at for at in kept if at != parts.pinned]
    return say("tokens.next", number=free[0] + 1) if free else say("tokens.nothing_to_go")


def _short(text: str) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= QUESTION_WIDTH else set_cell_size(text, QUESTION_WIDTH - 1).rstrip() + "…"


@command("export", "导出", group="dialogue", takes="report")
def _export(loop: ChatLoop, argument: str) -> None:
    """Every dialogue of this chat in one report, pictures and boxes with it."""
    from .reporting import write_report

    threads = [thread for thread in loop.threads.listed() if thread.dialogue.turns]
    if not argument:
        loop.say("chat.usage", usage=COMMANDS["export"].usage)
    elif not threads:
        loop.say("chat.nothing_asked")
    else:
        loop.say("chat.exported", path=clean_line(typed_text(str(write_report(loop, threads, argument)))))


@command("name", "命名", group="dialogue", takes="text")
def _name(loop: ChatLoop, argument: str) -> None:
    if not argument:
        loop.say("chat.usage", usage=COMMANDS["name"].usage)
    elif not loop.log.on:
        loop.say("chat.not_logged")
    elif loop.threads.current.log_id is None:
        loop.say("chat.nothing_asked")
    else:
        loop.log.name(loop.threads.current.log_id, argument)
        loop.say("chat.named", name=clean_line(argument))


@command("sessions", "会话", group="dialogue")
def _sessions(loop: ChatLoop, argument: str) -> None:
    """Dialogues that were kept, newest first; the star is at the one that goes on here."""
    from ..log import open_kept

    rows = []
    with open_kept() as log:
        for line in log.threads(MOST_SESSIONS):
            star = "*" if line.id == loop.threads.current.log_id else " "
            name, picture = clean_line(line.name or "-"), clean_line(line.picture_name or "-")
            count = say("chat.turns", count=line.turns)
            rows.append((f"{star} {line.id}", name, picture, count, _short(clean_line(line.question))))
    loop.tell("\n".join(table_lines(rows)) or say("chat.no_sessions"))


@command("load", "打开", group="dialogue", takes="session")
def _load(loop: ChatLoop, argument: str) -> None:
    if not argument:
        loop.say("chat.usage", usage=COMMANDS["load"].usage)
        return
    from ..log import open_kept

    with open_kept() as log:
        loop.resume(log.thread(argument))
