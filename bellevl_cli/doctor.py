"""`bellevl doctor`: what this machine can run, how, and what to mend. Each line is ok, a note or an error."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bellevl.errors import BellevlError

from . import guard
from .exits import FAILURE, LeaveError
from .options import ModelOptions, SamplingOptions
from .preflight import free_memory, readable_bytes, total_memory
from .screen.clean import AnswerText, clean_line, json_line
from .screen.render import Renderer
from .screen.table import table_lines
from .session import answer_tokens, last_piece, load, plan
from .settings import state_folder
from .words import cause, language, say
from .words import reason as phrase

OK, WARNING, ERROR = "ok", "warning", "error"

#: The tiny answer: what is asked of a plain green picture, and how long it may get.
QUESTION_TOKENS = 24
COLOUR = (40, 160, 60)


@dataclass(frozen=True)
class Finding:
    """One line: `level` is "ok", "warning" or "error"; `facts` are for programs."""

    id: str
    level: str
    title: str
    text: str
    facts: dict[str, Any]


def run(net: bool, as_json: bool, renderer: Renderer | None = None) -> None:
    """Prints the findings. Raises LeaveError(1) when one is an error."""
    renderer = renderer or Renderer()
    findings = []
    for check in CHECKS:
        renderer.stage(f"{check.__name__.lstrip('_')} …")
        findings += _findings(check)
    renderer.stage(say("stage.model", name="nano"))
    findings += list(_answer(net))
    if as_json:
        renderer.line(json_line([vars(f) for f in findings]))
    else:
        rows = [(say(f"doctor.{f.level}"), f.title, clean_line(f.text)) for f in findings]
        for line in table_lines(rows):
            renderer.line(line)
    if any(f.level == ERROR for f in findings):
        raise LeaveError(FAILURE)


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; one that cannot be done (no torch, say) is an error of its own and ends nothing else."""
    name = check.__name__.lstrip("_")
    try:
        return list(check())
    except Exception as error:
        text = clean_line(f"{type(error).__name__}: {error}")[:300]
        return [Finding(name, ERROR, name, text, {"error": type(error).__name__})]


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    text = f"{version} ({platform.system()} {platform.machine()})"
    yield Finding("python", OK, say("doctor.python"), text, {"version": version})


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", ERROR, say("doctor.torch"), str(error), {})
        return
    threads = torch.get_num_threads()
    text = say("doctor.torch_text", version=torch.__version__, threads=threads)
    yield Finding("torch", OK, say("doctor.torch"), text, {"version": str(torch.__version__), "threads": threads})


def _memory() -> Iterator[Finding]:
    free, total = free_memory(), total_memory()
    facts = {"free_bytes": free, "total_bytes": total}
    if free is None or total is None:
        yield Finding("memory", WARNING, say("doctor.memory"), say("doctor.memory_unknown"), facts)
        return
    text = say("doctor.memory_text", free=readable_bytes(free), total=readable_bytes(total))
    yield Finding("memory", OK, say("doctor.memory"), text, facts)


def _devices() -> Iterator[Finding]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        name = f"cuda:{index}"
        free, total = torch.cuda.mem_get_info(index)
        memory = say("doctor.memory_text", free=readable_bytes(free), total=readable_bytes(total))
        text = f"{torch.cuda.get_device_name(index)}, {memory}"
        yield Finding("device", OK, say("doctor.device", name=name), text, {"device": name, "free_bytes": free})
    if not count:
        yield Finding("device", OK, say("doctor.device", name="cpu"), say("doctor.no_gpu"), {"device": "cpu"})


def _int4() -> Iterator[Finding]:
    """The product for a layer of the 14B's size on each device that is here."""
    import torch

    from bellevl.kernels import choose

    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    for device in devices:
        choice = choose(device, torch.bfloat16)
        level = OK if choice.product == "int4pack" else WARNING
        facts = {"device": str(device), "product": choice.product, "reason": choice.reason}
        text = f"{choice.product} ({phrase(choice.reason)})"
        yield Finding("int4", level, say("doctor.int4", device=device), text, facts)


def _folders() -> Iterator[Finding]:
    try:
        folder = state_folder()
        writable = os.access(folder, os.W_OK)
        reason = "" if writable else "Permission denied"
    except OSError as error:
        folder, writable, reason = error.filename, False, error.strerror or str(error)
    text = str(folder) if writable else say("doctor.not_writable", folder=folder, reason=phrase(reason))
    level = OK if writable else WARNING
    yield Finding("state", level, say("doctor.state"), text, {"folder": str(folder), "writable": writable})


def _heic() -> Iterator[Finding]:
    found = find_spec("pillow_heif") is not None
    text = say("doctor.ok") if found else say("doctor.heic_missing")
    yield Finding("heic", OK if found else WARNING, say("doctor.heic"), text, {"installed": found})


def _terminal() -> Iterator[Finding]:
    encoding = sys.stdout.encoding
    text = say("doctor.terminal_text", encoding=encoding, language=language())
    yield Finding("terminal", OK, say("doctor.terminal"), text, {"encoding": encoding, "language": language()})


def _model() -> Iterator[Finding]:
    try:
        chosen = plan(ModelOptions())
    except BellevlError as error:
        yield Finding("model", ERROR, say("doctor.model"), cause(error), {"error": error.message})
        return
    text = f"{chosen.choice.name}, {chosen.quantization_name or chosen.config.torch_dtype}, {chosen.choice.folder}"
    yield Finding("model", OK, say("doctor.model"), text, {"folder": str(chosen.choice.folder)})


#: Everything but the answer, in the order it is printed.
CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _torch, _memory, _devices, _int4, _folders, _heic, _terminal, _model,
)  # fmt: skip


def _answer(net: bool) -> Iterator[Finding]:
    """The embedded model looks at a small picture, under the network guard; `net` reports what it saw."""
    with guard.watch() as refused:
        try:
            text, seconds, tokens = _tiny_answer()
        except Exception as error:
            said = cause(error) if isinstance(error, BellevlError) else f"{type(error).__name__}: {error}"
            yield Finding("answer", ERROR, say("doctor.answer"), said, {"error": type(error).__name__})
        else:
            shown = say("doctor.answer_text", text=text, seconds=f"{seconds:.1f}", tokens=tokens)
            facts = {"text": text, "seconds": round(seconds, 3), "tokens": tokens}
            yield Finding("answer", OK, say("doctor.answer"), shown, facts)
    if net:
        count = len(refused)
        text = say("doctor.network", count=count)
        yield Finding("network", ERROR if count else OK, "", text, {"connections": count})


def _tiny_answer() -> tuple[str, float, int]:
    """(text, seconds, tokens) of the embedded model's answer about a green picture."""
    from PIL import Image

    from bellevl.nano import folder

    chosen = plan(ModelOptions(folder(), "cpu"))
    sampling = SamplingOptions(max_tokens=QUESTION_TOKENS, greedy=True)
    session = load(chosen, answer_tokens(chosen, QUESTION_TOKENS), lambda memory: None)
    answer, started = AnswerText(), time.perf_counter()
    picture = Image.new("RGB", (64, 64), COLOUR)
    pieces = session.chat.stream(say("default_question"), image=picture, **sampling.keywords())
    piece = last_piece(pieces, answer.push)
    return answer.text, time.perf_counter() - started, piece.tokens
