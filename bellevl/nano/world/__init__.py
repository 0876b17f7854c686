"""The picture world: what there is (names), how it is drawn (drawing, backgrounds, layout), whole scenes, and what
every patch of one shows (targets). Knows no question, no token and no model."""

from __future__ import annotations

from .scene import Mix as Mix
from .scene import Scene as Scene
from .scene import Split as Split
from .scene import Thing as Thing
from .scene import draw_scene as draw_scene
from .scene import scene_rng as scene_rng
