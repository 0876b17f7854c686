"""`bellevl see`: the picture as the model sees it, and what may be lost in that. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bellevl.errors import CheckpointError, PictureError

from ..options import ModelOptions
from ..running.session import plan
from ..screen.clean import clean_line, json_line, typed_text
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..words import say
from . import told
from .asked import AskedPicture
from .looks import Looks, measure, seen
from .saving import checked_target, save_image
from .terminal import shown
from .wishes import PictureWishes

#: Lines that the picture takes on the terminal: more than in the chat, for it is all there is to see.
ROWS = 16

#: Warning of `Looks` -> its message.
_WARNINGS = {"aspect": "see.aspect", "text": "see.text", "plain": "see.plain", "dark": "see.dark", "blur": "see.blur"}


@dataclass(frozen=True)
class SeeOptions:
    picture: str | None
    output: Path | None = None
    json: bool = False
    model: Path | str | None = None
    wishes: PictureWishes = field(default_factory=PictureWishes)


def run(options: SeeOptions, renderer: Renderer | None = None) -> None:
    """Raises PictureError, CheckpointError, and OSError where the square cannot be written."""
    renderer = renderer or Renderer()
    if options.output is not None:
        checked_target(options.output)
    asked = open_wished(options.picture, options.wishes)
    if options.output is not None:
        checked_target(options.output, asked.uncut)
    chosen = plan(ModelOptions(options.model))
    visual = chosen.config.visual
    if visual is None:
        raise CheckpointError("model.text_only", folder=chosen.choice.folder)
    looks = measure(asked.picture, visual.image_size)
    square = seen(asked.picture.image, visual.image_size)
    if options.output is not None:
        save_image(square, options.output)
    if options.json:
        record = see_record(asked, looks, visual.image_size, chosen.choice.name, options.output)
        renderer.line(json_line(record))
        return
    if drawn := shown(square, ROWS):
        renderer.out.write(drawn)
    for line in table_lines(_rows(asked, looks, visual.image_size, visual.n_queries, options.output)):
        renderer.line(line)


def open_wished(argument: str | None, wishes: PictureWishes) -> AskedPicture:
    """The picture that was named or copied, cut as was asked. Raises PictureError."""
    wishes.check()
    if wishes.clip:
        from .clipboard import read_picture

        return wishes.cut(read_picture())
    if argument is None:
        raise PictureError("picture.missing", path='""', folder=Path.cwd(), near="")
    return wishes.open(argument)


def warning_texts(looks: Looks) -> list[str]:
    """What to warn of, in the person's language."""
    facts: dict[str, dict[str, object]] = {
        "aspect": {"ratio": f"{looks.aspect:.1f}"},
        "text": {"pixels": round(looks.text_height_seen or 0)},
    }
    return [say(_WARNINGS[name], **facts.get(name, {})) for name in looks.warnings]


def see_record(
    asked: AskedPicture, looks: Looks, image_size: int, model: str, output: Path | None = None
) -> dict[str, Any]:
    """What `--json` prints. Keys stay as they are; new ones may come."""
    picture = asked.picture
    return {
        "image": {
            "path": asked.name if picture.path is None else typed_text(str(picture.path)),
            "sha256": asked.sha256,
            "size": list(asked.uncut.size),
            "format": picture.format,
            "orientation": picture.orientation,
            "notes": list(picture.notes),
            "area": None if asked.area is None else list(asked.area),
        },
        "model": model,
        "seen": [image_size, image_size],
        "saved": None if output is None else typed_text(str(output)),
        "aspect": round(looks.aspect, 3),
        "brightness": round(looks.brightness, 1),
        "contrast": round(looks.contrast, 1),
        "sharpness": None if looks.sharpness is None else round(looks.sharpness, 3),
        "text_height": None if looks.text_height is None else round(looks.text_height, 1),
        "text_height_seen": None if looks.text_height_seen is None else round(looks.text_height_seen, 1),
        "warnings": [
            {"id": name, "text": text} for name, text in zip(looks.warnings, warning_texts(looks), strict=True)
        ],
    }


def _rows(asked: AskedPicture, looks: Looks, size: int, tokens: int, output: Path | None) -> list[tuple[str, str]]:
    rows = [
        (say("see.picture"), f"{asked.name}  {told.facts(asked.picture)}"),
        (say("see.seen"), say("see.seen_text", size=size, tokens=tokens)),
    ]
    if output is not None:
        rows.append((say("see.saved"), clean_line(typed_text(str(output)))))
    warnings = warning_texts(looks)
    rows += [(say("see.warning"), text) for text in warnings] or [(say("see.good"), say("see.good_text"))]
    return rows
