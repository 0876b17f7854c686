"""Who has the memory: the program that takes the most of it, on this machine or on its GPU. Never raises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

#: Below this nobody is worth closing.
LEAST = 200_000_000

#: nvidia-smi may take this long; a driver in trouble answers never.
PATIENCE_SECONDS = 2.0

_QUERY = ("--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader,nounits")


def largest_user(device: str) -> tuple[str, int] | None:
    """(name, bytes) of the program that takes the most memory of `device`; None: nobody or nobody knows."""
    used = _gpu_users(_nvidia_smi()) if device.startswith("cuda") else _host_users(Path("/proc"))
    if not used:
        return None
    name, taken = used.most_common(1)[0]
    return (name, taken) if taken >= LEAST else None


def _host_users(proc: Path) -> Counter[str]:
    """Bytes in memory by program, from Linux's /proc; this process is not counted."""
    used: Counter[str] = Counter()
    try:
        folders = [entry for entry in os.scandir(proc) if entry.name.isdigit() and int(entry.name) != os.getpid()]
    except OSError:
        return used
    for folder in folders:
        status = _read(Path(folder.path) / "status")
        name = re.search(r"^Name:\s+(.+)$", status, re.MULTILINE)
        taken = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        if name and taken:
            used[name[1]] += int(taken[1]) * 1024
    return used


def _gpu_users(listing: str) -> Counter[str]:
    """Bytes by program, from nvidia-smi's list of "pid, name, MiB"."""
    used: Counter[str] = Counter()
    for line in listing.splitlines():
        found = re.fullmatch(r"\s*(\d+),\s*(.+?),\s*(\d+)\s*", line)
        if found and int(found[1]) != os.getpid():
            used[re.split(r"[/\\]", found[2])[-1]] += int(found[3]) << 20
    return used


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - no word of a person is in it
            [program, *_QUERY], capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
