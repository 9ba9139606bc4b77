"""What the backbone saw and what its head says, drawn on the video: landmarks, the crop, a bar
for each action unit of the largest face.

    Faces ──Overlay──▶ faces for the backbone; landmarks and crops are noted
        ──scores──▶ second pass over the video ──▶ OUT.mp4

The video is read twice, because a face is known only some frames after it was seen.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.align import AlignedFace
from ausl_dist.release.faces import FaceFrame, Faces
from ausl_dist.release.load import BundlePart, ReleasedBackbone
from ausl_dist.units import title_of

GREEN, YELLOW, WHITE, DARK = (0, 220, 0), (255, 210, 0), (255, 255, 255), (40, 40, 40)
BAR_WIDTH, ROW_HEIGHT, NAME_WIDTH = 90, 16, 44  # pixels
TALLEST = {"probability": 1.0, "intensity": 5.0}


@dataclass
class _Seen:
    """One face of one frame, in picture pixels."""

    landmarks: NDArray[np.float32]  # 68 2
    crop: NDArray[np.float32]  # 4 2, its corners
    scores: list[float] | None = None  # K


class Overlay:
    """Iterate it in the place of its faces, `add` what comes out, then `write` the video."""

    def __init__(self, faces: Faces, backbone: ReleasedBackbone) -> None:
        self._faces = faces
        head = backbone.head
        self._units = () if head is None else head.spec.action_units
        self._tallest = 1.0 if head is None else TALLEST[head.spec.unit]
        self._seen: dict[int, dict[int, _Seen]] = {}  # by frame and track

    def __iter__(self) -> Iterator[FaceFrame]:
        for face in self._faces.aligned():
            self._seen.setdefault(face.frame, {})[face.track] = _Seen(
                face.face.landmarks, _corners(face)
            )
            yield self._faces.as_input(face)

    def add(self, part: BundlePart) -> None:
        """Take the scores of some faces; nothing where the bundle has no head."""
        if part.scores is not None:
            for (frame, track, _), scores in zip(part.rows, part.scores.tolist(), strict=True):
                self._seen[frame][track].scores = scores

    def write(self, path: Path) -> int:
        """Write the video; returns its number of frames. An error leaves no file behind."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.mp4")
        frames = 0
        try:
            with av.open(str(temporary), "w") as video:
                rate = Fraction(self._faces.fps).limit_denominator(1001)
                stream = video.add_stream("libx264", rate=rate, options={"crf": "20"})
                for frame in self._faces.frames():
                    picture = _even(frame.pixels)
                    if not frames:
                        stream.height, stream.width = picture.shape[:2]
                        stream.pix_fmt = "yuv420p"
                    self._draw(picture, self._seen.get(frame.index, {}))
                    video.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
                    frames += 1
                video.mux(stream.encode(None))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return frames

    def _draw(self, picture: NDArray[np.uint8], faces: dict[int, _Seen]) -> None:
        for number, seen in enumerate(faces.values()):
            corners = seen.crop.round().astype(np.int32)
            cv2.polylines(picture, [corners], isClosed=True, color=YELLOW, thickness=1)
            for x, y in seen.landmarks:
                cv2.circle(picture, (round(float(x)), round(float(y))), 1, GREEN, -1)
            if number == 0 and seen.scores is not None:
                self._bars(picture, seen.scores)

    def _bars(self, picture: NDArray[np.uint8], scores: list[float]) -> None:
        right = NAME_WIDTH + BAR_WIDTH + 4
        below = ROW_HEIGHT * len(scores) + 4
        shaded = picture[:below, :right]
        shaded[:] = shaded // 3
        for row, (unit, score) in enumerate(zip(self._units, scores, strict=True)):
            top = 2 + ROW_HEIGHT * row
            length = round(BAR_WIDTH * min(max(score / self._tallest, 0.0), 1.0))
            start, end = (NAME_WIDTH, top + 3), (NAME_WIDTH + BAR_WIDTH, top + ROW_HEIGHT - 3)
            cv2.rectangle(picture, start, end, DARK, -1)
            cv2.rectangle(picture, start, (NAME_WIDTH + length, end[1]), YELLOW, -1)
            place = (3, top + ROW_HEIGHT - 4)
            cv2.putText(picture, title_of(unit), place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, WHITE, 1)


def _corners(face: AlignedFace) -> NDArray[np.float32]:
    """Where the corners of the crop lie in the picture: the transform is the one that took the
    landmarks there.
    """
    back, _ = cv2.estimateAffinePartial2D(face.landmarks, face.face.landmarks)
    side = face.crop.shape[0] - 1
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    return (corners @ back[:, :2].T + back[:, 2]).astype(np.float32)


def _even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy whose sides are even, as yuv420p wants them."""
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width]).copy()
