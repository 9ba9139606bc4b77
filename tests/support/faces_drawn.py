"""Faces without models, for tests of what comes after detection."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.align import AlignedFace
from ausl_dist.faces.detect import Detection, Face
from ausl_dist.faces.landmarks import CROP_SIZE, apply_affine
from ausl_dist.faces.video import Frame
from tests.support.corpora import draw_clip

BASE = draw_clip(0, frames=1, size=CROP_SIZE).landmarks[0].astype(np.float64)  # 68 2


def face_at(
    x: float,
    y: float,
    size: float = 100.0,
    *,
    angle: float = 0.0,
    presence: float = 1.0,
    noise: NDArray[np.floating] | float = 0.0,
) -> Face:
    """A face centred at (x, y), `size` pixels from ear to ear, turned in the picture by `angle`
    radians.
    """
    scale = size / 150
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([linear, np.array([x, y]) - linear @ BASE.mean(0)])
    points = apply_affine(matrix, BASE) + noise
    extent = (
        float(points[:, 0].min()),
        float(points[:, 1].min()),
        float(points[:, 0].max()),
        float(points[:, 1].max()),
    )
    return Face(np.asarray(points, np.float32), presence, 0.0, 0.0, extent)


def aligned(
    frame: int,
    *,
    track: int = 0,
    eye_pixels: float = 60.0,
    outside: float = 0.0,
    rank: int = 0,
    crop: NDArray[np.uint8] | None = None,
) -> AlignedFace:
    """One aligned face whose frame-level measures are as asked."""
    crop = np.full((CROP_SIZE, CROP_SIZE, 3), frame % 200, np.uint8) if crop is None else crop
    face = face_at(200, 200, eye_pixels * 150 / float(np.linalg.norm(BASE[45] - BASE[36])))
    return AlignedFace(
        track, frame, frame, crop, BASE.astype(np.float32), face, outside, 0.9, rank
    )


class Script:
    """Stands for detector and landmark model: `faces[frame]` is where the people are, in the
    order of their tracks.

    The picture of frame t carries t in its first pixel, so that both models know what they look
    at.
    """

    def __init__(self, faces: list[list[Face]], detect: Iterable[int] | None = None) -> None:
        self.faces = faces
        self.seen_by_detector = set(range(len(faces)) if detect is None else detect)
        self.detections = 0

    def frames(
        self,
        splices: Iterable[int] = (),
        width: int = 640,
        height: int = 480,
        scenes: Iterable[int] = (),
    ) -> Iterator[Frame]:
        """Frames of a patterned backdrop; a new pattern begins at each of `scenes`."""
        scene = 0
        backdrop = self._backdrop(scene, width, height)
        for index in range(len(self.faces)):
            if index in set(scenes):
                scene += 1
                backdrop = self._backdrop(scene, width, height)
            pixels = backdrop.copy()
            pixels[0, 0] = (index // 256, index % 256, 0)
            yield Frame(index, index, pixels, index in set(splices))

    def detector(self, picture: NDArray[np.uint8]) -> list[Detection]:
        self.detections += 1
        now = self._time(picture)
        if now not in self.seen_by_detector:
            return []
        return [
            Detection(
                x0, y0, x1 - x0, y1 - y0, face.landmarks[[36, 45]].astype(np.float64), 0.9
            )
            for face in sorted(self.faces[now], key=lambda face: -face.eye_pixels)
            for x0, y0, x1, y1 in [face.extent]
        ]

    def from_detection(self, picture: NDArray[np.uint8], detection: Detection) -> Face:
        return self._nearest(
            picture, detection.x + detection.width / 2, detection.y + detection.height / 2
        )

    def follow(self, picture: NDArray[np.uint8], face: Face) -> Face:
        x0, y0, x1, y1 = face.extent
        return self._nearest(picture, (x0 + x1) / 2, (y0 + y1) / 2)

    def _nearest(self, picture: NDArray[np.uint8], x: float, y: float) -> Face:
        faces = self.faces[self._time(picture)]
        if not faces:
            return face_at(x, y, presence=0.0)
        return min(faces, key=lambda face: float(np.hypot(*(face.landmarks.mean(0) - (x, y)))))

    @staticmethod
    def _time(picture: NDArray[np.uint8]) -> int:
        return int(picture[0, 0, 0]) * 256 + int(picture[0, 0, 1])

    @staticmethod
    def _backdrop(scene: int, width: int, height: int) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(scene).integers(0, 255, (8, 8), np.uint8)
        return np.kron(coarse, np.ones((height // 8, width // 8), np.uint8))[:, :, None].repeat(
            3, 2
        )
