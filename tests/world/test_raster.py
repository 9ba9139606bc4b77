"""A pixel that sees the wrong triangle is a wrong picture and a wrong flow target."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.world.raster import rasterise


def _one_layer(triangles: list[list[int]]) -> np.ndarray:
    return np.zeros(len(triangles), np.int8)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_agrees_with_testing_every_pixel_of_every_triangle(seed: int) -> None:
    draw = np.random.default_rng(seed)
    size, count = 24, 12
    points = draw.uniform(-10, size + 10, (3 * count, 2)).astype(np.float32)
    # each triangle at a depth of its own
    depth = np.repeat(draw.permutation(count), 3).astype(np.float32)
    triangles = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    layers = draw.integers(0, 3, count).astype(np.int8)
    hits = rasterise(points, depth, triangles, layers, size)
    seen = np.full(size * size, -1)
    seen[hits.pixels] = hits.triangles
    expected, unclear = _test_every_pixel(
        points.astype(np.float64), depth, triangles, layers, size
    )
    np.testing.assert_array_equal(seen[~unclear], expected[~unclear])


def _test_every_pixel(
    points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, layers: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The triangle seen by each pixel, and where an edge is too near to say."""
    x, y = np.tile(np.arange(size), size), np.repeat(np.arange(size), size)
    expected, unclear = np.full(size * size, -1), np.zeros(size * size, bool)
    for number in sorted(
        range(len(triangles)), key=lambda n: (layers[n], depth[triangles[n, 0]])
    ):
        (ax, ay), (bx, by), (cx, cy) = points[triangles[number]]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area <= 0:
            continue
        sides = ((bx, by, cx, cy), (cx, cy, ax, ay), (ax, ay, bx, by))
        edges = [((px - x) * (qy - y) - (qx - x) * (py - y)) / area for px, py, qx, qy in sides]
        nearest = np.min(edges, 0)
        unclear |= np.abs(nearest) < 1e-3
        expected[nearest > 0] = number
    return expected, unclear


def test_interpolates_linearly_between_the_corners() -> None:
    points = np.array([[1, 1], [21, 1], [1, 21]], np.float32)
    triangles = np.array([[0, 1, 2]], np.int32)
    hits = rasterise(points, np.zeros(3, np.float32), triangles, np.zeros(1, np.int8), 24)
    np.testing.assert_allclose(hits.interpolate(points[:, 0]), hits.pixels % 24, atol=1e-4)
    np.testing.assert_allclose(hits.interpolate(points[:, 1]), hits.pixels // 24, atol=1e-4)
    assert len(hits.pixels) == 21 * 22 // 2


def test_what_faces_away_or_lies_outside_is_not_seen() -> None:
    points = np.array([[2, 2], [2, 9], [9, 2], [50, 50], [60, 50], [50, 60]], np.float32)
    hits = rasterise(
        points,
        np.zeros(6, np.float32),
        np.array([[0, 1, 2], [3, 4, 5]], np.int32),
        np.zeros(2, np.int8),
        16,
    )
    assert len(hits.pixels) == 0
    assert hits.spread(np.zeros((0, 3), np.float32), 16).shape == (256, 3)
