"""A head whose action units may show on one side alone.

    HeadModel ──▶ SidedHead: a unit of SIDED is two movements, one of each half of the face
    levels T K, of units ──some are muted on one side──▶ movements T M ──▶ labels T K + 2 S: units, L and R

The people are those of the head without sides. Each half moves by the whole unit's field, faded
out over some millimetres at the midline; both halves together are the unit.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ausl_dist.units import LEFT, RIGHT
from ausl_dist.world.atlas import LEFT as ATLAS_LEFT
from ausl_dist.world.atlas import TEXELS
from ausl_dist.world.folds import Fold
from ausl_dist.world.head import HeadModel, Mesh, PosedFace

Floats = NDArray[np.float32]

# What FACS coders often score by side, as OpenGraphAU's label set has it.
SIDED = (1, 2, 4, 6, 10, 12, 14)
FADE = 8.0  # mm


class SidedHead:
    """A head with movements of the left and of the right half; labels stand in `action_units`."""

    def __init__(self, head: HeadModel) -> None:
        self.name, self.licence, self._head = head.name, head.licence, head
        self.drawn: tuple[int, ...] = head.action_units
        self._sided = [unit for unit in self.drawn if unit in SIDED]
        both = [(column, 0) for column, unit in enumerate(self.drawn) if unit not in SIDED]
        halves = [
            (column, side)
            for column, unit in enumerate(self.drawn)
            if unit in SIDED
            for side in (LEFT, RIGHT)
        ]
        self._movements = [*both, *halves]
        self.action_units: tuple[int, ...] = (
            *self.drawn,
            *(side + unit for unit in self._sided for side in (LEFT, RIGHT)),
        )
        self.mesh = self._mesh(head.mesh)

    def face(self, stream: np.random.Generator) -> PosedFace:
        """Draw an identity: the same one as without sides."""
        face = self._head.face(stream)
        share = {side: _share(face.points[:, 0], side)[:, None] for side in (0, LEFT, RIGHT)}
        units = np.stack([face.units[column] * share[side] for column, side in self._movements])
        return replace(face, units=units.astype(np.float32))

    def movements(
        self, levels: Floats, one_sided: float, stream: np.random.Generator
    ) -> Floats:
        """Movements T M of levels T K: in a clip, each unit with sides is muted on one of them
        with this probability, and all that are on the same one.
        """
        muted = stream.choice([LEFT, RIGHT])
        alone = {
            self.drawn.index(unit): bool(stream.random() < one_sided) for unit in self._sided
        }
        columns = [
            np.zeros(len(levels), np.float32)
            if side == muted and alone[column]
            else levels[:, column]
            for column, side in self._movements
        ]
        return np.stack(columns, 1)

    def labels(self, movements: Floats) -> Floats:
        """Intensities T K + 2 S of movements T M; a unit is as strong as its stronger side."""
        at = {movement: number for number, movement in enumerate(self._movements)}
        sides = {
            unit: [movements[:, at[self.drawn.index(unit), side]] for side in (LEFT, RIGHT)]
            for unit in self._sided
        }
        units = [
            np.maximum(*sides[unit]) if unit in sides else movements[:, at[column, 0]]
            for column, unit in enumerate(self.drawn)
        ]
        return np.stack([*units, *(half for unit in self._sided for half in sides[unit])], 1)

    def _mesh(self, mesh: Mesh) -> Mesh:
        folds = tuple(_half(mesh.folds[column], side) for column, side in self._movements)
        return replace(mesh, folds=folds)


def _share(x: Floats, side: int) -> Floats:
    """How much of a movement belongs to a side, at x millimetres to the right of the picture."""
    if not side:
        return np.ones_like(x)
    towards = x if side == LEFT else -x  # the person's left is the picture's right
    share: Floats = 0.5 + 0.5 * np.tanh(towards / np.float32(FADE))
    return share


def _half(fold: Fold | None, side: int) -> Fold | None:
    if fold is None or not side:
        return fold
    columns = fold.left + np.arange(fold.darkening.shape[1], dtype=np.float32)
    x = columns / np.float32(TEXELS) + np.float32(ATLAS_LEFT)
    return replace(fold, darkening=np.ascontiguousarray(fold.darkening * _share(x, side)))
