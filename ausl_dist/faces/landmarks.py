"""The alignment template, and the similarity transform between point sets; points are those of
`ausl_dist.convention`.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from ausl_dist.convention import CROP_SIZE, MIRROR, NUM_LANDMARKS

__all__ = ["CROP_SIZE", "MIRROR", "NUM_LANDMARKS"]  # what goes with the template

# Points that no action unit moves much: eye corners and the base of the nose. Alignment uses
# these alone; with mouth or brows among them a smile would shift and scale the whole crop, and
# hide what the backbone is to see.
ANCHORS = np.array([36, 39, 42, 45, 31, 33, 35])

# Where the anchors go in the 256 x 256 crop: eyes level at 39 % of the height, 92 px between
# the outer eye corners, which leaves room for a raised brow above and a dropped jaw below.
# Ours; no published convention is compatible with another.
TEMPLATE = np.array(
    [
        [82.0, 100.0],
        [112.5, 101.0],
        [142.5, 101.0],
        [173.0, 100.0],
        [113.0, 147.0],
        [127.5, 151.5],
        [142.0, 147.0],
    ],
    dtype=np.float64,
)


def template_id() -> str:
    """Name of the alignment: changes whenever a crop made with it would change."""
    digest = hashlib.sha256(
        ANCHORS.astype("<i8").tobytes()
        + TEMPLATE.astype("<f8").tobytes()
        + bytes([CROP_SIZE % 256, CROP_SIZE // 256])
    )
    return f"anchors7-{digest.hexdigest()[:12]}"


def fit_similarity(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Least-squares rotation, uniform scale and shift that takes `source` [N, 2] to `target`
    [N, 2]; returns [2, 3].

    Closed form of Umeyama (TPAMI 1991) in the plane, without reflection. Raises ValueError when
    all source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    # As complex numbers a similarity is z -> a z + b, and a is one division.
    s = (source - source_mean) @ np.array([1, 1j])
    t = (target - target_mean) @ np.array([1, 1j])
    spread = float(np.vdot(s, s).real)
    if not spread > 1e-9:
        raise ValueError("a similarity cannot be fitted: all source points coincide")
    a = np.vdot(s, t) / spread
    linear = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def apply_affine(
    matrix: NDArray[np.floating], points: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Map points [..., N, 2] by matrices [..., 2, 3]; leading dimensions broadcast."""
    moved: NDArray[np.floating] = (
        points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]
    )
    return moved


def alignment_to_template(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """The [2, 3] matrix from image pixels to crop pixels for one face, landmarks [68, 2]."""
    return fit_similarity(landmarks[ANCHORS], TEMPLATE)
