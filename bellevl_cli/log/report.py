"""A dialogue as one HTML file: the picture and its boxes inside, no script, nothing fetched, everything escaped.

The picture is in the file once; answers with boxes show it again with the boxes drawn over it.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence
from html import escape

from bellevl import __version__
from bellevl.grounding import FULL, read_grounding

from ..pictures.boxes import PlacedBox
from ..screen.clean import clean, clean_line
from ..words import language, say
from .listing import how_it_ended
from .records import StoredThread, StoredTurn
from .report_pictures import ReportPicture, boxes_of, colours

#: No script runs and nothing is fetched, whatever an answer says: the browser is told so too.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ink: #1c1d21; --soft: #6b6e76; --line: #e3e4e8; --paper: #fff; --mark: #f5f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e9ec; --soft: #9a9da6; --line: #34363c; --paper: #18191c; --mark: #222429 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.75 system-ui, -apple-system, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem 2rem }
h1 { font-size: 1.6rem; line-height: 1.35; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; line-height: 1.5; margin: 2.25rem 0 .5rem; white-space: pre-wrap; overflow-wrap: anywhere }
.facts, figcaption, .ending, footer { color: var(--soft); font-size: .85rem }
.answer { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
figure { margin: 1.25rem 0; break-inside: avoid }
figure svg { display: block; width: 100%; height: auto; border-radius: 10px }
figcaption { margin-top: .5rem; overflow-wrap: anywhere }
.gone { background: var(--mark); border-radius: 10px; padding: 1rem 1.25rem; color: var(--soft); font-size: .9rem }
.thread + .thread { margin-top: 3.5rem; border-top: 1px solid var(--line); padding-top: 2.5rem }
.name { font-weight: 600 }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem }
@media print { body { font-size: 11pt; background: #fff; color: #000 } main { max-width: none; padding: 0 }
  h2 { break-after: avoid } figure svg { max-height: 14cm; border-radius: 0 }
  .thread + .thread { break-before: page; border: 0; padding: 0; margin: 0 } }
"""

#: The most height that a picture takes, in rem.
HIGHEST = 34

#: Of the picture's longer side: the height of a label's letters.
LETTERS = 1 / 38


def html_report(threads: Sequence[StoredThread], pictures: Sequence[ReportPicture | str | None]) -> str:
    """The whole file; `pictures` are those of `threads`, a sentence for one that is gone."""
    title = clean_line(threads[0].name or "") or say("export.title")
    parts = [_thread(at, *pair) for at, pair in enumerate(zip(threads, pictures, strict=True), start=1)]
    models = "、".join(dict.fromkeys(clean_line(thread.model) for thread in threads if thread.model))
    made = say("export.made", version=__version__, model=models or "-")
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if language() == "zh" else "en"}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f"{''.join(parts)}<footer>{escape(made)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _thread(number: int, thread: StoredThread, picture: ReportPicture | str | None) -> str:
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(thread.created)) if thread.created else ""
    facts = " · ".join(filter(None, (begun, clean_line(thread.own_system or ""))))
    id = f"picture-{number}"
    shown = picture if isinstance(picture, ReportPicture) else None
    size = shown.size if shown else thread.picture_size or (FULL, FULL)
    turns = "".join(_turn(turn, id, shown, boxes_of(turn, size, thread.picture_area)) for turn in thread.turns)
    return f'<section class="thread">\n<p class="facts">{escape(facts)}</p>\n{_figure(id, picture)}{turns}</section>\n'


def _figure(id: str, picture: ReportPicture | str | None) -> str:
    """The picture and its name; what is said where it is gone."""
    if picture is None:
        return ""
    if isinstance(picture, str):
        return f'<p class="gone">{escape(clean_line(picture))}</p>\n'
    name, (width, height) = clean_line(picture.name), picture.size
    pixels = say("export.pixels", width=width, height=height)
    caption = f"{name} · {pixels}"
    across, down = picture.image.size
    image = f'<image id="{id}" href="{picture.url}" width="{across}" height="{down}"/>'
    return f"<figure>{_svg(picture, name, image)}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _turn(turn: StoredTurn, id: str, picture: ReportPicture | None, boxes: Sequence[PlacedBox]) -> str:
    text = _answer(read_grounding(turn.answer).text, boxes)
    drawn = ""
    if boxes and picture is not None:
        inside = f'<use href="#{id}"/>' + _boxes(boxes, picture.image.size)
        drawn = f"<figure>{_svg(picture, ', '.join(b.label for b in boxes), inside)}</figure>\n"
    ending = how_it_ended(turn)
    ended = f'<p class="ending">{escape(ending)}</p>\n' if ending else ""
    return f'<h2>{escape(clean(turn.question))}</h2>\n<p class="answer">{text}</p>\n{ended}{drawn}'


def _svg(picture: ReportPicture, label: str, inside: str) -> str:
    across, down = picture.image.size
    widest = f"max-width: {HIGHEST * across / down:.1f}rem"
    return (
        f'<svg viewBox="0 0 {across} {down}" style="{widest}" role="img" aria-label="{escape(clean_line(label))}">'
        f"{inside}</svg>"
    )


def _answer(text: str, boxes: Sequence[PlacedBox]) -> str:
    """An answer, escaped, the names of boxes in their colours."""
    escaped = escape(clean(text).strip())
    colour = colours(boxes)
    for box in boxes:
        name = f"{escape(clean(box.label))}[{box.number}]"
        marked = f'<span class="name" style="color: {colour[box.label]}">{name}</span>'
        escaped = re.sub(re.escape(name), lambda _, marked=marked: marked, escaped, count=1)  # type: ignore[misc]
    return escaped


def _boxes(boxes: Sequence[PlacedBox], size: tuple[int, int]) -> str:
    colour = colours(boxes)
    return "".join(_box(box, colour[box.label], size) for box in boxes)


def _box(box: PlacedBox, colour: str, size: tuple[int, int]) -> str:
    """A rectangle and its label, which stays inside of the picture."""
    across, down = size
    x1, y1, x2, y2 = (n * side / FULL for n, side in zip(box.xyxy_1000, (across, down, across, down), strict=True))
    letters = max(across, down) * LETTERS
    caption = clean_line(f"{box.label}[{box.number}]")
    width, height = letters * (_ems(caption) + 0.7), letters * 1.5
    left = max(0.0, min(x1, across - width))
    top = y1 - height if y1 >= height else min(y1, down - height)
    return (
        f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" fill="none" stroke="{colour}" '
        f'stroke-width="{letters / 7:.1f}"/><rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" fill="{colour}"/><text x="{left + letters * 0.35:.1f}" y="{top + letters * 1.08:.1f}" '
        f'font-size="{letters:.1f}" font-weight="600" fill="#fff">{escape(caption)}</text>'
    )


def _ems(text: str) -> float:
    """How wide a text is, in letters' heights."""
    return sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in text)
