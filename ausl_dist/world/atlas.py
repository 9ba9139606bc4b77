"""The picture that is laid over a head, one for each identity: its layout, and shapes drawn
into it in millimetres.

The upper part is the chart of the skin (anatomy.py) at TEXELS a millimetre; below it lie square
tiles for what is not skin.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.float32]  # SKIN_HEIGHT WIDTH, 0 to 1

TEXELS = 1.3  # a millimetre
LEFT, TOP, BOTTOM = -147.5, -116.0, 128.0  # mm of the chart
TILE = 64  # side of a tile, texels
TILES = ("eye", "teeth", "mouth", "ear", "neck", "hair")
WIDTH = TILE * len(TILES)
SKIN_HEIGHT = round((BOTTOM - TOP) * TEXELS)
SUBTEXEL_BITS = 4  # OpenCV draws at sixteenths


def texels(chart: Array) -> Array:
    """Atlas positions [N, 2] of chart positions [N, 2]."""
    return (chart - [LEFT, TOP]) * TEXELS


def tile_origin(name: str) -> tuple[int, int]:
    """Left and top texel of a tile."""
    return TILES.index(name) * TILE, SKIN_HEIGHT


def soft_mask(shapes: Sequence[Array], blur: float, line: float = 0.0) -> Mask:
    """1 inside polygons [N, 2] (mm of the chart), or on polylines `line` mm wide; edges
    softened by `blur` mm.
    """
    mask = np.zeros((SKIN_HEIGHT, WIDTH), np.uint8)
    for shape in shapes:
        points = np.round(texels(np.asarray(shape, float)) * (1 << SUBTEXEL_BITS)).astype(
            np.int32
        )
        if line:
            cv2.polylines(
                mask,
                [points],
                False,
                255,
                max(1, round(line * TEXELS)),
                cv2.LINE_AA,
                SUBTEXEL_BITS,
            )
        else:
            cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, SUBTEXEL_BITS)
    return cv2.GaussianBlur(mask, (0, 0), blur * TEXELS).astype(np.float32) / np.float32(255)


def blob(x: float, y: float, rx: float, ry: float) -> Mask:
    """A round soft mask about (x, y) mm of the chart."""
    column = np.arange(WIDTH) / TEXELS + LEFT
    row = np.arange(SKIN_HEIGHT) / TEXELS + TOP
    return np.outer(
        np.exp(-(((row - y) / ry) ** 2)), np.exp(-(((column - x) / rx) ** 2))
    ).astype(np.float32)


def noise(stream: np.random.Generator, cells: float, stretch: float = 1.0) -> Mask:
    """Smooth noise, about -1 to 1, in cells `cells` mm wide and `stretch` times as high."""
    shape = (
        max(2, round(SKIN_HEIGHT / TEXELS / cells / stretch)),
        max(2, round(WIDTH / TEXELS / cells)),
    )
    field = stream.normal(0, 0.5, shape).astype(np.float32)
    return cv2.resize(field, (WIDTH, SKIN_HEIGHT), interpolation=cv2.INTER_CUBIC).astype(
        np.float32, copy=False
    )


def both_sides(shape: Array) -> list[Array]:
    """A shape and its mirror image."""
    return [shape, shape * [-1, 1]]


def rounded(line: Array) -> Array:
    """A polyline with its corners cut twice (Chaikin, 1974)."""
    for _ in range(2):
        if len(line) > 2:
            cut = np.stack(
                [0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]], 1
            ).reshape(-1, 2)
            line = np.concatenate([line[:1], cut[1:-1], line[-1:]])
    return line
