"""What `--json` prints about an answer. answer.schema.json beside this file says the same for programs.

Keys stay as they are; new ones may come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bellevl import __version__

from ..options import SamplingOptions
from ..pictures.asked import AskedPicture
from ..pictures.boxes import PlacedBox
from ..running.session import Session
from ..running.starting import settled
from ..screen.clean import typed_text

if TYPE_CHECKING:
    from bellevl.chat import Piece, Stats


def answer_record(
    session: Session,
    asked: AskedPicture | None,
    text: str,
    piece: Piece,
    sampling: SamplingOptions,
    warnings: Sequence[str],
    *,
    boxes: Sequence[PlacedBox] = (),
    bad_boxes: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """The one record. `more` are what was asked for besides: "data", "agreement", "images" and the like."""
    assert piece.stats is not None
    params = asdict(settled(sampling, session.plan))
    params.pop("seed")
    return {
        "text": text,
        "boxes": box_record(boxes),
        "bad_boxes": list(bad_boxes),
        "image": None if asked is None else image_record(session, asked),
        "model": session.plan.choice.name,
        "quantization": session.plan.quantization_name,
        "seed": sampling.seed,
        "params": params,
        "usage": usage(piece.stats),
        "timings": timings(session, piece.stats),
        "finish_reason": piece.finish_reason,
        "warnings": list(warnings),
        "version": __version__,
        **more,
    }


def image_record(session: Session, asked: AskedPicture) -> dict[str, Any]:
    """Where a picture came from, its size upright, the part that was asked about (null: all), the size seen."""
    visual = session.plan.config.visual
    assert visual is not None
    return {
        "path": asked.name if asked.picture.path is None else typed_text(str(asked.picture.path)),
        "sha256": asked.sha256,
        "size": list(asked.uncut.size),
        "area": None if asked.area is None else list(asked.area),
        "seen": [visual.image_size, visual.image_size],
    }


def box_record(boxes: Sequence[PlacedBox]) -> list[dict[str, Any]]:
    """Boxes in pixels and in thousandths of the whole upright picture."""
    return [{"label": b.label, "xyxy_px": list(b.xyxy_px), "xyxy_1000": list(b.xyxy_1000)} for b in boxes]


def usage(stats: Stats) -> dict[str, int]:
    return {"prompt_tokens": stats.prompt_tokens, "completion_tokens": stats.new_tokens}


def timings(session: Session, stats: Stats) -> dict[str, float]:
    """Seconds."""
    return {
        "load_seconds": round(session.load_seconds, 3),
        "vision_seconds": round(stats.vision_seconds, 3),
        "prefill_seconds": round(stats.prefill_seconds, 3),
        "first_token_seconds": round(stats.vision_seconds + stats.prefill_seconds, 3),
        "decode_seconds": round(stats.decode_seconds, 3),
    }
