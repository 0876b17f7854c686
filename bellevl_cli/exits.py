"""The one place where an error becomes words and an exit code.

0 answered · 1 other failure · 2 usage · 3 picture · 4 model · 5 memory · 6 schema or --expect not met
130 Ctrl-C · 141 broken pipe · 143 TERM
"""

from __future__ import annotations

import os
import platform
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import TextIO

import typer

from bellevl import __version__
from bellevl.errors import (
    BellevlError,
    CheckpointError,
    ConfigError,
    OutOfMemoryError,
    PictureError,
)

from .guard import NetworkRefusedError
from .screen.clean import clean_line, typed_text
from .screen.look import colored, painted
from .screen.stage import clear_all
from .usage import usage_line
from .words import error_line, reason, say

OK, FAILURE, USAGE, PICTURE, MODEL, MEMORY, UNMET = 0, 1, 2, 3, 4, 5, 6
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143

#: Errors of these ids are a wrong option, whatever their class.
USAGE_IDS = frozenset(
    (
        *("device.unknown", "log.format", "prompt.schema", "prompt.schema_file", "prompt.setting"),
        *("quantize.budget", "quantize.nf4", "quantize.option"),
    )
) | {
    f"picture.{wrong}"
    for wrong in ("boxes_file", "coco", "crop", "ending", "export", "matte", "no_box", "no_folder", "own_file", "tiles")
}

UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class TerminatedError(BaseException):
    """SIGTERM came. Not an Exception: nobody may mistake it for a failure and go on."""


class LeaveError(Exception):
    """The program ends with `code`; everything was said already."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def exit_code(error: BaseException) -> int:
    """What the shell is told about `error`."""
    error = _end(error)
    if isinstance(error, BellevlError):
        return _own_code(error)
    if isinstance(error, LeaveError):
        return error.code
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, TerminatedError):
        return TERMINATED
    return MEMORY if is_out_of_memory(error) else FAILURE


def _end(error: BaseException) -> BaseException:
    """Ctrl-C or TERM where a library that was being imported made another error of it; else `error` itself."""
    if isinstance(error, (BellevlError, LeaveError)):
        return error
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (KeyboardInterrupt, TerminatedError)):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def _own_code(error: BellevlError) -> int:
    if error.message in USAGE_IDS:
        return USAGE
    kinds = ((PictureError, PICTURE), (CheckpointError, MODEL), (OutOfMemoryError, MEMORY), (ConfigError, USAGE))
    for kind, code in kinds:
        if isinstance(error, kind):
            return code
    return FAILURE


def is_out_of_memory(error: BaseException) -> bool:
    """Also torch's, told by name: this file does not import torch for it. Its CPU allocator raises RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def describe(error: BaseException) -> str | None:
    """The one line about `error`; None where there is nothing to say."""
    error = _end(error)
    if isinstance(error, (LeaveError, BrokenPipeError, TerminatedError)):
        return None
    if isinstance(error, BellevlError):
        return error_line(error)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return say("interrupted")
    if isinstance(error, NetworkRefusedError):
        return say("network.refused", target=error.target, module=error.module)
    if isinstance(error, UsageError):
        return usage_line(error)
    if is_out_of_memory(error):
        return say("memory.during")
    if isinstance(error, OSError) and error.strerror:
        name = clean_line(typed_text(str(error.filename or "")))
        return say("system", reason=reason(error.strerror), name=name and f" {name}")
    return say("unexpected", kind=type(error).__name__, reason=clean_line(str(error))[:300])


def run(action: Callable[[], object], debug: Callable[[], bool]) -> int:
    """Runs `action`; whatever it raises becomes one line on stderr and the exit code that is returned."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        action()
        sys.stdout.flush()
        _settle(sys.stderr)
        return OK
    except typer.Exit as error:
        return int(error.exit_code)
    except BaseException as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one Ctrl-C too many must not break the goodbye
        return _report(error, debug())


def _report(error: BaseException, debug: bool) -> int:
    code, text = exit_code(error), describe(error)
    if text is not None and code != INTERRUPTED and not isinstance(error, UsageError):
        _keep(error)
    _settle(sys.stdout)
    try:
        clear_all()
        if debug:
            sys.stderr.write("".join(traceback.format_exception(error)))
        if text is not None:
            sys.stderr.write(painted(text, colored(sys.stderr.isatty())) + "\n")
    except OSError:
        _silence(sys.stderr)
    _settle(sys.stderr)
    return code


def _settle(stream: TextIO) -> None:
    """Writes out what `stream` still holds; where that cannot be, Python shall not try again at exit."""
    try:
        stream.flush()
    except OSError:
        _silence(stream)


def _keep(error: BaseException) -> None:
    """The last error with its traceback, for a report; a full or read-only disk must not hide the error itself."""
    from .settings import private_file, state_folder

    try:
        path = private_file(state_folder() / "last-error.txt")
        text = _circumstances() + "".join(traceback.format_exception(error))
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return


def _circumstances() -> str:
    """When, with what, and what was typed: the first lines of a report."""
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return f"{now}\nbellevl {__version__}, {machine}\n$ {shlex.join(['bellevl', *sys.argv[1:]])}\n\n"


def _silence(stream: TextIO) -> None:
    """Points `stream` at nothing: Python flushes it once more at exit and would complain."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise TerminatedError
