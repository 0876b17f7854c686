"""Dense targets for pre-training the vision encoder: what each patch of a scene shows.

Patches are the cells of a `grid` x `grid` raster over the picture, row by row. Pure numpy; it does not
know the patch size in pixels or any model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import names
from .scene import N_COLOURS, TEXT_CLASS, Box, Scene

n_classes = 1 + TEXT_CLASS + len(names.CHARACTERS)  # background, shapes and emoji, printed characters
n_colours = 1 + N_COLOURS  # none, then names.COLOURS
n_scenes = 1 + len(names.SCENES)  # plain, then names.SCENES


@dataclass(frozen=True)
class PatchTargets:
    """One scene's targets, P = grid * grid patches. A patch belongs to the thing (or printed character)
    that covers most of it, if that is at least a twelfth of the patch or of the thing.

    classes [P] int64: 0 background, 1 + class id, or 1 + TEXT_CLASS + index into names.CHARACTERS
    colours [P] int64: 0 none, 1 + colour id
    boxes [P, 4] float32: (x0, y0, x1, y1) in 0..1 of the thing that owns the patch, zeros where none does
    centre [P] bool: the owner's centre lies in this patch
    occupied [P] bool: some thing owns the patch
    scene int: 0 plain, 1 + scene id
    """

    classes: np.ndarray
    colours: np.ndarray
    boxes: np.ndarray
    centre: np.ndarray
    occupied: np.ndarray
    scene: int


def _owners(scene: Scene) -> list[tuple[Box, int, int]]:
    """Box, patch class and patch colour of everything that can own patches."""
    things = [(t.box, 1 + t.class_id, 1 + t.colour_id) for t in scene.objects]
    first = 1 + TEXT_CLASS
    return things + [(g.box, first + names.CHARACTERS.index(g.character), 0) for g in scene.glyphs]


def coverage(boxes: np.ndarray, grid: int) -> np.ndarray:
    """Area shared by each box [N, 4] and each patch, as a share of one patch: float64 [N, grid * grid]."""
    edges = np.arange(grid) / grid

    def overlap(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.clip(np.minimum(high[:, None], edges + 1 / grid) - np.maximum(low[:, None], edges), 0, None)

    across, down = overlap(boxes[:, 0], boxes[:, 2]), overlap(boxes[:, 1], boxes[:, 3])
    return (down[:, :, None] * across[:, None, :]).reshape(len(boxes), -1) * grid * grid


def patch_targets(scene: Scene, grid: int = 8) -> PatchTargets:
    """The dense targets of a scene on a `grid` x `grid` raster."""
    patches = grid * grid
    owners = _owners(scene)
    boxes = np.array([box for box, _, _ in owners], dtype=np.float64).reshape(-1, 4)
    covered = coverage(boxes, grid) if owners else np.zeros((1, patches))
    area = covered.sum(1, keepdims=True)
    owner = covered.argmax(0)
    enough = np.maximum(covered, covered / np.maximum(area, 1e-9)) >= 1 / 12
    occupied = enough[owner, np.arange(patches)] if owners else np.zeros(patches, bool)
    classes, colours = np.zeros(patches, np.int64), np.zeros(patches, np.int64)
    box_of, centre = np.zeros((patches, 4), np.float32), np.zeros(patches, bool)
    if owners:
        table = np.array([(a, b) for _, a, b in owners], dtype=np.int64)
        classes, colours = np.where(occupied, table[owner, 0], 0), np.where(occupied, table[owner, 1], 0)
        box_of[occupied] = boxes[owner[occupied]]
        middle = np.minimum((boxes[:, :2] + boxes[:, 2:]) / 2 * grid, grid - 1).astype(int)
        cells = middle[:, 1] * grid + middle[:, 0]
        centre[cells[owner[cells] == np.arange(len(owners))]] = True
    return PatchTargets(classes, colours, box_of, centre, occupied, 1 + scene.scene_id)
