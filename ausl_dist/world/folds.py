"""The folds that action units make in the skin: where they run, and how much light they take.

Geometry alone moves the skin smoothly; what makes a frown or a smile seen at once is the fold.
Folds lie around the 68 landmarks, in the chart, so that any head can have them. Where they run
follows the FACS manual (Ekman, Friesen and Hager, 2002).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import MIRROR
from ausl_dist.world.atlas import SKIN_HEIGHT, WIDTH, Mask, both_sides, rounded, soft_mask

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Fold:
    """The folds of one action unit: a part of the atlas, and the share of light it loses there
    at intensity 5 (below 0: gains).
    """

    left: int
    top: int
    darkening: Floats  # h w


# Points of the right side of the face that folds are measured from, as means of landmarks; x of
# those on the midline is 0.
ANCHORS: dict[str, tuple[int, ...]] = {
    "brow in": (22,), "brow mid": (24,), "brow out": (26,), "eye in": (42,), "lid in": (43,),
    "lid out": (44,), "eye out": (45,), "below eye": (46, 47), "wing": (35,), "corner": (54,),
    "lip top": (51,), "lip upper": (52,), "lip side": (53,), "lip bottom": (57,),
    "lip lower": (56,), "lip low side": (55,), "chin": (8,), "forehead": (21, 22), "root": (39, 42),
    "bridge": (28,),
}  # fmt: skip

Point = tuple[str, float, float]  # anchor, mm right and down of it

# For each action unit the width of its folds in mm, and the lines they follow on the right side
# of the face.
FOLDS: dict[int, tuple[float, Sequence[Sequence[Point]]]] = {
    1: (1.6, [[("forehead", 0, -d), ("brow mid", 0, 3 - d)] for d in (13, 21, 29)]),
    2: (
        1.6,
        [
            [("brow mid", -4, -d), ("brow mid", 8, -d - 1), ("brow out", -2, 2 - d)]
            for d in (11, 18, 25)
        ],
    ),
    4: (
        1.8,
        [
            [("forehead", 5.5, 7), ("forehead", 5, -8)],
            [("root", 1, -8), ("root", 6, -10)],
            [("brow in", -2, 5), ("brow mid", -6, 7)],
        ],
    ),
    6: (
        1.4,
        [
            *([("eye out", 5, d), ("eye out", 15, 2.4 * d - 1)] for d in (-3, 0, 3)),
            [("eye in", 2, 8), ("below eye", -2, 9), ("below eye", 8, 8.5), ("eye out", 4, 7)],
        ],
    ),
    7: (1.2, [[("eye in", 3, 4.5), ("below eye", 0, 4.5), ("eye out", -2, 4.5)]]),
    9: (
        1.5,
        [
            *([("bridge", 0.5, -d), ("bridge", 7, 4 - d)] for d in (1, 7)),
            [("wing", 4, -12), ("wing", 7, -2)],
        ],
    ),
    10: (2.0, [[("wing", 4, -7), ("wing", 11, 3), ("corner", 3, -13)]]),
    12: (2.0, [[("wing", 4, -4), ("wing", 13, 7), ("corner", 8, -7), ("corner", 8, 3)]]),
    14: (2.2, [[("corner", 4, -6), ("corner", 5.5, 0), ("corner", 4, 6)]]),
    15: (1.8, [[("corner", 1, 3), ("corner", 4, 10), ("corner", 4, 17)]]),
    17: (
        1.5,
        [
            [("lip bottom", 0, 6), ("lip bottom", 12, 8)],
            *(
                [("chin", x, -y), ("chin", x + 1.5, -y)]
                for x, y in ((2, 8), (7, 12), (3, 16), (10, 7), (12, 15))
            ),
        ],
    ),
    18: (
        1.1,
        [
            *([(p, 0, -2.5), (p, 0, -6)] for p in ("lip upper", "lip side")),
            *([(p, 0, 2.5), (p, 0, 6)] for p in ("lip lower", "lip low side")),
        ],
    ),
    20: (
        1.5,
        [[("corner", d, -8), ("corner", d + 1.5, 0), ("corner", d, 10)] for d in (8, 12)],
    ),
    23: (
        0.9,
        [
            *([(p, 0, 1), (p, 0, 2)] for p in ("lip top", "lip upper", "lip side")),
            *([(p, 0, -1), (p, 0, -2)] for p in ("lip bottom", "lip lower", "lip low side")),
        ],
    ),
    24: (
        1.6,
        [
            [("lip top", 0, -3), ("lip side", 0, -3)],
            [("lip bottom", 0, 3.5), ("lip low side", 2, 3.5)],
            [("corner", 2, -3), ("corner", 3, 3)],
        ],
    ),
    26: (3.0, [[("corner", 12, -12), ("corner", 11, 4), ("corner", 7, 20)]]),
    27: (3.0, [[("corner", 12, -12), ("corner", 11, 4), ("corner", 7, 20)]]),
    43: (
        1.0,
        [
            [
                ("eye in", 0, -1.3),
                ("lid in", 0, -1.3),
                ("lid out", 0, -1.3),
                ("eye out", 0, -1.3),
            ]
        ],
    ),
}


def fold_map(landmarks: Array, unit: int) -> Mask:
    """Light lost at full strength to the folds of an action unit, around landmarks [68, 2] of
    the chart (mm).
    """
    if unit not in FOLDS:
        return np.zeros((SKIN_HEIGHT, WIDTH), np.float32)
    even = (landmarks + landmarks[MIRROR] * [-1, 1]) / 2
    width, lines = FOLDS[unit]
    shapes = []
    for line in lines:
        points = np.stack(
            [
                even[list(ANCHORS[anchor])].mean(0) + np.array([right, down])
                for anchor, right, down in line
            ]
        )
        shapes += both_sides(rounded(points))
    fold, shadow = (
        soft_mask(shapes, 0.5 * width, 0.8 * width),
        soft_mask(shapes, 2.2 * width, 2 * width),
    )
    ridge = soft_mask([shape - [0, 1.8 * width] for shape in shapes], 1.2 * width, 1.2 * width)
    darkening: Mask = np.clip(0.4 * fold + 0.25 * shadow - 0.16 * ridge, -0.25, 0.5)
    return darkening


def make_folds(landmarks: Array, action_units: tuple[int, ...]) -> tuple[Fold | None, ...]:
    """The folds of each action unit, cut to where they are; None for a unit that makes none."""
    folds: list[Fold | None] = []
    for unit in action_units:
        darkening = fold_map(landmarks, unit)
        rows, columns = (np.flatnonzero(np.abs(darkening).max(axis) > 0.01) for axis in (1, 0))
        if len(rows):
            top, left = int(rows[0]), int(columns[0])
            folds.append(
                Fold(
                    left,
                    top,
                    np.ascontiguousarray(darkening[top : rows[-1] + 1, left : columns[-1] + 1]),
                )
            )
        else:
            folds.append(None)
    return tuple(folds)
