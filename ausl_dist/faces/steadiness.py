"""How steady crops are: the acceleration of points that are fixed to a head, measured on a head
that keeps still.

    AlignedFace of each frame ──▶ its transform ──▶ where the head's fixed points lie in the crop
                              ──▶ second difference, RMS

On a still head the fixed points are known better than any frame shows them: as the mean over
all frames. What their places in the crops then do from frame to frame is the alignment's own
tremble, and a network would take it for motion of the face.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.align import AlignedFace
from ausl_dist.faces.landmarks import alignment_to_template, apply_affine, fit_similarity

FIXED = (
    27,
    28,
    29,
    30,
    36,
    39,
    42,
    45,
)  # nose bridge and eye corners: no expression moves them


def tremble(faces: Sequence[AlignedFace]) -> tuple[float, float]:
    """RMS acceleration of a still head's fixed points in its crops, and what it would be were
    each frame aligned by itself.

    In crop pixels per frame squared; `faces` are at least three consecutive frames of one
    track.
    """
    seen = [np.asarray(face.face.landmarks, np.float64) for face in faces]
    head = np.mean(seen, axis=0)[list(FIXED)]  # points 2, picture pixels
    smoothed = [
        fit_similarity(points, np.asarray(face.landmarks, np.float64))
        for points, face in zip(seen, faces, strict=True)
    ]
    single = [alignment_to_template(points) for points in seen]
    return _acceleration(smoothed, head), _acceleration(single, head)


def _acceleration(
    transforms: Sequence[NDArray[np.float64]], head: NDArray[np.float64]
) -> float:
    places = np.stack([apply_affine(transform, head) for transform in transforms])  # T points 2
    return float(np.sqrt((np.diff(places, 2, axis=0) ** 2).sum(-1).mean()))
