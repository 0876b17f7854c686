"""`bellevl export` and the chat's /export: dialogues to an HTML file, or to a folder with Markdown and pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bellevl.drawing import Marked, draw_marked
from bellevl.errors import LogError
from bellevl.grounding import FULL, read_grounding
from bellevl.image import Picture

from .. import guard
from ..pictures.boxes import PlacedBox
from ..pictures.saving import save_image, write_whole
from ..screen.clean import clean, clean_line, typed_text
from ..screen.render import Renderer
from ..words import say
from . import open_kept
from .listing import how_it_ended
from .records import StoredThread, StoredTurn
from .report import html_report
from .report_pictures import ReportPicture, boxes_of, pictures_of

HTML, MARKDOWN = frozenset({".html", ".htm"}), frozenset({".md", ".markdown"})

#: What Markdown or HTML would take for its own; the second, at the beginning of a line.
_SIGNS = re.compile(r"([\\`*_\[\]<>#|~&$])")
_FIRST_SIGNS = re.compile(r"^(\s*)([-+=]|\d+(?=[.)]))", re.MULTILINE)


def run(which: str | None, output: Path | None, renderer: Renderer | None = None) -> None:
    """The command; says on stdout where the report is. Raises LogError, OSError."""
    guard.install()
    renderer = renderer or Renderer()
    with open_kept() as log:
        thread = log.thread(None if which is None else typed_text(which))
    path = export([thread], output or Path(f"bellevl-{thread.id}.html"), said=renderer.note)
    renderer.line(clean_line(typed_text(str(path))))


def export(
    threads: Sequence[StoredThread],
    path: Path,
    pictures: Mapping[str, Picture] | None = None,
    said: Callable[[str], object] = lambda text: None,
) -> Path:
    """Writes `threads` to `path` (.html: one file; .md: a folder of that name with the text and its pictures).

    `pictures` are those that are open already, by the thread's id; the others are opened again, and a report about one
    that is gone says so. Returns the file to open. Raises LogError for another ending, OSError.
    """
    ending = path.suffix.lower()
    if ending not in HTML | MARKDOWN:
        raise LogError("log.format", name=path.name)
    path = path.expanduser()
    found = [pictures_of(thread, pictures or {}, said) for thread in threads]
    if ending in HTML:
        write_whole(path, html_report(threads, found).encode("utf-8", "replace"))
        return path
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(_markdown(folder, at, *pair) for at, pair in enumerate(zip(threads, found, strict=True), start=1))
    write_whole(folder / path.name, text.encode("utf-8", "replace"))
    return folder / path.name


def _markdown(folder: Path, number: int, thread: StoredThread, picture: ReportPicture | str | None) -> str:
    """One thread; its pictures are written beside the text."""
    title = thread.name or say("export.title")
    lines = [f"# {_escaped(title)}", ""]
    if isinstance(picture, ReportPicture):
        name = f"picture-{number}.{picture.ending}"
        write_whole(folder / name, picture.data)
        width, height = picture.size
        pixels = say("export.pixels", width=width, height=height)
        caption = f"{picture.name} · {pixels}"
        lines += [f"![{_escaped(picture.name)}]({name})", "", _escaped(caption), ""]
    elif picture is not None:
        lines += [_escaped(picture), ""]
    for at, turn in enumerate(thread.turns, start=1):
        boxes = boxes_of(turn, picture.size, thread.picture_area) if isinstance(picture, ReportPicture) else []
        lines += _markdown_turn(folder / f"picture-{number}-boxes-{at}.png", turn, picture, boxes)
    return "\n".join(lines)


def _markdown_turn(
    path: Path, turn: StoredTurn, picture: ReportPicture | str | None, boxes: Sequence[PlacedBox]
) -> list[str]:
    lines = [f"## {_escaped(clean_line(turn.question))}", "", _escaped(read_grounding(turn.answer).text.strip()), ""]
    if ending := how_it_ended(turn):
        lines += [f"*{ending}*", ""]
    if boxes and isinstance(picture, ReportPicture):
        save_image(draw_marked(picture.image, [_marked(box, picture.image.size) for box in boxes]), path)
        lines += [f"![{_escaped(', '.join(box.label for box in boxes))}]({path.name})", ""]
    return lines


def _marked(box: PlacedBox, size: tuple[int, int]) -> Marked:
    """A box in the report's own, smaller picture."""
    x1, y1, x2, y2 = (round(n * side / FULL) for n, side in zip(box.xyxy_1000, (*size, *size), strict=True))
    return Marked(box.label, box.number, (x1, y1, x2, y2))


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, line ends kept."""
    text = _SIGNS.sub(r"\\\1", clean(text))
    text = _FIRST_SIGNS.sub(lambda found: f"{found[1]}{_behind_number(found[2])}", text)
    return re.sub(r"(?<=\S)\n(?=\S)", "  \n", text)


def _behind_number(sign: str) -> str:
    """ "-" -> "\\-"; of "1." the dot is what makes a list: a zero-width joint would do, a backslash reads better."""
    return f"{sign}\\" if sign.isdigit() else f"\\{sign}"
