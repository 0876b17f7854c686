"""What a person is told about a picture: its size, its kind, and what was done to it when it was opened."""

from __future__ import annotations

from bellevl.image import Picture

from ..words import say

#: EXIF orientation -> what opening did about it.
_TURNED = {
    2: "picture.mirrored", 3: "picture.turned_180", 4: "picture.mirrored", 5: "picture.turned_mirrored",
    6: "picture.turned_90", 7: "picture.turned_mirrored", 8: "picture.turned_270",
}  # fmt: skip

_NOTES = {
    "matte": "picture.note_matte",
    "depth": "picture.note_depth",
    "colours": "picture.note_colours",
    "frame": "picture.note_frame",
    "reduced": "picture.note_reduced",
    "crop": "picture.note_crop",
}


def notes(picture: Picture) -> list[str]:
    """What was done to it, a phrase each; nothing where it is as the file has it."""
    told = [say(_TURNED[picture.orientation])] if picture.orientation in _TURNED else []
    return told + [say(_NOTES[note]) for note in picture.notes if note in _NOTES]


def facts(picture: Picture) -> str:
    """Size, kind and notes in one line."""
    width, height = picture.size
    return "  ".join([f"{width}×{height}", *([picture.format] if picture.format else []), *notes(picture)])
