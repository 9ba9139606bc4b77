"""Skin, hair, brows, lips and eyes, painted around the 68 landmarks: the atlas of one identity.

    landmarks in the chart, Look ──▶ tone ─▶ shadows, blush, marks ─▶ beard ─▶ folds of age
                                 ─▶ lips ─▶ lids ─▶ brows ─▶ hair ──▶ atlas

Works for any head whose points have a place in the chart, so the built-in head and one from a
file are painted alike.
"""

import numpy as np
from numpy.typing import NDArray

from ausl_dist.world import atlas
from ausl_dist.world.atlas import Mask, blob, both_sides, noise, soft_mask
from ausl_dist.world.folds import fold_map
from ausl_dist.world.looks import Look

Array = NDArray[np.float64]
Image = NDArray[np.float32]  # H W 3, RGB, 0-255

IRIS_SHARE = 0.385  # of the half side of the eye's tile
# action units whose folds stay, and their depth
FOLDS_OF_AGE = (
    (12, 0.32),
    (1, 0.22),
    (2, 0.22),
    (4, 0.15),
    (6, 0.25),
    (15, 0.25),
)


class _Skin:
    """The chart's picture under the brush."""

    def __init__(self, tone: Array) -> None:
        self.image: Image = np.empty((atlas.SKIN_HEIGHT, atlas.WIDTH, 3), np.float32)
        self.image[:] = tone

    def mix(self, colour: Array, mask: Mask, share: float = 1.0) -> None:
        """Move towards a colour, or a picture, where the mask is 1."""
        self.image += (np.asarray(colour, np.float32) - self.image) * (
            mask * np.float32(share)
        )[:, :, None]

    def darken(self, share: float, mask: Mask) -> None:
        """Take a share of the light away where the mask is 1; a share below 0 adds light."""
        self.image *= (1 - np.float32(share) * mask)[:, :, None]


def paint(landmarks: Array, look: Look, stream: np.random.Generator) -> NDArray[np.uint8]:
    """The atlas [H, W, 3] of one identity; `landmarks` [68, 2] in the chart, mm."""
    skin = _Skin(look.tone)
    skin.darken(0.05, noise(stream, 22))
    skin.darken(0.015 + 0.03 * look.age, noise(stream, 2.2))
    _complexion(skin, landmarks, look, stream)
    _beard(skin, landmarks, look, stream)
    for unit, share in FOLDS_OF_AGE:
        skin.darken(share * look.age, fold_map(landmarks, unit))
    _lips(skin, landmarks, look, stream)
    _lids(skin, landmarks, look)
    _brows(skin, landmarks, look, stream)
    strands = 1 + 0.3 * noise(stream, 1.6, 14) + 0.12 * noise(stream, 9, 3)
    if not look.bald:
        skin.mix(look.hair * strands[:, :, None], hair_mask(landmarks, look))
    # What lies below the chart shows its last rows: without marks these make no streaks.
    skin.mix(
        look.tone,
        np.repeat(
            np.clip(np.arange(-atlas.SKIN_HEIGHT, 0) / 10 + 1.5, 0, 1)[:, None], atlas.WIDTH, 1
        ).astype(np.float32),
    )
    picture = np.concatenate([skin.image, np.zeros((atlas.TILE, atlas.WIDTH, 3), np.float32)])
    for name, tile in _tiles(look, strands).items():
        left, top = atlas.tile_origin(name)
        picture[top : top + atlas.TILE, left : left + atlas.TILE] = tile
    return np.clip(picture, 0, 255).astype(np.uint8)


def hair_mask(marks: Array, look: Look) -> Mask:
    """1 where hair covers the scalp: above a line across the forehead, down the temples, around
    the ears.
    """
    up = look.hairline
    forehead = [[0, -63 - up], [25, -64 - up], [46, -58 - up], [60, -40 - 0.6 * up], [70, -26]]
    line = np.array([*forehead, [82, -14], [87, 6], [97, 12], [104, 44], [150, 60]], float)
    outline = atlas.rounded(
        np.concatenate([line[:0:-1] * [-1, 1], line, [[150, -130], [-150, -130]]])
    )
    outline[:, 1] -= look.parting * np.tanh(outline[:, 0] / 30) * (outline[:, 1] < -35)
    ear = np.array(
        [
            marks[16] + [13 + 13 * np.cos(a), 14 + 34 * np.sin(a)]
            for a in np.arange(0, 2 * np.pi, 0.3)
        ]
    )
    return soft_mask([outline], 2.4) * (1 - soft_mask(both_sides(ear), 1.0))


def _complexion(skin: _Skin, marks: Array, look: Look, stream: np.random.Generator) -> None:
    eye, red = (marks[42] + marks[45]) / 2, look.tone * [1.02, 0.82, 0.8]
    for side in (1, -1):
        skin.mix(red, blob(side * eye[0] * 1.25, marks[29, 1] + 6, 20, 17), 0.35 * look.blush)
        skin.darken(
            0.16 + 0.1 * look.age, blob(side * eye[0], eye[1] + 1, 22, 12)
        )  # the socket
        skin.darken(0.12, blob(side * (marks[42, 0] - 4), eye[1] - 3, 7, 10))
        skin.darken(0.1 * look.age, blob(side * eye[0], eye[1] + 13, 13, 4))  # the bag below
        skin.darken(-0.05, blob(side * eye[0] * 1.2, marks[28, 1] + 6, 12, 9))
    skin.mix(red, blob(0, marks[30, 1], 10, 9), 0.3 * look.blush)
    skin.darken(-0.07, blob(0, marks[29, 1], 4, 15))  # light along the nose and on the forehead
    skin.darken(-0.05, blob(0, marks[27, 1] - 38, 30, 16))
    # shadows under nose and lower lip, and of the groove between nose and mouth
    skin.darken(0.15, blob(0, marks[33, 1] + 3, 10, 4))
    skin.darken(0.16, blob(0, marks[57, 1] + 6, 13, 4))
    skin.darken(0.07, blob(0, (marks[33, 1] + marks[51, 1]) / 2, 3, 7))
    ring = np.arange(0, 2 * np.pi, 0.4)
    nostril = (
        marks[34] + [0.3, -1.0] + np.column_stack([3.9 * np.cos(ring), -1.3 * np.sin(ring)])
    )
    skin.mix(look.tone * 0.22, soft_mask(both_sides(nostril), 0.6), 0.85)
    wing = marks[35] + np.array([[1, -9], [3.2, -4], [2, 1]])
    skin.mix(look.tone * 0.5, soft_mask(both_sides(wing), 0.9, 1.2), 0.6)
    for _ in range(look.freckles):
        x, y, radius, depth = (
            stream.uniform(-60, 60),
            stream.normal(24, 22),
            stream.uniform(0.5, 1.2),
            stream.uniform(0.15, 0.35),
        )
        skin.darken(depth, blob(x, y, radius, radius))


def _beard(skin: _Skin, marks: Array, look: Look, stream: np.random.Generator) -> None:
    if not look.beard:
        return
    below_jaw = marks[2:15] + np.array([0, 14])
    cheeks = marks[[14, 54, 35, 33, 31, 48, 2]] + np.array(
        [[-4, 0], [22, -4], [8, 10], [0, 6], [-8, 10], [-22, -4], [4, 0]]
    )
    area = soft_mask([np.concatenate([below_jaw, cheeks])], 3.5)
    hairs = np.clip(0.62 + 0.8 * noise(stream, 1.5, 2.5), 0, 1)
    skin.mix(look.hair * 0.5 + look.tone * 0.25, area * hairs, 0.75 * look.beard)


def _lips(skin: _Skin, marks: Array, look: Look, stream: np.random.Generator) -> None:
    outer, inner = marks[48:60], marks[60:68]
    area = soft_mask([outer], 0.7)
    skin.mix(look.lips * (1 + 0.12 * noise(stream, 1.2, 4)[:, :, None]), area)
    middle = (marks[57] + marks[66]) / 2
    skin.darken(-0.14, blob(middle[0], middle[1], 9, 2.5) * area)
    skin.darken(0.12, soft_mask([marks[48:55]], 0.8, 1.0) * area)
    # The line between the lips, and their inner side, which shows when they part.
    skin.mix(look.lips * 0.42, soft_mask([inner], 0.5), 0.9)
    skin.mix(look.lips * 0.4, soft_mask([np.concatenate([inner, inner[:1]])], 0.5, 1.0), 0.8)
    corners = [
        marks[48] + np.array([[-1.5, -1], [0.5, 0.5]]),
        marks[54] + np.array([[1.5, -1], [-0.5, 0.5]]),
    ]
    skin.mix(look.tone * 0.55, soft_mask(corners, 0.8, 1.6), 0.7)


def _lids(skin: _Skin, marks: Array, look: Look) -> None:
    for upper, lower in (
        (marks[[42, 43, 44, 45]], marks[[45, 46, 47, 42]]),
        (marks[[39, 38, 37, 36]], marks[[36, 41, 40, 39]]),
    ):
        outwards = np.sign(upper[3, 0] - upper[0, 0])
        margin = np.concatenate([upper, lower[1:]])
        skin.mix(look.tone * [0.95, 0.72, 0.68], soft_mask([margin], 0.4, 1.2), 0.7)
        lashes = upper + np.array([[0, -0.2], [0, -0.5], [0, -0.5], [1.5 * outwards, -0.8]])
        skin.mix(np.array([20, 15, 13]), soft_mask([lashes], 0.35, 1.7), look.lashes)
        skin.mix(
            np.array([30, 22, 20]),
            soft_mask([lower + np.array([0, 0.3])], 0.35, 0.8),
            0.35 * look.lashes,
        )
        crease = upper + np.array([[0, -3], [0, -4.2], [0, -4.4], [3 * outwards, -2.5]])
        skin.mix(look.tone * 0.5, soft_mask([crease], 0.7, 0.9), 0.75)


def _brows(skin: _Skin, marks: Array, look: Look, stream: np.random.Generator) -> None:
    hairs = np.clip(0.8 + 0.4 * noise(stream, 0.9, 1.6), 0, 1)
    half = np.array([0.75, 1.0, 0.95, 0.7, 0.2])[:, None] * [0, look.brow_thickness / 2]
    for line in (marks[22:27], marks[21:16:-1]):
        area = soft_mask([np.concatenate([line - half, (line + half)[::-1]])], 0.7)
        skin.mix(look.hair * 0.75, area * hairs, look.brow_density)


def _tiles(look: Look, strands: Mask) -> dict[str, Array]:
    """The pictures of what is not skin."""
    across, down = np.meshgrid(np.linspace(-1, 1, atlas.TILE), np.linspace(-1, 1, atlas.TILE))
    radius = np.hypot(across, down)

    def paste(image: Array, colour: Array, mask: Array) -> Array:
        return image + (colour - image) * np.clip(mask, 0, 1)[:, :, None]

    eye = (
        np.full((atlas.TILE, atlas.TILE, 3), [222.0, 216.0, 211.0])
        * (1 - 0.18 * np.clip(-down * 2, 0, 1))[:, :, None]
    )
    eye = paste(
        eye, look.tone * [0.95, 0.66, 0.62], (np.abs(across) - 0.72) * 3
    )  # pink corners
    eye = paste(eye, look.iris * 0.45, (IRIS_SHARE + 0.045 - radius) * 30)
    eye = paste(eye, look.iris * 1.15, (IRIS_SHARE - radius) * 14)
    eye = paste(eye, np.full(3, 11.0), (0.17 - radius) * 30)
    # the light's reflection
    eye = paste(eye, np.full(3, 255.0), (0.075 - np.hypot(across + 0.13, down + 0.15)) * 40)
    teeth = (
        np.full((atlas.TILE, atlas.TILE, 3), [236.0, 230.0, 216.0])
        * (1 - 0.35 * across**2)[:, :, None]
    )
    teeth *= (1 - 0.35 * (np.abs(((across * 4) % 1) - 0.5) > 0.43))[:, :, None]
    mouth = np.full((atlas.TILE, atlas.TILE, 3), [58.0, 22.0, 24.0])
    # the tongue
    mouth = paste(
        mouth,
        np.array([150.0, 70.0, 72.0]),
        (0.75 - np.hypot(across * 1.1, (down - 0.75) * 1.2)) * 2.5,
    )
    ear = look.tone * (0.95 - 0.35 * np.exp(-(((radius - 0.55) / 0.2) ** 2)))[:, :, None]
    neck = look.tone * (0.68 + 0.2 * np.clip(2 * down + 1, 0, 1))[:, :, None]
    neck = paste(neck, look.cloth, (down - 0.02 + 0.25 * across**2) * 12)
    hair = (
        look.hair * strands[: atlas.TILE, : atlas.TILE, None] * (0.8 - 0.1 * down)[:, :, None]
    )
    return {"eye": eye, "teeth": teeth, "mouth": mouth, "ear": ear, "neck": neck, "hair": hair}
