"""What each action unit does to the built-in head, and how heads differ in shape: tables of
bumps, and the fields made of them.

A bump moves the skin around a point of the face, on both sides alike: x, y, radius along x and
y, then how far it moves right (outwards), down and to the viewer; all in millimetres of the
mean face, at intensity 5 for action units and at one standard deviation for shape. What the
muscles do is read off the FACS manual (Ekman, Friesen and Hager, 2002); how far is ours.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ausl_dist.world.anatomy import Skin

Array = NDArray[np.float64]
Bump = tuple[float, float, float, float, float, float, float]

# Bumps on all skin, on what hangs on the upper jaw, on what hangs on the lower, and on the
# brows (which leave the lids behind).
SKIN_BUMPS: dict[int, Sequence[Bump]] = {
    6: [(40, 24, 17, 13, -1, -5.5, 4.5), (50, -3, 8, 8, -1, 1.5, 0)],
    9: [(14, 44, 8, 9, 1.5, -5, 1.5), (8, 10, 9, 12, -0.5, -2.5, 2)],
    10: [(18, 51, 8, 10, 1.5, -3, 2)],
    12: [(25, 73, 12, 11, 9, -9.5, -6), (42, 46, 17, 17, 1, -4, 5.5)],
    14: [(26, 73, 8, 9, 4.5, 0.5, -6), (35, 72, 7, 11, -2, 0, 3)],
    15: [(25, 74, 10, 10, 0.5, 8.5, -2), (30, 88, 12, 12, 0, 3, 1.5)],
    18: [(25, 73, 10, 10, -9, 0, 3), (0, 73, 18, 12, 0, 0, 7), (12, 73, 8, 9, -3.5, 0, 4)],
    20: [(26, 74, 12, 12, 9, 2.5, -5), (14, 78, 10, 8, 3, 1, -1)],
    23: [(25, 73, 9, 8, -4.5, 0, 1)],
    24: [(0, 93, 18, 8, 0, -2, 2.5), (26, 73, 6, 6, 0.5, 0, -2)],
}
UPPER_BUMPS: dict[int, Sequence[Bump]] = {
    9: [(8, 66, 12, 6, 0, -3, 0)],
    10: [(11, 67, 13, 6, 0, -4.5, 1.5), (5, 73, 13, 5, 0, -3.2, 1)],
    12: [(12, 68, 9, 6, 2, -0.5, -1)],
    17: [(0, 70, 15, 6, 0, -2.2, 1.5)],
    23: [(0, 66.5, 20, 4, 0, 2.8, -1)],
    24: [(0, 66.5, 22, 4, 0, 4.0, -2.5)],
    25: [(0, 72, 21, 6, 0, -2.4, 0)],
}
LOWER_BUMPS: dict[int, Sequence[Bump]] = {
    12: [(14, 78, 9, 8, 2.5, -2, -1)],
    17: [(0, 102, 20, 14, 0, -6, 3), (0, 81, 17, 8, 0, -5.5, 3)],
    23: [(0, 83, 18, 5, 0, -3.6, -1)],
    24: [(0, 83, 20, 5, 0, -5, -2.5)],
    25: [(0, 76, 21, 10, 0, 5, 0.5)],
}
BROW_BUMPS: dict[int, Sequence[Bump]] = {
    1: [(12, -22, 13, 12, 0, -9, 1), (12, -46, 18, 18, 0, -4, 0)],
    2: [(43, -20, 14, 12, 0, -8.5, 0.5), (44, -42, 18, 18, 0, -4, 0)],
    4: [(12, -21, 13, 12, -4.5, 6.5, 1.5), (32, -23, 15, 12, -2, 4.5, 1)],
    9: [(11, -20, 10, 10, -2, 4, 1)],
}
# Shares of the eye's opening by which the margins of the upper and the lower lid go down.
LID_SHARES: dict[int, tuple[float, float]] = {
    5: (-0.5, 0.04),
    6: (0.1, -0.22),
    7: (0.26, -0.3),
    9: (0.05, -0.12),
    43: (0.97, -0.03),
}
JAW_RADIANS: dict[int, float] = {26: 0.19}
JAW_HINGE = (12.0, 2.0)  # y, z

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 18, 20, 23, 24, 25, 26, 43)

# One line a way in which heads differ, at one standard deviation.
SHAPES: Sequence[Sequence[Bump]] = [
    [(62, 10, 50, 160, 3, 0, 0)],  # width
    [(52, 86, 30, 30, 4, 0, 0)],  # jaw
    [(47, 34, 20, 20, 2, -0.5, 2.5)],  # cheekbones
    [(38, 60, 18, 22, 1.5, 0, 3)],  # cheeks
    [(0, 118, 45, 30, 0, 5, 0)],  # chin's length
    [(0, 108, 20, 16, 0, 0, 4)],  # chin's depth
    [(14, 112, 14, 14, 3, 0, 0)],  # chin's width
    [(0, -85, 80, 40, 0, -4, 2)],  # forehead
    [(0, 47, 17, 15, 0, 3, 0)],  # nose's length
    [(13, 45, 8, 10, 2.2, 0, 0)],  # nose's width
    [(0, 41, 11, 13, 0, -0.8, 4)],  # nose's tip
    [(0, 12, 9, 17, 0, 0, 3)],  # nose's bridge
    [(25, 73, 12, 12, 2.8, 0, -0.5)],  # mouth's width
    [(0, 66, 20, 4.5, 0, -1.3, 1)],  # upper lip
    [(0, 83, 18, 4.5, 0, 1.7, 1)],  # lower lip
    [(0, 75, 40, 18, 0, 2.5, 0)],  # mouth's height
    [(25, 73, 9, 9, 0, -1.3, 0)],  # mouth's corners
    [(31, 0, 26, 20, 1.8, 0, 0)],  # distance of the eyes
    [(31, -6, 14, 5, 0, -1.1, 0), (31, 5, 14, 4, 0, 0.6, 0)],  # opening of the eyes
    [(45, 0, 9, 9, 0, -1.6, 0)],  # slant of the eyes
    [(46, 0, 8, 10, 1.4, 0, 0)],  # width of the eyes
    [(33, -21, 28, 9, 0, -2.4, 0)],  # brows' height
    [(13, -20, 9, 8, 0, 1.6, 0), (50, -16, 10, 8, 0, -1.8, 0)],  # brows' slant
    [(33, -24, 10, 8, 0, -1.6, 0)],  # brows' arch
    [(26, -20, 22, 9, 0, 0, 2.5)],  # brow ridge
    [(31, 12, 14, 6, 0, 0, 1.2)],  # bags under the eyes
]


def field(bumps: Sequence[Bump], points: Array) -> Array:
    """Displacement [V, 3] that the bumps give to points [V, 3], mirrored to both sides of the
    face.
    """
    total = np.zeros_like(points)
    for x, y, rx, ry, *move in bumps:
        down = ((points[:, 1] - y) / ry) ** 2
        right, left = (
            np.exp(-(((points[:, 0] - x) / rx) ** 2) - down),
            np.exp(-(((points[:, 0] + x) / rx) ** 2) - down),
        )
        both = right if x == 0 else right + left
        total += np.column_stack([(right - left) * move[0], both * move[1], both * move[2]])
    return total


def shape_fields(points: Array) -> Array:
    """The ways in which heads differ as fields [M, V, 3] over points of the mean head."""
    return np.stack([field(bumps, points) for bumps in SHAPES])


def unit_fields(skin: Skin, points: Array) -> Array:
    """Displacement [K, V, 3] of the skin at intensity 5 of each of ACTION_UNITS, for a head
    with its skin at `points`.

    The lids close by the opening that this head has.
    """
    lower = skin.below_mouth[:, None]
    lid_share = np.zeros(len(points))
    lid_share[skin.lids[:, 0]] = skin.lid_share
    fields = np.zeros((len(ACTION_UNITS), *points.shape))
    for row, unit in enumerate(ACTION_UNITS):
        mean = skin.points
        fields[row] += field(SKIN_BUMPS.get(unit, ()), mean)
        fields[row] += (1 - lower) * field(UPPER_BUMPS.get(unit, ()), mean)
        fields[row] += lower * field(LOWER_BUMPS.get(unit, ()), mean)
        fields[row] += (1 - 0.8 * lid_share[:, None]) * field(BROW_BUMPS.get(unit, ()), mean)
        fields[row] += jaw_drop(mean, JAW_RADIANS.get(unit, 0.0)) * _hangs_on_jaw(skin)[:, None]
        fields[row] += _lids(skin, points, *LID_SHARES.get(unit, (0.0, 0.0)))
    return fields


def jaw_drop(points: Array, radians: float) -> Array:
    """Displacement [V, 3] of points that turn with the lower jaw about its hinge."""
    y, z = points[:, 1] - JAW_HINGE[0], points[:, 2] - JAW_HINGE[1]
    return radians * np.column_stack(
        [np.zeros(len(points)), np.clip(z, 0, None), -0.6 * np.clip(y, 0, None)]
    )


def _hangs_on_jaw(skin: Skin) -> Array:
    x, y, lower = np.abs(skin.points[:, 0]), skin.points[:, 1], skin.below_mouth
    # The cheeks are stretched between the two jaws, from the cheekbones to the jaw's edge.
    cheek = np.clip((y - 40) / 60, 0, 1) ** 1.5
    beyond = np.clip((x - 24) / 14, 0, 1)
    return lower * (1 - beyond) + cheek * beyond


def _lids(skin: Skin, points: Array, upper_share: float, lower_share: float) -> Array:
    moved = np.zeros_like(points)
    vertex, top, bottom, is_upper = skin.lids.T
    share = np.where(is_upper == 1, upper_share, lower_share) * skin.lid_share
    moved[vertex] = share[:, None] * (points[bottom] - points[top])
    return moved
