"""The embedded model: its picture world, its recipe and its int4 checkpoint. Importing this package costs nothing."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """The folder of the embedded int4 model."""
    return Path(__file__).parent / "model"
