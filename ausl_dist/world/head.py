"""What a head is to the renderer, and the built-in one.

    head = BuiltinHead()
    face = head.face(random_stream(seed, "face", identity))     one identity: shape, skin, hair
    face.points + intensities / 5 · face.units                  its points, moved by action units

A head is a `Mesh`, how points are joined and where they lie in the picture of the skin, the
same for all its identities; and it makes a `PosedFace` for each. Millimetres, origin between
the eyes, x right, y down, z to the viewer.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ausl_dist.world import anatomy, atlas, expressions
from ausl_dist.world.folds import Fold, make_folds
from ausl_dist.world.looks import Look, draw_look
from ausl_dist.world.paint import hair_mask, paint
from ausl_dist.world.parts import EYE_RADIUS, MeshPart, build_parts, hang_hair

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

# What lies in front of what, whatever the depth: lids never sink into eyeballs, nor lips into
# teeth.
LAYERS = {"hair": 0, "neck": 1, "ear": 2, "mouth": 3, "teeth": 4, "eye": 5, "skin": 6}


@dataclass(frozen=True)
class Mesh:
    """What all identities of a head have in common."""

    triangles: NDArray[np.int32]  # F 3, clockwise on the screen where they face the viewer
    layers: NDArray[np.int8]  # F, higher ones hide lower ones
    texels: Floats  # V 2, place in the atlas
    landmarks: NDArray[np.int64]  # 68 vertices, iBUG order
    eyes: tuple[NDArray[np.int64], ...]  # vertices of each eyeball, which turn with the gaze
    eye_radius: float  # mm from their poles to the points about which they turn
    folds: tuple[Fold | None, ...]  # K


@dataclass(frozen=True)
class PosedFace:
    """One identity of a head."""

    points: Floats  # V 3, at rest
    units: Floats  # K V 3, displacement at intensity 5 of each action unit
    atlas: NDArray[np.uint8]  # H W 3, RGB
    fold_depth: float  # of the mesh's folds


class HeadModel(Protocol):
    """Anything that can be rendered: its name, the licence of what is rendered from it, K
    action units (FACS numbers), and its mesh.
    """

    name: str
    licence: str
    action_units: tuple[int, ...]
    mesh: Mesh

    def face(self, stream: np.random.Generator) -> PosedFace:
        """Draw an identity."""


class BuiltinHead:
    """The project's own parametric head: about 2,300 points, 26 ways to differ in shape, 19
    action units.
    """

    def __init__(self) -> None:
        self.name, self.licence = "builtin", "Apache-2.0"
        self.action_units: tuple[int, ...] = expressions.ACTION_UNITS
        self._skin = anatomy.build_skin()
        self._shapes = expressions.shape_fields(self._skin.points)
        self._parts = build_parts()
        self._chart_landmarks = self._skin.chart[self._skin.landmarks]
        self.mesh = self._join()

    def face(self, stream: np.random.Generator) -> PosedFace:
        """Draw an identity."""
        skin, look = self._skin, draw_look(stream)
        weights = np.clip(stream.normal(0, 1, len(self._shapes)), -2.2, 2.2)
        shaped = skin.points + np.tensordot(weights, self._shapes, 1)
        points = [
            shaped + self._hair_volume(look),
            *(_place(part, weights, look) for part in self._parts),
        ]
        units = [self._unit_fields(shaped, stream), *(_carried(part) for part in self._parts)]
        return PosedFace(
            points=np.concatenate(points).astype(np.float32),
            units=np.concatenate(units, 1).astype(np.float32),
            atlas=paint(self._chart_landmarks, look, stream),
            fold_depth=look.fold_depth,
        )

    def _join(self) -> Mesh:
        triangles, layers = (
            [self._skin.triangles.astype(np.int64)],
            [np.full(len(self._skin.triangles), LAYERS["skin"])],
        )
        texels, numbers, count = [atlas.texels(self._skin.chart)], [], len(self._skin.points)
        for part in self._parts:
            triangles.append(part.triangles() + count)
            layers.append(np.full(len(triangles[-1]), LAYERS[part.tile]))
            texels.append(part.texels())
            numbers.append(np.arange(count, count + len(part.points)))
            count += len(part.points)
        return Mesh(
            triangles=np.concatenate(triangles).astype(np.int32),
            layers=np.concatenate(layers).astype(np.int8),
            texels=np.concatenate(texels).astype(np.float32),
            landmarks=self._skin.landmarks,
            eyes=(numbers[0], numbers[1]),
            eye_radius=EYE_RADIUS,
            folds=make_folds(self._chart_landmarks, self.action_units),
        )

    def _unit_fields(self, shaped: Array, stream: np.random.Generator) -> Array:
        """The skin's movement, stronger or weaker and a little lopsided as people are; all can
        close their eyes.
        """
        lopsided = 1 + stream.uniform(-0.12, 0.12, len(self.action_units))[
            :, None, None
        ] * np.tanh(self._skin.points[:, :1] / 12)
        gain = stream.uniform(0.85, 1.15, len(self.action_units))[:, None, None]
        of_lids = np.isin(self.action_units, list(expressions.LID_SHARES))[:, None, None]
        return expressions.unit_fields(self._skin, shaped) * np.where(
            of_lids, 1.0, gain * lopsided
        )

    def _hair_volume(self, look: Look) -> Array:
        """How far hair lifts the surface off the scalp [V, 3]."""
        skin = self._skin
        if look.bald:
            return np.zeros_like(skin.points)
        cover = hair_mask(self._chart_landmarks, look)
        column, row = np.clip(
            np.round(atlas.texels(skin.chart)).astype(int),
            0,
            [cover.shape[1] - 1, cover.shape[0] - 1],
        ).T
        outwards = skin.points * [1, 1, 0.6]
        outwards[:, 1] = np.clip(outwards[:, 1] + 20, None, 0)
        outwards /= np.linalg.norm(outwards, axis=1, keepdims=True) + 1e-9
        return cover[row, column][:, None] * look.volume * outwards


def _place(part: MeshPart, weights: Array, look: Look) -> Array:
    """The points of a part, moved as a whole to where this identity has it."""
    if part.tile == "hair":
        return hang_hair(part, look)
    middle = part.points.mean(0, keepdims=True)
    return part.points + np.tensordot(weights, expressions.shape_fields(middle), 1)


def _carried(part: MeshPart) -> Array:
    """How action units move a part: the lower teeth go with the jaw, all else stays."""
    angles = [
        expressions.JAW_RADIANS.get(unit, 0.0) * part.on_jaw
        for unit in expressions.ACTION_UNITS
    ]
    return np.stack([expressions.jaw_drop(part.points, angle) for angle in angles])
