"""The built-in head's surface: where its points lie, how they are joined, and which of them are
landmarks.

Millimetres, origin between the eyes, x to the right of the picture, y down, z to the viewer.
One millimetre of the mean face is one pixel of the 256-pixel alignment template. Proportions
after the anthropometric means of Farkas (1994), rounded.

The skin is a sheet: points of a flat *chart* (p around the head, q down it, millimetres),
triangulated there once, and bent to a face. In the chart the mouth stands open, so that the two
lips can meet in the face and part again; texture is painted in the chart.

1. feature points (lids, lips, brows, nose, jaw) in rings and rows, then lattices that thin out
   towards the back of the head;
2. Delaunay triangulation of the right half, mirrored, so that the mesh is exactly symmetric;
3. depth: horizontal sections of the head, plus the bumps of nose, cheeks, lips and chin.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import MIRROR, NUM_LANDMARKS

Array = NDArray[np.float64]

CHART_RADIUS = 72.0  # mm of chart a radian around the head
CHART_LIMIT = 1.75  # radians: the skin ends behind the ears
MOUTH_LINE = 73.0  # y at which the closed lips meet
MOUTH_CORNER = 23.0  # x at which they are joined
MOUTH_GAPE = 3.2  # mm by which each lip is moved away from the other in the chart
# corners of the right eye of the picture
INNER_EYE, OUTER_EYE = np.array([15.0, 0.5]), np.array([45.5, -0.5])

# Horizontal sections from the crown to below the chin: height, half width, depth of the centre,
# depth of the front.
SECTIONS = np.array(
    [
        [-114, 2, -6, -2], [-110, 20, -6, 22], [-104, 35, -6, 40], [-95, 48, -6, 58],
        [-80, 60, -6, 74], [-60, 69, -6, 84], [-40, 72.5, -6, 88], [-20, 73, -5, 89],
        [0, 72, -3, 87], [20, 70.5, 0, 86], [40, 67.5, 3, 87], [60, 63, 7, 88], [80, 55, 15, 87],
        [95, 45, 25, 86], [105, 35, 36, 84], [112, 26, 46, 81], [118, 16, 54, 75],
        [124, 4, 60, 66],
    ],
    dtype=np.float64,
)  # fmt: skip

# Depth added to the sections: x, y, radius along x and y, height; each stands on both sides of
# the face.
RELIEF = np.array(
    [
        [31, 1, 15, 10, -7], [31, 0, 11, 7, 5], [24, -20, 20, 8, 3], [47, 24, 16, 14, 4],
        [13.5, 44, 5.5, 6, 9], [0, 72, 26, 16, 2.5], [0, 70, 14, 4, 1.2], [0, 78.5, 12, 3.6, 1.6],
        [0, 89, 16, 5, -1.6], [0, 106, 14, 9, 3], [60, -22, 12, 20, -3], [30, 55, 8, 14, -1.5],
        [25, 73, 5, 4, -1.5],
    ],
    dtype=np.float64,
)  # fmt: skip
# The nose's ridge: y, height, half width.
NOSE = np.array(
    [
        [-14, 0, 9],
        [-4, 2, 7],
        [6, 4.5, 6.5],
        [16, 9, 7],
        [27, 15, 8],
        [38, 21.5, 9],
        [44, 21, 10],
        [49, 13, 10],
        [54, 3, 10],
        [60, 0, 10],
    ],
    dtype=np.float64,
)

# along the lids from the inner corner to the outer
LID_STEPS = np.array([0.0, 0.07, 0.18, 1 / 3, 0.5, 2 / 3, 0.82, 0.93, 1.0])
# distance from the margin, share of its movement
LID_RINGS = (
    (0.0, 1.0),
    (1.3, 0.85),
    (3.0, 0.55),
    (5.5, 0.2),
    (8.5, 0.0),
)

# landmarks 26 down to 22
BROW = np.array([[53.0, -14.0], [46.0, -21.0], [36.0, -24.5], [25.0, -24.0], [13.0, -20.0]])
BRIDGE = np.array([[0.0, 1.0], [0.0, 14.0], [0.0, 27.0], [0.0, 40.0]])  # 27-30
NOSE_BASE = np.array([[0.0, 51.5], [7.5, 50.0], [14.5, 47.0]])  # 33, 34, 35
# 8-16: degrees, y
JAW = np.array(
    [[0, 115], [32, 110], [55, 100], [70, 88], [78, 73], [82, 56], [84, 38], [85, 20], [85, 2]],
    float,
)
# 51, -, 52, -, 53, -, 54
LIP_UPPER = np.array(
    [[0, 67.5], [3, 66.7], [5.5, 66.5], [10, 67.2], [15, 69.0], [20, 70.9], [25.2, MOUTH_LINE]]
)
# 57, -, 56, -, 55, -
LIP_LOWER = np.array([[0, 83.0], [4, 82.9], [8, 82.2], [12, 81.0], [16, 79.2], [20.5, 76.6]])
# x of 62, -, 63, -, -, - and of 66, -, 65, -, -, -
LIP_INNER = np.array([0.0, 4.0, 8.0, 12.0, 16.0, 20.0])


@dataclass(frozen=True)
class Skin:
    """The sheet of the mean face."""

    points: Array  # V 3
    chart: Array  # V 2
    triangles: NDArray[np.int32]  # F 3, clockwise on the screen
    landmarks: NDArray[np.int64]  # 68 vertices
    # V: 0 for what hangs on the upper jaw, 1 for what hangs on the lower, between at the
    # corners of the mouth
    below_mouth: Array
    # N 4: vertex, vertices of the upper and lower margin on its line, 1 for the upper lid
    lids: NDArray[np.int64]
    lid_share: Array  # N: share of its margin's movement


def section(y: Array) -> tuple[Array, Array, Array]:
    """Half width, depth of the centre and depth radius of the head at the heights y."""
    grid = np.arange(-140.0, 150.0)
    kernel = np.exp(-0.5 * (np.arange(-9, 10) / 3.0) ** 2)
    smooth = [
        np.convolve(
            np.pad(np.interp(grid, SECTIONS[:, 0], c), 9, "edge"),
            kernel / kernel.sum(),
            "valid",
        )
        for c in SECTIONS.T[1:]
    ]
    width, centre, front = (np.interp(y, grid, values) for values in smooth)
    return width, centre, front - centre


def chart_of(x: Array, y: Array, lower: Array) -> Array:
    """Chart positions [N, 2] of points of the face seen from the front; `lower` is 1 below the
    mouth line, 0 above.
    """
    width, _, _ = section(y)
    around = np.arcsin(np.clip(x / width, -1, 1))
    apart = np.sqrt(np.clip(1 - (x / MOUTH_CORNER) ** 2, 0, 1)) * np.exp(
        -(((y - MOUTH_LINE) / 18) ** 2)
    )
    return np.column_stack([around * CHART_RADIUS, y + MOUTH_GAPE * apart * (2 * lower - 1)])


def surface(front: Array) -> Array:
    """Points [N, 3] of the mean face that are seen at [N, 2] from the front."""
    width, _, _ = section(front[:, 1])
    return bend(np.arcsin(np.clip(front[:, 0] / width, -1, 1)), front[:, 1])


def bend(around: Array, y: Array) -> Array:
    """Points [N, 3] of the mean face at the angles `around` (radians) and heights y."""
    width, centre, depth = section(y)
    x, z = width * np.sin(around), centre + depth * np.cos(around)
    front = np.clip(np.cos(around) * 2, 0, 1)  # the bumps belong to the front of the head
    for cx, cy, rx, ry, height in RELIEF:
        sides = [(x - cx) / rx] if cx == 0 else [(x - cx) / rx, (x + cx) / rx]
        z += front * height * sum(np.exp(-(side**2) - ((y - cy) / ry) ** 2) for side in sides)
    nose_height, nose_width = (np.interp(y, NOSE[:, 0], column) for column in NOSE.T[1:])
    z += front * nose_height * np.exp(-(np.abs(x / nose_width) ** 2.2))
    return np.column_stack([x, y, z])


def lid_margin(steps: Array, upper: bool) -> Array:
    """Points [N, 2] of a lid's margin at shares of the way from the inner to the outer corner
    of the eye.
    """
    line = INNER_EYE + steps[:, None] * (OUTER_EYE - INNER_EYE)
    arch = np.sin(np.pi * steps) ** 0.8
    line[:, 1] += -5.9 * arch if upper else 4.5 * arch
    return line


class _Builder:
    """Collects points of the right half (x >= 0), and which of them are landmarks."""

    def __init__(self) -> None:
        self.landmarks: dict[int, int] = {}  # landmark -> point
        self.around: list[float] = []
        self.y: list[float] = []
        self.lower: list[float] = []
        self.inside: list[float] = []  # mm behind the surface: the inner side of the lips

    def add(self, points: Array, lower: float | None = None, inside: float = 0.0) -> list[int]:
        """Add points given as seen from the front [N, 2]; returns their numbers."""
        width, _, _ = section(points[:, 1])
        return self.add_around(
            np.arcsin(np.clip(points[:, 0] / width, -1, 1)), points[:, 1], lower, inside
        )

    def add_around(
        self, around: Array, y: Array, lower: float | None = None, inside: float = 0.0
    ) -> list[int]:
        first = len(self.y)
        self.around += list(around)
        self.y += list(y)
        self.lower += (
            list((y > MOUTH_LINE).astype(float)) if lower is None else [lower] * len(y)
        )
        self.inside += [inside] * len(y)
        return list(range(first, len(self.y)))

    def mark(self, numbers: list[int], landmarks: list[int]) -> None:
        self.landmarks.update(zip(landmarks, numbers, strict=True))

    def add_lattice(self, spacing: float, box: tuple[float, float, float, float]) -> None:
        """Fill a box of the chart (p from, to, y from, to) with a triangular lattice, keeping
        clear of what is there.
        """
        rows = np.arange(box[2], box[3] + 0.1, spacing * 0.866)
        p, y = np.meshgrid(np.arange(box[0], box[1] + 0.1, spacing), rows)
        p = p + np.where(np.arange(len(rows)) % 2, spacing / 2, 0)[:, None]
        points = np.column_stack([p.ravel(), y.ravel()])
        points = points[points[:, 0] <= CHART_LIMIT * CHART_RADIUS]
        there = np.column_stack([np.array(self.around) * CHART_RADIUS, self.y])
        gap = np.linalg.norm(points[:, None] - there[None], axis=2).min(1)
        width, _, _ = section(points[:, 1])
        front = np.column_stack(
            [width * np.sin(points[:, 0] / CHART_RADIUS), points[:, 1]]
        ).astype(np.float32)
        eye = np.concatenate(
            [lid_margin(LID_STEPS, True), lid_margin(LID_STEPS, False)[::-1]]
        ).astype(np.float32)
        # nothing grows there
        in_eye = [cv2.pointPolygonTest(eye, point.tolist(), False) > 0 for point in front]
        keep = (gap > 0.72 * spacing) & ~np.array(in_eye)
        self.add_around(points[keep, 0] / CHART_RADIUS, points[keep, 1])


def build_skin() -> Skin:
    """Build the sheet of the mean face; always the same."""
    builder = _Builder()
    eye, lids, lid_share = _add_lids(builder)
    mouth = _add_mouth(builder)
    builder.mark(builder.add(BROW), [26, 25, 24, 23, 22])
    builder.mark(builder.add(BRIDGE), [27, 28, 29, 30])
    builder.mark(builder.add(NOSE_BASE), [33, 34, 35])
    builder.mark(builder.add_around(np.radians(JAW[:, 0]), JAW[:, 1]), list(range(8, 17)))
    builder.add_lattice(3.4, (0, 24, 24, 60))
    builder.add_lattice(4.8, (0, 62, -40, 116))
    builder.add_lattice(9.0, (0, 130, -112, 122))

    around, y, lower = np.array(builder.around), np.array(builder.y), np.array(builder.lower)
    points = bend(around, y)
    points[:, 2] -= builder.inside
    chart = chart_of(points[:, 0], y, lower)
    chart[:, 0] = around * CHART_RADIUS
    inside = np.array(builder.inside) > 0
    chart[inside, 1] -= 1.6 * (2 * lower[inside] - 1) * (points[inside, 0] < MOUTH_CORNER - 1)
    half = Skin(
        points, chart, _triangulate(chart, [eye, mouth]), np.array([]), lower, lids, lid_share
    )
    return _mirror(half, builder.landmarks)


def _add_lids(builder: _Builder) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Rings of lid points; returns the opening's outline, rows (vertex, upper margin, lower
    margin, is upper) and shares.
    """
    centre = (INNER_EYE + OUTER_EYE) / 2
    rows: list[tuple[int, int, int, int]] = []
    shares: list[float] = []
    margins: tuple[list[int], list[int]] = ([], [])
    for distance, share in LID_RINGS:
        upper = centre + (lid_margin(LID_STEPS, True) - centre) * (
            1 + distance / np.array([17.0, 5.5])
        )
        lower = centre + (lid_margin(LID_STEPS[1:-1], False) - centre) * (
            1 + distance / np.array([17.0, 5.5])
        )
        upper_numbers, lower_numbers = builder.add(upper), builder.add(lower)
        lower_numbers = [upper_numbers[0], *lower_numbers, upper_numbers[-1]]
        if distance == 0:
            margins = (upper_numbers, lower_numbers)
            builder.mark(
                [upper_numbers[0], upper_numbers[3], upper_numbers[5], upper_numbers[8]],
                [42, 43, 44, 45],
            )
            builder.mark([lower_numbers[5], lower_numbers[3]], [46, 47])
        for numbers, is_upper in ((upper_numbers, 1), (lower_numbers, 0)):
            for step in range(1, len(LID_STEPS) - 1):
                rows.append((numbers[step], margins[0][step], margins[1][step], is_upper))
                shares.append(share)
    outline = np.array([*margins[0], *margins[1][-2:0:-1]])
    return outline, np.array(rows), np.array(shares)


def _add_mouth(builder: _Builder) -> NDArray[np.int64]:
    """Rows of lip points; returns the outline of the opening, of the right half, from the top
    of the midline to its bottom.
    """
    outer_upper = builder.add(LIP_UPPER, lower=0.0)
    outer_lower = builder.add(LIP_LOWER, lower=1.0)
    builder.mark(
        [outer_upper[i] for i in (0, 2, 4, 6)] + [outer_lower[i] for i in (4, 2, 0)],
        [51, 52, 53, 54, 55, 56, 57],
    )
    inner = np.column_stack([LIP_INNER, np.full(len(LIP_INNER), MOUTH_LINE)])
    corner = builder.add(np.array([[MOUTH_CORNER, MOUTH_LINE]]), lower=0.5)
    insides = []
    for lower, outer in ((0.0, LIP_UPPER), (1.0, LIP_LOWER)):
        numbers = builder.add(inner, lower=lower)
        middle = np.column_stack(
            [
                LIP_INNER * 1.03,
                (MOUTH_LINE + np.interp(LIP_INNER, outer[:, 0], outer[:, 1])) / 2,
            ]
        )
        builder.add(middle, lower=lower)
        beyond = np.column_stack(
            [
                outer[:, 0] * 1.08,
                outer[:, 1] + (3.0 if lower else -3.0) * (1 - (outer[:, 0] / 27) ** 4),
            ]
        )
        builder.add(beyond[outer[:, 0] < 24], lower=lower)
        builder.mark([numbers[0], numbers[2]], [66, 65] if lower else [62, 63])
        insides.append(builder.add(inner, lower=lower, inside=5.0))
    builder.mark(corner, [64])
    builder.add(
        np.array([[28.0, MOUTH_LINE], [30.0, MOUTH_LINE - 4], [30.0, MOUTH_LINE + 4]]),
        lower=0.5,
    )
    return np.array([*insides[0], *corner, *insides[1][::-1]])


def _triangulate(chart: Array, holes: list[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Delaunay triangles [F, 3] of chart points, clockwise with y down, without those inside
    the holes' outlines.
    """
    low, high = chart.min(0) - 10, chart.max(0) + 10
    division = cv2.Subdiv2D(
        (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    )
    vertex = {
        division.insert((float(p), float(q))): number for number, (p, q) in enumerate(chart)
    }
    assert len(vertex) == len(chart), "two points of the head's chart coincide"
    where = {division.getVertex(key)[0]: number for key, number in vertex.items()}
    outlines = [chart[hole].astype(np.float32) for hole in holes]
    triangles = []
    for x0, y0, x1, y1, x2, y2 in np.asarray(division.getTriangleList()).tolist():
        corners = [
            where[corner] for corner in ((x0, y0), (x1, y1), (x2, y2)) if corner in where
        ]
        if len(corners) < 3:
            continue  # a triangle of the frame that OpenCV puts around the points
        centre = chart[corners].mean(0).tolist()
        if any(cv2.pointPolygonTest(outline, centre, False) > 0 for outline in outlines):
            continue
        (ax, ay), (bx, by), (cx, cy) = chart[corners]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(area) > 1e-3:
            triangles.append(corners if area > 0 else corners[::-1])
    return np.array(triangles, np.int32)


def _mirror(half: Skin, names: dict[int, int]) -> Skin:
    """Complete the right half by its mirror image; points of the midline are shared."""
    count = len(half.points)
    off_midline = np.flatnonzero(half.points[:, 0] > 1e-6)
    other = np.arange(count)
    other[off_midline] = count + np.arange(len(off_midline))
    points = np.concatenate([half.points, half.points[off_midline] * [-1, 1, 1]])
    landmarks = np.full(NUM_LANDMARKS, -1)
    for landmark, number in names.items():
        landmarks[landmark] = number
        landmarks[MIRROR[landmark]] = other[number]
    assert (landmarks >= 0).all()
    # Past the corners of the mouth the two jaws' skin melts into one.
    beyond = np.clip((np.abs(points[:, 0]) - 21) / 14, 0, 1)
    soft = 1 / (1 + np.exp(-(points[:, 1] - MOUTH_LINE) / 5))
    lower = np.concatenate([half.below_mouth, half.below_mouth[off_midline]])
    mirrored_lids = np.column_stack([other[half.lids[:, :3]], half.lids[:, 3]])
    return Skin(
        points=points,
        chart=np.concatenate([half.chart, half.chart[off_midline] * [-1, 1]]),
        triangles=np.concatenate([half.triangles, other[half.triangles][:, ::-1]]).astype(
            np.int32
        ),
        landmarks=landmarks,
        below_mouth=lower * (1 - beyond) + soft * beyond,
        lids=np.concatenate([half.lids, mirrored_lids]),
        lid_share=np.concatenate([half.lid_share, half.lid_share]),
    )
