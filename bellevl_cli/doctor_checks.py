"""What `bellevl doctor` looks at: one function a subject, each giving lines that are ok, a note or an error.

Everything is looked at, nothing is changed; only the terminal may be asked once which pictures it shows.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bellevl.errors import BellevlError

from . import settings
from .keys import KEYS
from .models import records
from .options import ModelOptions
from .running import speeds
from .running.preflight import free_memory, readable_bytes, total_memory
from .running.session import plan
from .settings import state_folder
from .words import cause, language, say
from .words import reason as phrase

OK, WARNING, ERROR = "ok", "warning", "error"

#: A model of up to so many bytes is hashed for its line; a larger one has its hash in its record or not at all.
HASHED_BYTES = 200_000_000

#: Where Linux says which NVIDIA driver is loaded.
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Finding:
    """One line: `level` is "ok", "warning" or "error"; `facts` are for programs."""

    id: str
    level: str
    title: str
    text: str
    facts: dict[str, Any]


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

    count, driver = torch.cuda.device_count() if torch.cuda.is_available() else 0, _driver()
    for index in range(count):
        name = f"cuda:{index}"
        free, total = torch.cuda.mem_get_info(index)
        memory = say("doctor.memory_text", free=readable_bytes(free), total=readable_bytes(total))
        text = f"{torch.cuda.get_device_name(index)}, {memory}"
        facts = {"device": name, "free_bytes": free, "total_bytes": total, "driver": driver, "cuda": torch.version.cuda}
        if driver is not None:
            known = say("doctor.driver", driver=driver, cuda=torch.version.cuda)
            text = f"{text}, {known}"
        yield Finding("device", OK, say("doctor.device", name=name), text, facts)
    if not count and driver is not None:
        text = say("doctor.blind", driver=driver, version=torch.__version__)
        yield Finding("device", WARNING, say("doctor.device", name="cpu"), text, {"device": "cpu", "driver": driver})
    elif not count:
        yield Finding("device", OK, say("doctor.device", name="cpu"), say("doctor.no_gpu"), {"device": "cpu"})


def _driver() -> str | None:
    """The version of the NVIDIA driver; None where none is loaded, or this is not Linux."""
    try:
        found = re.search(r"Module\s+(?:for \S+\s+)?(\d[\d.]+)", DRIVER.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None
    return found[1] if found else None


def _int4() -> Iterator[Finding]:
    """The product for a layer of the 14B's size on each device that is here."""
    import torch

    from .running.int4_kernel import kernel_on

    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    for device in devices:
        kernel = kernel_on(device)
        level = OK if kernel.product == "int4pack" else WARNING
        facts: dict[str, Any] = {"device": str(device), "product": kernel.product, "reason": kernel.reason}
        facts["check_seconds"] = None if kernel.seconds is None else round(kernel.seconds, 4)
        yield Finding("int4", level, say("doctor.int4", device=device), kernel.text, facts)


def _speeds() -> Iterator[Finding]:
    """What this machine has learned about its speed."""
    known = [(name, found) for name in speeds.names() if (found := speeds.estimate(name)) is not None]
    if not known:
        yield Finding("speeds", OK, say("speeds.title"), say("speeds.none", enough=speeds.ENOUGH), {})
    for name, found in known:
        text = say(
            "speeds.text", name=name.partition(" ")[2], runs=found.runs, load=f"{found.load_seconds:.1f}",
            vision=f"{found.vision_seconds:.2f}", speed=f"{found.speed:.1f}",
        )  # fmt: skip
        yield Finding("speeds", OK, say("speeds.title"), text, {"name": name, **asdict(found)})


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


def _pictures() -> Iterator[Finding]:
    """How a picture comes out of the clipboard and onto the screen."""
    from .pictures import clipboard, terminal

    package, there = clipboard.missing_tool(), clipboard.has_display()
    text = say("doctor.ok" if there else "doctor.clipboard_none")
    if package is not None:
        text = say("doctor.clipboard_missing", package=package)
    facts = {"missing": package, "display": there}
    yield Finding("clipboard", OK if package is None else WARNING, say("doctor.clipboard"), text, facts)
    shows = terminal.protocol()
    text = say("doctor.no_pictures") if shows is None else shows
    yield Finding("pictures", OK, say("doctor.pictures"), text, {"protocol": shows})


def _font() -> Iterator[Finding]:
    """The font of the labels on drawn boxes can be read and has Chinese characters."""
    from PIL import ImageFont

    from bellevl.drawing import FONT

    wide = ImageFont.truetype(str(FONT), 20).getbbox("狗")
    good = wide[2] > wide[0]
    yield Finding("font", OK if good else ERROR, say("doctor.font"), FONT.name, {"file": str(FONT), "chinese": good})


def _config() -> Iterator[Finding]:
    """The configuration file: whether it can be read, and how many settings it makes."""
    path = settings.config_path()
    facts: dict[str, Any] = {"file": str(path), "exists": path.is_file()}
    try:
        made = [key.name for key in KEYS if settings.sourced(key.name)[1] == "config"]
    except BellevlError as error:
        yield Finding("config", ERROR, say("doctor.config"), cause(error), facts | {"error": error.message})
        return
    text = say("doctor.config_text", path=path, count=len(made)) if path.is_file() else say("doctor.config_none")
    yield Finding("config", OK, say("doctor.config"), text, facts | {"settings": made})


def _model() -> Iterator[Finding]:
    try:
        chosen = plan(ModelOptions())
        digest, kind = _model_hash(chosen.choice.folder)
    except BellevlError as error:
        yield Finding("model", ERROR, say("doctor.model"), cause(error), {"error": error.message})
        return
    text = f"{chosen.choice.name}, {chosen.quantization_name or chosen.config.torch_dtype}, {chosen.choice.folder}"
    text += f", {say(kind, digest=digest[:12])}" if digest else ""
    facts = {"folder": str(chosen.choice.folder), "chosen_by": chosen.choice.source, "sha256": digest}
    yield Finding("model", OK, say("doctor.model"), text, facts)


def _model_hash(folder: Path) -> tuple[str, str]:
    """(one hash over all files' hashes, message id): the files' own where they are small, else the recorded ones."""
    if recorded := records.fingerprint(folder):
        return recorded, "doctor.recorded"
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    if sum(path.stat().st_size for path in paths) > HASHED_BYTES:
        return "", ""
    return records.combined({path.name: records.sha256(path) for path in paths}), "doctor.hashed"


def _last_error() -> Iterator[Finding]:
    """When something last went wrong, and where its traceback is."""
    try:
        path = state_folder() / "last-error.txt"
        changed = path.stat().st_mtime if path.is_file() else None
    except OSError:
        return
    if changed is not None:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed))
        facts = {"file": str(path), "time": int(changed)}
        yield Finding("last_error", OK, say("doctor.last_error"), f"{when}, {path}", facts)


#: Everything but the answer, in the order it is printed.
CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _torch, _memory, _devices, _int4, _config, _folders, _heic, _font, _pictures, _terminal, _model,
    _speeds, _last_error,
)  # fmt: skip
