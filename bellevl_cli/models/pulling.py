"""`bellevl pull`: a model from a hub, gone on with where it was stopped, every file's hash checked as it arrives.

NAME.part/            what is there so far; renamed to NAME when it is complete, so NAME is complete or absent
NAME.part/.FILE.HASH.incomplete   a file that is being downloaded
NAME.part/download.json           the files that are finished, and where they come from
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from bellevl.config import read_config
from bellevl.errors import CheckpointError, HubError

from ..exits import INTERRUPTED, LeaveError
from ..running.preflight import readable_bytes
from ..screen.clean import clean_line, typed_text
from ..screen.render import Renderer
from ..settings import UNFINISHED, config_value, models_folder
from ..words import say
from . import records
from .fetching import Fetcher
from .hub import Hub, Listing, RemoteFile

try:
    import fcntl
except ImportError:  # not on Windows: there nobody keeps a second process off
    fcntl = None  # type: ignore[assignment]

#: BELLE-VL-14B where its makers published it.
PUBLISHED = "BELLE-2/BELLE-VL"

#: What of a repository is a model's data; code, pictures and fonts stay where they are.
FILES = (
    "config.json", "generation_config.json", "quantize_config.json", "qwen.tiktoken", "receipt.json", "accuracy.json",
    "readme.md", "license*", "notice*",
)  # fmt: skip
SAFE = ("*.safetensors", "*.safetensors.index.json")
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")

LOCK = ".lock"

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class PullOptions:
    """What was asked on the command line; None is the default."""

    repo: str | None = None
    source: str = "hf"
    endpoint: str | None = None
    revision: str | None = None
    to: Path | None = None


def run(options: PullOptions, renderer: Renderer | None = None) -> None:
    """Downloads. Raises HubError, CheckpointError (a wrong hash, a model of another family), LeaveError(130)."""
    renderer = renderer or Renderer()
    repo = options.repo or PUBLISHED
    _check_source(options.source, repo)
    hub = _open_hub(options)
    renderer.stage(say("pull.asking", repo=repo))
    listing = hub.listing(repo, options.revision)
    files = wanted(listing)
    target = options.to.expanduser() if options.to else models_folder() / repo.partition("/")[2]
    if _is_current(target, listing, files):
        renderer.say("pull.there", name=target.name, commit=listing.commit[:8], folder=_name(target))
        return
    try:
        with _work_folder(target, repo) as work:
            Pull(hub, listing, files, target, work, renderer).run()
    except KeyboardInterrupt as error:
        renderer.say("pull.interrupted")
        raise LeaveError(INTERRUPTED) from error
    _say_next(target, renderer)


def wanted(listing: Listing) -> list[RemoteFile]:
    """The model's files: small ones first, config.json before all. Raises HubError where it is no model."""
    flat = [file for file in listing.files if Path(file.name).name == file.name]
    weights = _matching(flat, SAFE)
    if not any(file.name.endswith(".safetensors") for file in weights):
        weights = _matching(flat, PICKLED)
    files = _matching(flat, FILES) + weights
    names = {file.name for file in files}
    for missing in ("config.json", "qwen.tiktoken"):
        if missing not in names:
            raise HubError("pull.nothing", repo=listing.repo, missing=missing)
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise HubError("pull.nothing", repo=listing.repo, missing="*.safetensors")
    return sorted(files, key=lambda f: (f.name != "config.json", f.name.endswith((".safetensors", ".bin")), f.name))


class Pull:
    """One download of `files` into the folder `work`, which becomes `target`."""

    def __init__(
        self, hub: Hub, listing: Listing, files: list[RemoteFile], target: Path, work: Path, renderer: Renderer
    ) -> None:
        self.hub, self.listing, self.files = hub, listing, files
        self.target, self.work, self.renderer = target, work, renderer
        self.source = records.Source(listing.repo, listing.commit, hub.endpoint, hub.name)
        self.done: dict[str, records.Expected] = {}

    def run(self) -> None:
        self._take_over(self.work)
        self._take_over(self.target)
        fetcher = Fetcher(self.hub, self.listing, self.files, self.work, self.renderer)
        have = sum(file.bytes for file in self.files if file.name in self.done)
        fetcher.skip(have)
        self._begin(fetcher.total, have + fetcher.begun())
        for file in self.files:
            if file.name not in self.done:
                digest = fetcher.fetch(file)
                self.done[file.name] = records.Expected(file.bytes, digest)
                records.write_download(self.work, self.source, self.done)
            if file == self._last_small():
                self._check_family()
        records.write_download(self.work, self.source, self.done)
        self._finish(fetcher.total)

    def _begin(self, total: int, have: int) -> None:
        """Says what comes. Raises HubError where the disk is too small for it."""
        repo = self.listing.repo
        self.renderer.say(
            "pull.found", repo=repo, commit=self.listing.commit[:8], count=len(self.files),
            size=readable_bytes(total), folder=_name(self.target),
        )  # fmt: skip
        if have:
            self.renderer.say("pull.resume", size=readable_bytes(have))
        free, need = shutil.disk_usage(self.work).free, total - have
        if need > free:
            sizes = {"need": readable_bytes(need), "free": readable_bytes(free)}
            raise HubError("pull.disk", repo=repo, folder=self.work.parent, **sizes)

    def _take_over(self, folder: Path) -> None:
        """Files of an earlier download in `folder` that are still what the hub has."""
        known = records.expected_files(folder) if folder.is_dir() else {}
        for file in self.files:
            path, row = folder / file.name, known.get(file.name)
            if file.name not in self.done and row is not None and _same(path, row, file):
                if folder != self.work and not _linked(path, self.work / file.name):
                    continue
                self.done[file.name] = row

    def _last_small(self) -> RemoteFile:
        """The last file before the weights."""
        return [file for file in self.files if not file.name.endswith((".safetensors", ".bin"))][-1]

    def _check_family(self) -> None:
        """Before gigabytes are downloaded: is this a model of the family? Raises CheckpointError."""
        try:
            read_config(self.work)
        except CheckpointError:
            shutil.rmtree(self.work, ignore_errors=True)
            raise

    def _finish(self, total: int) -> None:
        """The folder gets its name; a model that was there before goes when the new one stands."""
        for left in (*self.work.glob(".*.incomplete"), self.work / LOCK):
            left.unlink(missing_ok=True)
        old = self.target.with_name(f"{self.target.name}.old{UNFINISHED}")
        shutil.rmtree(old, ignore_errors=True)
        if self.target.exists():
            os.rename(self.target, old)
        os.rename(self.work, self.target)
        shutil.rmtree(old, ignore_errors=True)
        size, folder = readable_bytes(total), _name(self.target)
        self.renderer.say("pull.done", name=_name(Path(self.target.name)), size=size, folder=folder)


def _open_hub(options: PullOptions) -> Hub:
    """The setting names a mirror of huggingface.co; another hub's address is the option's."""
    if options.source == "modelscope":
        from .hub_modelscope import ModelScope

        return ModelScope(options.endpoint)
    return Hub(config_value("endpoint", option=options.endpoint))


def _check_source(source: str, repo: str) -> None:
    """Raises HubError for a hub that is not known, and for a name that no repository has."""
    if source not in ("hf", "huggingface", "modelscope"):
        raise HubError("pull.source", source=source)
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise HubError("pull.name", repo=repo, example=PUBLISHED)


def _matching(files: list[RemoteFile], patterns: tuple[str, ...]) -> list[RemoteFile]:
    return [file for file in files if any(fnmatch(file.name.lower(), pattern) for pattern in patterns)]


def _is_current(target: Path, listing: Listing, files: list[RemoteFile]) -> bool:
    """Whether `target` holds this commit already, every file in its size. Raises HubError when it is something else."""
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return False
    source = records.source_of(target) if target.is_dir() else None
    if source is None or source.repo != listing.repo:
        raise HubError("pull.other", folder=target, repo=listing.repo)
    known = records.expected_files(target)
    return source.commit == listing.commit and all(_is_there(target, file, known) for file in files)


def _is_there(folder: Path, file: RemoteFile, known: dict[str, records.Expected]) -> bool:
    path = folder / file.name
    return file.name in known and path.is_file() and path.stat().st_size == file.bytes


def _same(path: Path, row: records.Expected, file: RemoteFile) -> bool:
    """Whether a finished file is the hub's. One whose SHA-256 the hub does not know is small and looked at again."""
    if not path.is_file() or not path.stat().st_size == row.bytes == file.bytes:
        return False
    return row.sha256 == file.sha256 if file.sha256 else records.git_sha1(path) == file.git_sha1


def _linked(path: Path, there: Path) -> bool:
    """`path` in a second folder without a second copy; False where the disk cannot do that."""
    with suppress(OSError):
        there.unlink(missing_ok=True)
        os.link(path, there)
        return True
    return False


@contextmanager
def _work_folder(target: Path, repo: str) -> Iterator[Path]:
    """The folder of the unfinished download, this process's alone. Raises HubError."""
    work = target.with_name(target.name + UNFINISHED)
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = open(work / LOCK, "w", encoding="utf-8")  # noqa: SIM115 - held until the download ends
    except OSError as error:
        raise HubError("disk.denied", path=work, reason=error.strerror or error) from error
    with lock:
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HubError("pull.busy", folder=work) from error
        source = records.source_of(work)
        if source is not None and source.repo != repo:
            raise HubError("pull.other", folder=work, repo=repo)
        yield work


def _say_next(target: Path, renderer: Renderer) -> None:
    """The command that comes next: int4 for a large float model, a question for the rest."""
    from bellevl.sizes import weight_bytes

    from ..running.preflight import SMALL

    config, quantization = read_config(target)
    if quantization is None and weight_bytes(config, None) > SMALL:
        int4 = target.with_name(f"{target.name}-int4")
        renderer.say("pull.next_quantize", source=_quoted(target), target=_quoted(int4))
    else:
        renderer.say("pull.next_ask", name=_quoted(target if target.parent != models_folder() else Path(target.name)))


def _quoted(path: Path) -> str:
    return shlex.quote(_name(path))


def _name(path: Path) -> str:
    return clean_line(typed_text(str(path)))
