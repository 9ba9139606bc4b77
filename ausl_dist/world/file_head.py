"""A blendshape head from a file, for `--head FILE`: the same world with a face that someone
else has scanned and sculpted.

The file is an .npz (no pickles) with

    neutral              float [V, 3]      points of the mean face, y up, z to the viewer, any unit
    triangles            int [F, 3]        outwards side counter-clockwise
    triangle_material    int [F]           row of material_names
    material_names       text [N]          a name with 'Face' or 'Head' in it is skin, with 'Iris' or
                                           'Sclera' eye, 'Teeth' teeth, 'Gums' or 'Tongue' mouth, in
                                           any case; triangles of other materials (lashes, tears)
                                           are left out
    multipie68_vertices  int [68]          the vertex of each landmark
    identity_delta       float [M, V, 3]   ways in which faces differ, at one standard deviation
    expression_delta     float [E, V, 3]   blendshapes at full strength
    expression_names     text [E]          as in SHAPES below; `_L` and `_R` are added for shapes that
                                           have sides

The light version of ICT-FaceKit (Li et al., CVPR 2020), converted to these arrays, is one. The
head brings no colours: skin, brows, lips and eyes are painted around the landmarks (paint.py),
in a chart that unrolls the face around a vertical axis. An action unit is rendered where all
its shapes are in the file, after the table SHAPES.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import NUM_LANDMARKS
from ausl_dist.files import sha256_of
from ausl_dist.world import anatomy, atlas
from ausl_dist.world.folds import make_folds
from ausl_dist.world.head import Mesh, PosedFace
from ausl_dist.world.looks import draw_look
from ausl_dist.world.paint import IRIS_SHARE, paint

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

# Blendshapes of each action unit and their strength at intensity 5.
SHAPES: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.0},
    2: {"browOuterUp": 1.0},
    4: {"browDown": 1.0},
    5: {"eyeWide": 1.0},
    6: {"cheekSquint": 1.0},
    7: {"eyeSquint": 1.0},
    9: {"noseSneer": 1.0},
    10: {"mouthUpperUp": 1.0},
    12: {"mouthSmile": 1.0},
    14: {"mouthDimple": 1.0},
    15: {"mouthFrown": 1.0},
    16: {"mouthLowerDown": 1.0},
    17: {"mouthShrugLower": 1.0},
    18: {"mouthPucker": 1.0},
    20: {"mouthStretch": 1.0},
    22: {"mouthFunnel": 1.0},
    24: {"mouthPress": 1.0},
    25: {"mouthLowerDown": 0.4, "mouthUpperUp": 0.4},
    26: {"jawOpen": 0.4},
    27: {"jawOpen": 1.0},
    28: {"mouthRollLower": 1.0, "mouthRollUpper": 1.0},
    43: {"eyeBlink": 1.0},
}

# What the file must hold: NumPy's letters for the kind of number, and the dimensions.
ARRAYS = {
    "neutral": ("f", 2),
    "triangles": ("iu", 2),
    "triangle_material": ("iu", 1),
    "material_names": ("U", 1),
    "multipie68_vertices": ("iu", 1),
    "identity_delta": ("f", 3),
    "expression_delta": ("f", 3),
    "expression_names": ("U", 1),
}
MAX_FILE_BYTES = 1 << 30
MAX_VERTICES = 200_000
# of the file's standard deviations: the sum of many should still look like a person
IDENTITY_SPREAD = 0.9
KINDS = {
    "skin": ("face", "head"),
    "eye": ("iris", "sclera"),
    "teeth": ("teeth",),
    "mouth": ("gums", "tongue"),
}
IRIS_RADIUS = 6.0  # mm
# mm by which teeth and gums are set back: lips of other identities are thinner than those they
# were modelled behind
TEETH_BEHIND = 2.5


class FileHead:
    """A head whose shape and blendshapes come from a file; see the module's text for the
    format.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        arrays = read_arrays(path)
        self.name = f"{path.stem}-{sha256_of(path)[:8]}"
        self.licence = f"that of the head {path.name}"
        self.action_units, shapes = _units(arrays)
        kinds = _kinds(arrays)
        if "skin" not in kinds:
            raise ValueError(
                f"{path}: no triangle is skin, of a material with 'Face' or 'Head' in its name"
            )
        drawn = np.flatnonzero(kinds != "")
        used, triangles = np.unique(arrays["triangles"][drawn], return_inverse=True)
        triangles, kinds = triangles.reshape(-1, 3), kinds[drawn]
        marks = np.searchsorted(used, arrays["multipie68_vertices"]).clip(max=len(used) - 1)
        if (used[marks] != arrays["multipie68_vertices"]).any():
            raise ValueError(
                f"{path}: a landmark's vertex belongs to no triangle of skin, eye, teeth or mouth"
            )
        neutral = arrays["neutral"][used].astype(np.float64)
        scale, origin = _frame(neutral[marks])
        flip = np.array([1.0, -1.0, 1.0]) * scale
        self._neutral = (neutral - origin) * flip + [0, 0, _eye_depth()]
        self._neutral[np.unique(triangles[np.isin(kinds, ["teeth", "mouth"])]), 2] -= (
            TEETH_BEHIND
        )
        self._identities = (arrays["identity_delta"][:, used] * flip).astype(np.float32)
        self._units = (shapes[:, used] * flip).astype(np.float32)
        chart = chart_of(self._neutral)
        self._chart_landmarks = chart[marks]
        eye = np.unique(triangles[kinds == "eye"])
        sides = eye[self._neutral[eye, 0] > 0], eye[self._neutral[eye, 0] <= 0]
        eyes = tuple(side for side in sides if len(side))
        self.mesh = Mesh(
            triangles=_clockwise(self._neutral, triangles, marks).astype(np.int32),
            layers=np.zeros(len(triangles), np.int8),
            texels=_texels(self._neutral, chart, triangles, kinds, eyes).astype(np.float32),
            landmarks=marks,
            eyes=eyes,
            eye_radius=float(np.ptp(self._neutral[eyes[0], 0]) / 2) if eyes else 0.0,
            folds=make_folds(self._chart_landmarks, self.action_units),
        )

    def face(self, stream: np.random.Generator) -> PosedFace:
        """Draw an identity."""
        look = draw_look(stream)
        weights = np.clip(
            stream.normal(0, IDENTITY_SPREAD, len(self._identities)), -2, 2
        ).astype(np.float32)
        gain = stream.uniform(0.85, 1.1, len(self.action_units)).astype(np.float32)
        gain[np.isin(self.action_units, 43)] = 1.0  # everyone can close their eyes
        return PosedFace(
            points=(self._neutral + np.tensordot(weights, self._identities, 1)).astype(
                np.float32
            ),
            units=self._units * gain[:, None, None],
            atlas=paint(self._chart_landmarks, look, stream),
            fold_depth=look.fold_depth,
        )


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read and check the arrays of a head file; raises ValueError naming what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                raise ValueError(
                    f"{path} unpacks to more than {MAX_FILE_BYTES >> 20} MiB: "
                    "this is not a head file"
                )
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file]
            if missing:
                raise ValueError(
                    f"{path} is not a head file: it has no array {', '.join(missing)}"
                )
            arrays = {name: file[name] for name in ARRAYS}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not an .npz file ({error})") from error
    for name, (kind, dimensions) in ARRAYS.items():
        array = arrays[name]
        if array.dtype.kind not in kind or array.ndim != dimensions:
            raise ValueError(
                f"{path}: array {name} is {array.dtype} with {array.ndim} dimensions, "
                f"expected kind {kind} with {dimensions}"
            )
    _check_sizes(path, arrays)
    return arrays


def _check_sizes(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    count, faces = len(arrays["neutral"]), len(arrays["triangles"])
    if not 100 <= count <= MAX_VERTICES or not 1 <= faces < 1 << 20:
        raise ValueError(
            f"{path}: {count} points and {faces} triangles; a head has 100 to {MAX_VERTICES} points"
        )
    shapes = {
        "neutral": (count, 3),
        "triangles": (faces, 3),
        "triangle_material": (faces,),
        "multipie68_vertices": (NUM_LANDMARKS,),
        "identity_delta": (len(arrays["identity_delta"]), count, 3),
        "expression_delta": (len(arrays["expression_names"]), count, 3),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{path}: array {name} has shape {arrays[name].shape}, expected {shape}"
            )
    for name, limit in (
        ("triangles", count),
        ("multipie68_vertices", count),
        ("triangle_material", len(arrays["material_names"])),
    ):
        if arrays[name].min() < 0 or arrays[name].max() >= limit:
            raise ValueError(f"{path}: array {name} points outside of what it refers to")
    for name in ("neutral", "identity_delta", "expression_delta"):
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{path}: array {name} holds numbers that are not finite")


def chart_of(points: Array) -> Array:
    """Place of points [V, 3] in the chart, mm: unrolled around the vertical axis of the
    built-in head.
    """
    around = np.arctan2(points[:, 0], np.maximum(points[:, 2], 1e-6))
    return np.column_stack([around * anatomy.CHART_RADIUS, points[:, 1]])


def _units(arrays: dict[str, NDArray[Any]]) -> tuple[tuple[int, ...], Floats]:
    """The action units that the file's blendshapes can make, and their displacement [K, V, 3]
    at intensity 5.
    """
    row = {str(name): index for index, name in enumerate(arrays["expression_names"])}
    units, moves = [], []
    for unit, shapes in SHAPES.items():
        found = {
            name: [row[n] for n in (name, f"{name}_L", f"{name}_R") if n in row]
            for name in shapes
        }
        if all(found.values()):
            units.append(unit)
            moves.append(
                sum(
                    shapes[name] * arrays["expression_delta"][rows].sum(0, dtype=np.float32)
                    for name, rows in found.items()
                )
            )
    if not units:
        known = ", ".join(name for shapes in SHAPES.values() for name in shapes)
        raise ValueError(
            f"a head file needs blendshapes for at least one action unit; those known are {known}"
        )
    return tuple(units), np.stack(moves)


def _kinds(arrays: dict[str, NDArray[Any]]) -> NDArray[np.str_]:
    """What each triangle is: skin, eye, teeth, mouth, or nothing that is drawn."""
    kinds = []
    for name in arrays["material_names"]:
        fitting = [
            kind
            for kind, words in KINDS.items()
            if any(word in str(name).lower() for word in words)
        ]
        kinds.append(fitting[0] if fitting else "")
    return np.array(kinds)[arrays["triangle_material"]]


def _frame(landmarks: Array) -> tuple[float, Array]:
    """Scale to mm, and the point between the eyes, from the corners of the eyes."""
    width = float(np.linalg.norm(landmarks[36] - landmarks[45]))
    if not width > 0:
        raise ValueError(
            "a head file's landmarks 36 and 45 (outer corners of the eyes) coincide"
        )
    return 2 * anatomy.OUTER_EYE[0] / width, landmarks[[36, 39, 42, 45]].mean(0)


def _eye_depth() -> float:
    """Where the built-in head has the corners of its eyes, so that all heads turn on the same
    neck.
    """
    return float(anatomy.surface(np.stack([anatomy.INNER_EYE, anatomy.OUTER_EYE]))[:, 2].mean())


def _clockwise(
    points: Array, triangles: NDArray[np.int64], marks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The triangles, turned if those around the inner landmarks, which face the viewer, run
    counter-clockwise on the screen.
    """
    front = triangles[np.isin(triangles, marks[17:]).any(1)]
    (ax, ay), (bx, by), (cx, cy) = (points[front[:, i], :2].T for i in range(3))
    area = float(np.sum((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)))
    return triangles if area > 0 else triangles[:, ::-1]


def _texels(
    points: Array,
    chart: Array,
    triangles: NDArray[np.int64],
    kinds: NDArray[np.str_],
    eyes: tuple[NDArray[np.int64], ...],
) -> Array:
    """Place of each vertex in the atlas [V, 2]: skin by the chart, the rest as seen from the
    front in its tile.
    """
    texels = np.clip(atlas.texels(chart), 1, [atlas.WIDTH - 2, atlas.SKIN_HEIGHT - 2])
    groups = [(kind, np.unique(triangles[kinds == kind])) for kind in ("teeth", "mouth")] + [
        ("eye", eye) for eye in eyes
    ]
    for tile, group in groups:
        if len(group):
            seen = points[group, :2]
            middle = (seen.min(0) + seen.max(0)) / 2
            reach = (
                IRIS_RADIUS / IRIS_SHARE
                if tile == "eye"
                else max(float(np.ptp(seen, 0).max()) / 2, 1e-6)
            )
            texels[group] = np.array(atlas.tile_origin(tile)) + (
                1 + np.clip((seen - middle) / reach, -0.95, 0.95)
            ) * (atlas.TILE / 2)
    return texels
