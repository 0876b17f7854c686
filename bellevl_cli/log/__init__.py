"""The log: every exchange, kept on this machine alone, so that a dialogue can be found and gone on with.

    log = open_log(enabled=not no_log, said=renderer.note)
    thread = log.start(asked, model="nano", system=None)
    with log.turn(thread, question, params) as turn:      # in the file before the model runs
        for piece in pieces:
            turn.push(text_so_far)                         # as the model wrote it, boxes' markup included
        turn.end(text, piece.finish_reason, usage, timings)
    log.close()

    stored = open_kept().thread("7f3a")                    # LogError: no such thread
    asked = reopen(stored, renderer.note)                  # its picture, checked; PictureError where it is gone

Nothing here raises while an answer is made. Switched off by --no-log, BELLEVL_NO_LOG=1, `log = false` in the
configuration or `bellevl logs off`, a log gives out ids and handles as ever and keeps nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bellevl.errors import LogError

from .records import Found, StoredThread, StoredTurn, ThreadLine
from .store import Log, LoggedTurn, Said

if TYPE_CHECKING:
    from ..pictures.asked import AskedPicture

LOG_NAME = "log.db"

#: A file beside the log: `bellevl logs off` makes it.
OFF_NAME = "log.off"


def open_log(enabled: bool = True, said: Said | None = None) -> Log:
    """The log for writing. `said` hears, once, why nothing can be kept; without it stderr does. Raises nothing."""
    from ..settings import switched_on

    if not enabled or switched_on("BELLEVL_NO_LOG"):
        return Log()
    said = said or _say_to_stderr
    try:
        return Log() if _switched_off_for_good() else _open(said)
    except Exception as error:  # whatever is wrong with the log, the answer comes
        log = Log(said)
        log._trouble = _lost(error)
        log._tell()
        return log


def open_kept() -> Log:
    """The log for reading, also where it is switched off; an empty one where nothing was ever logged.

    Raises LogError where it cannot be read.
    """
    import sqlite3

    from .schema import connect_to_read, data_folder
    from .store import KeptLog

    path: object = LOG_NAME
    try:
        path = file = data_folder() / LOG_NAME
        return KeptLog(connect_to_read(file), file.parent) if file.exists() else Log()
    except (sqlite3.Error, OSError) as error:
        raise LogError("log.damaged", path=path, reason=_reason(error)) from error


def reopen(thread: StoredThread, said: Said | None = None) -> AskedPicture | None:
    """The picture that `thread` is about, the same bytes as then; None for a dialogue without one.

    Where the file changed or is gone the log's copy takes its place, and `said` hears so. Raises PictureError where
    there is no copy.
    """
    from .copies import reopen as reopened

    return reopened(thread, said or _say_to_stderr)


def switched_off() -> bool:
    """Whether `bellevl logs off` was said last. Raises OSError where there is no place for the log."""
    from .schema import data_folder

    return (data_folder() / OFF_NAME).exists()


def switch(on: bool) -> Path:
    """`bellevl logs on` and `off`; the log's path. Raises OSError."""
    from .schema import make_data_folder

    folder = make_data_folder()
    if on:
        (folder / OFF_NAME).unlink(missing_ok=True)
    else:
        (folder / OFF_NAME).touch(mode=0o600)
    return folder / LOG_NAME


def _switched_off_for_good() -> bool:
    from ..settings import config_value

    return not config_value("log") or switched_off()


def _open(said: Said) -> Log:
    from .copies import keeper
    from .schema import connect, make_data_folder
    from .store import KeptLog

    folder = make_data_folder()
    connection = connect(folder / LOG_NAME)
    return KeptLog(connection, folder, said, _lost, keeper(folder))


def _lost(error: BaseException) -> str:
    from ..words import say

    return say("log.lost", reason=_reason(error))


def _reason(error: BaseException) -> str:
    from ..screen.clean import clean_line
    from ..words import cause, reason

    if isinstance(error, LogError):
        return cause(error)
    said = getattr(error, "strerror", None) or str(error)
    return clean_line(reason(said))


def _say_to_stderr(text: str) -> None:
    from ..screen.render import Renderer

    Renderer().note(text)


__all__ = [
    "Found",
    "Log",
    "LogError",
    "LoggedTurn",
    "StoredThread",
    "StoredTurn",
    "ThreadLine",
    "open_kept",
    "open_log",
    "reopen",
    "switch",
    "switched_off",
]
