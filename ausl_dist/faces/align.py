"""A track's faces become steady crops: one smoothed similarity transform per frame to the
template of `landmarks.py`.

    Frame + Sighting ──▶ (centre, size, angle) of the anchors ──▶ smoothed over 17 frames
                     ──▶ warp ──▶ AlignedFace

Landmarks tremble by about a pixel, and a crop made from each frame alone would tremble with
them: motion that is not there. Each of the four numbers of the transform is therefore replaced
by the value of a parabola fitted to its neighbourhood (Gaussian weights), which follows a
turning head without lag and takes most of the tremble away (steadiness.py measures it). Frames
wait until the eight after them are known.
"""

import functools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.detect import Face
from ausl_dist.faces.landmarks import (
    ANCHORS,
    CROP_SIZE,
    TEMPLATE,
    alignment_to_template,
    apply_affine,
)
from ausl_dist.faces.track import FaceTracker, Sighting
from ausl_dist.faces.video import Frame

SMOOTHING_RADIUS = 8  # frames on each side; at the ends of a track what there is
SMOOTHING_SIGMA = 3.0  # frames


@dataclass(frozen=True)
class AlignedFace:
    """One face of one frame as it goes into a clip."""

    track: int
    frame: int  # at the constant rate
    source_frame: int
    crop: NDArray[
        np.uint8
    ]  # 256 256 3, RGB; black where the template reaches beyond the picture
    # 68 2, crop pixels, of this frame alone: only the transform is smoothed
    landmarks: NDArray[np.float32]
    face: Face  # in picture pixels
    outside: float  # share of the landmarks that lie outside the picture
    detector_score: float
    rank: int  # 0 for the largest face of the frame


class TrackAligner:
    """Feed it one track's frames in order; it gives them back aligned, eight frames later."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Frame, Sighting]] = deque()
        # of frames waiting, and of up to eight before them
        self._numbers: list[NDArray[np.float64]] = []
        self._behind = 0  # how many of those are of frames given back already

    def push(self, frame: Frame, sighting: Sighting) -> Iterator[AlignedFace]:
        """Take one frame, give those whose neighbourhood is complete."""
        last_angle = self._numbers[-1][3] if self._numbers else 0.0
        self._numbers.append(_transform_numbers(sighting.face.landmarks, last_angle))
        self._waiting.append((frame, sighting))
        while len(self._waiting) > SMOOTHING_RADIUS:
            yield self._next()

    def finish(self) -> Iterator[AlignedFace]:
        """The track has ended: give what is left."""
        while self._waiting:
            yield self._next()

    def _next(self) -> AlignedFace:
        ahead = min(SMOOTHING_RADIUS, len(self._waiting) - 1)
        window = np.stack(self._numbers[: self._behind + 1 + ahead])
        smoothed = _smoothing_weights(self._behind, ahead) @ window
        if self._behind == SMOOTHING_RADIUS:
            self._numbers.pop(0)
        else:
            self._behind += 1
        frame, sighting = self._waiting.popleft()
        return _aligned(frame, sighting, _matrix(smoothed))


def align_tracks(frames: Iterator[Frame], tracker: FaceTracker) -> Iterator[AlignedFace | int]:
    """All tracks of a source at once: aligned faces, each track's in order, and a track's
    number alone once it has ended.
    """
    aligners: dict[int, TrackAligner] = {}
    for frame in frames:
        step = tracker.step(frame)
        for number in step.ended:
            if number in aligners:
                yield from aligners.pop(number).finish()
                yield number
        for sighting in step.sightings:
            yield from aligners.setdefault(sighting.track, TrackAligner()).push(frame, sighting)
    for number, aligner in sorted(aligners.items()):
        yield from aligner.finish()
        yield number


def warp(picture: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The 256 x 256 crop that `matrix` [2, 3] (picture to crop pixels) cuts out of a picture
    [H, W, 3].

    A large face loses pixels: they are averaged, not dropped, or fine texture would flicker.
    """
    picture, matrix = _shrunk(picture, matrix)
    if not picture.size:
        return np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8)
    # samples for each pixel of the crop, along each side
    times = min(3, math.ceil(1 / max(_scale(matrix), 1e-3) - 0.1))
    finer = matrix * times
    finer[:, 2] += (times - 1) / 2  # pixel centres lie at integers
    kind = cv2.INTER_CUBIC if times == 1 else cv2.INTER_LINEAR
    crop = cv2.warpAffine(
        picture,
        finer,
        (CROP_SIZE * times, CROP_SIZE * times),
        flags=kind,
        borderMode=cv2.BORDER_CONSTANT,
    )
    if times > 1:
        crop = cv2.resize(crop, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def _shrunk(
    picture: NDArray[np.uint8], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of the picture that the crop shows, at about twice the fineness of the crop
    where it was finer; and its matrix.
    """
    times = round(0.5 / max(_scale(matrix), 1e-3))
    if times < 2:
        return picture, matrix
    corners = np.array(
        [[0, 0], [CROP_SIZE, 0], [0, CROP_SIZE], [CROP_SIZE, CROP_SIZE]], np.float64
    )
    reach = apply_affine(np.asarray(cv2.invertAffineTransform(matrix), np.float64), corners)
    height, width = picture.shape[:2]
    x0, y0 = (int(value) for value in np.clip(reach.min(0) - 2 * times, 0, [width, height]))
    x1, y1 = (int(value) for value in np.clip(reach.max(0) + 2 * times, 0, [width, height]))
    columns, rows = (x1 - x0) // times, (y1 - y0) // times
    if not (columns and rows):
        return picture[:0, :0], matrix
    part = picture[y0 : y0 + rows * times, x0 : x0 + columns * times]
    small = np.asarray(
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8
    )
    back = np.array(
        [[times, 0, x0 + (times - 1) / 2], [0, times, y0 + (times - 1) / 2], [0, 0, 1]]
    )
    return small, matrix @ back


def _scale(matrix: NDArray[np.float64]) -> float:
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _aligned(frame: Frame, sighting: Sighting, matrix: NDArray[np.float64]) -> AlignedFace:
    height, width = frame.pixels.shape[:2]
    points = sighting.face.landmarks
    outside = (
        (points < -0.5).any(1) | (points[:, 0] > width - 0.5) | (points[:, 1] > height - 0.5)
    )
    return AlignedFace(
        track=sighting.track,
        frame=frame.index,
        source_frame=frame.source_frame,
        crop=warp(frame.pixels, matrix),
        landmarks=np.asarray(apply_affine(matrix, points), np.float32),
        face=sighting.face,
        outside=float(outside.mean()),
        detector_score=sighting.detector_score,
        rank=sighting.rank,
    )


def _transform_numbers(
    landmarks: NDArray[np.float32], last_angle: float
) -> NDArray[np.float64]:
    """A similarity transform as numbers that can be averaged: anchors' mean (2), log scale,
    angle without jumps.
    """
    points = np.asarray(landmarks, np.float64)
    matrix = alignment_to_template(points)
    centre = points[ANCHORS].mean(0)
    angle = np.arctan2(matrix[1, 0], matrix[0, 0])
    angle += 2 * np.pi * np.round((last_angle - angle) / (2 * np.pi))
    return np.array([centre[0], centre[1], np.log(np.hypot(matrix[0, 0], matrix[1, 0])), angle])


def _matrix(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `_transform_numbers`: anchors' mean goes to the template's mean."""
    x, y, log_scale, angle = numbers
    linear = np.exp(log_scale) * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    return np.column_stack([linear, TEMPLATE.mean(0) - linear @ np.array([x, y])])


@functools.lru_cache(maxsize=(SMOOTHING_RADIUS + 1) ** 2)
def _smoothing_weights(behind: int, ahead: int) -> NDArray[np.float64]:
    """Weights that give the value at offset 0 of the polynomial fitted to offsets
    -behind..ahead (Savitzky-Golay with Gaussian weights).
    """
    offsets = np.arange(-behind, ahead + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (offsets / SMOOTHING_SIGMA) ** 2)
    # Near an end the parabola would hang on few points and follow their noise: a line, or a
    # mean.
    degree = min(2 if min(behind, ahead) >= SMOOTHING_RADIUS // 2 else 1, len(offsets) - 1)
    powers = np.vander(offsets, degree + 1, increasing=True)
    weighted = (powers * weights[:, None]).T
    return np.asarray(np.linalg.solve(weighted @ powers, weighted)[0])
