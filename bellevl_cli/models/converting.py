"""`bellevl convert`: a model in another form, and how far that is."""

from __future__ import annotations

from pathlib import Path

from bellevl.config import read_config
from bellevl.errors import QuantizeError

from .. import guard
from ..running.preflight import readable_bytes
from ..screen.clean import clean_line, typed_text
from ..screen.render import Renderer
from ..words import say


def run_gguf(source: Path, path: Path, renderer: Renderer | None = None) -> None:
    """Writes a GGUF file. Raises CheckpointError, QuantizeError; what was begun is removed."""
    guard.install()
    renderer = renderer or Renderer()
    read_config(source)
    if path.exists():
        raise QuantizeError("quantize.file_exists", path=path)
    from quantize.storage.gguf_file import write_gguf

    name = clean_line(typed_text(path.name))

    def tell(done: float) -> None:
        renderer.stage(say("convert.progress", done=f"{100 * done:.0f}%", name=name))

    size = write_gguf(source, path, tell)
    renderer.say("convert.done", name=name, size=readable_bytes(size))
