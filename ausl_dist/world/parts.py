"""What belongs to the built-in head besides its skin: eyes, teeth, mouth, ears, neck and hair,
each a small bent grid of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ausl_dist.world import anatomy, atlas
from ausl_dist.world.looks import Look

Array = NDArray[np.float64]

EYE_RADIUS = 19.0  # mm; flatter than an eyeball, so that it fills the opening to its corners
EYE_REACH = 17.0  # mm from its pole to the edge of what is drawn


@dataclass(frozen=True)
class MeshPart:
    """A grid of points [rows * columns, 3] (mm, as in anatomy.py) with a tile of the atlas
    spread over it.
    """

    tile: str
    rows: int
    columns: int
    points: Array
    on_jaw: bool = False  # goes with the lower jaw

    def triangles(self) -> NDArray[np.int64]:
        """[F, 3], clockwise on the screen where the grid faces the viewer."""
        index = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        a, b, c, d = (
            corner.ravel()
            for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1])
        )
        return np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])])

    def texels(self) -> Array:
        """Place of each point in the atlas [rows * columns, 2]."""
        across, down = _grid(self.rows, self.columns)
        middle, reach = (atlas.TILE - 1) / 2, (atlas.TILE - 3) / 2
        return (
            np.array(atlas.tile_origin(self.tile))
            + middle
            + reach * np.column_stack([across, down])
        )


def build_parts() -> list[MeshPart]:
    """The parts of the mean head; the first two are the eyeballs."""
    return [
        _eye(1),
        _eye(-1),
        _teeth(upper=True),
        _teeth(upper=False),
        _mouth(),
        _ear(1),
        _ear(-1),
        _neck(),
        _hair(),
    ]


def hang_hair(part: MeshPart, look: Look) -> Array:
    """The points of the hair beside and below the face; where it is short it hides behind the
    head.
    """
    across, down = part.points[:, 0], (part.points[:, 1] + 1) / 2
    if not look.long_hair:
        return part.points * [20, 20, 1]
    # An arch that ends in a rounded hem.
    y = -105 + down * (115 + look.long_hair - 22 * across**2)
    width = (72 + look.volume) * np.sqrt(
        np.clip(1 - 0.75 * (1 - 2.4 * down).clip(0, 1) ** 2, 0, 1)
    ) + 6 * down
    return np.column_stack([across * width, y, part.points[:, 2] + 6 * np.cos(across * 1.5)])


def _grid(rows: int, columns: int) -> tuple[Array, Array]:
    down, across = np.meshgrid(
        np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"
    )
    return across.ravel(), down.ravel()


def _eye(side: int) -> MeshPart:
    across, down = _grid(9, 9)
    x, y = across * EYE_REACH, down * EYE_REACH
    centre = (anatomy.INNER_EYE + anatomy.OUTER_EYE) / 2
    front = anatomy.surface(centre[None])[0, 2]
    # Beyond the ball's own radius the corners of the grid lie flat.
    depth = np.sqrt(EYE_RADIUS**2 - np.minimum(x**2 + y**2, 0.96 * EYE_RADIUS**2)) - EYE_RADIUS
    return MeshPart(
        "eye", 9, 9, np.column_stack([side * centre[0] + x, centre[1] + y, front + depth])
    )


def _teeth(upper: bool) -> MeshPart:
    across, down = _grid(3, 11)
    top, bottom = (64.0, 75.0) if upper else (76.0, 86.0)
    y = (top + bottom) / 2 + down * (bottom - top) / 2 - (1.5 if upper else -1.5) * across**2
    x = across * 23
    return MeshPart("teeth", 3, 11, np.column_stack([x, y, 82 - x**2 / 26]), on_jaw=not upper)


def _mouth() -> MeshPart:
    across, down = _grid(5, 5)
    return MeshPart(
        "mouth", 5, 5, np.column_stack([across * 26, 78 + down * 17, np.full(25, 55.0)])
    )


def _ear(side: int) -> MeshPart:
    across, down = _grid(7, 5)
    width = np.sqrt(1 - 0.8 * down**2)
    x = 71 + (side * 7 * across - 3 * down) * width
    return MeshPart(
        "ear", 7, 5, np.column_stack([side * x, 22 + 30 * down, -4 - 3 * side * across])
    )


def _neck() -> MeshPart:
    across, down = _grid(10, 11)
    y = 145 + 85 * down
    radius = 52 + np.clip(y - 138, 0, None) ** 1.7 / 6
    return MeshPart(
        "neck",
        10,
        11,
        np.column_stack([radius * np.sin(1.6 * across), y, -22 + 50 * np.cos(1.6 * across)]),
    )


def _hair() -> MeshPart:
    across, down = _grid(9, 9)
    return MeshPart("hair", 9, 9, np.column_stack([across, down, np.full(81, -30.0)]))
