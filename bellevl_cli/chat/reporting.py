"""A chat's dialogues as a report, whether they are in the log or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bellevl.errors import LogError

from ..pictures.boxes import box_records, read_boxes

if TYPE_CHECKING:
    from ..log import StoredThread
    from .repl import ChatLoop
    from .threads import Thread


def write_report(loop: ChatLoop, threads: Sequence[Thread], path: str) -> Path:
    """The file to open. Raises LogError for an ending that is no report's, OSError."""
    from ..log.exporting import export

    stored = [_stored(loop, thread) for thread in threads]
    pictures = {
        kept.id: thread.picture.uncut
        for kept, thread in zip(stored, threads, strict=True)
        if thread.picture is not None
    }
    return export(stored, Path(path.strip("\"'“”")), pictures, loop.tell)


def _stored(loop: ChatLoop, thread: Thread) -> StoredThread:
    """As the log has it, with its times; else as the chat knows it."""
    if loop.log.on and thread.log_id is not None:
        try:
            return loop.log.thread(thread.log_id)
        except LogError:
            pass
    return _made_by_hand(loop, thread)


def _made_by_hand(loop: ChatLoop, thread: Thread) -> StoredThread:
    from ..log import StoredThread, StoredTurn

    picture = thread.picture
    turns = []
    for turn in thread.dialogue.turns:
        boxes = [] if picture is None else box_records(
            read_boxes(turn.answer or "").boxes, picture.uncut.size, picture.area
        )  # fmt: skip
        turns.append(StoredTurn(turn.question, turn.answer or "", "stop", boxes=tuple(boxes)))
    return StoredThread(
        id=thread.log_id or str(thread.number),
        picture_name=None if picture is None else picture.name,
        picture_sha256=None if picture is None else picture.sha256,
        model=loop.session.plan.choice.name,
        system=loop.chat.system,
        created=time.time(),
        turns=tuple(turns),
    )
