"""Faces in frames become tracks: one person without a break, from being found to being lost.

    Frame ──▶ cut? ──▶ follow each track by its landmarks
          ──▶ detect (every 0.4 s, and when a track was lost) ──▶ Sighting per track

A track ends at a cut, at a hole in the source, when the landmark model no longer sees a face,
when its face jumps, or when the detector disagrees for several rounds. A person who is lost and
found again is a new track: nothing here recognises people.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.detect import Detection, Detector, Face, Landmarker
from ausl_dist.faces.settings import FaceSettings
from ausl_dist.faces.video import Frame

THUMBNAIL = 32  # side in pixels; faces that move do not change it much, cuts do
SAME_FACE = 0.3  # overlap (intersection over union) above which two boxes are one face
MAX_JUMP = 0.5  # of the face's extent, from one frame to the next
MAX_UNSUPPORTED = 3  # detection rounds in a row without a box on a track
IDLE_DETECT_EVERY = 3  # frames, while nobody is in the picture

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sighting:
    """One track's face in one frame."""

    track: int
    frame: int
    face: Face
    detector_score: float  # of the last detection that supported the track
    rank: int  # 0 for the largest face of the frame


@dataclass
class _Track:
    number: int
    face: Face
    score: float
    unsupported: int = 0


@dataclass
class TrackStep:
    """What one frame brought: sightings of live tracks, and the tracks that have ended before
    it.
    """

    sightings: list[Sighting] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)


class FaceTracker:
    """Feed it every frame in order; tracks are numbered from 0 in the order they are found."""

    def __init__(
        self, detector: Detector, landmarker: Landmarker, settings: FaceSettings, fps: float
    ) -> None:
        self._detector, self._landmarker, self._settings = detector, landmarker, settings
        self._detect_every = max(1, round(settings.detect_every_seconds * fps))
        self._tracks: list[_Track] = []
        self._found = 0
        self._next_detection = 0
        self._last_pixels: NDArray[np.uint8] | None = None
        self._thumbnail: NDArray[np.float32] | None = None

    def step(self, frame: Frame) -> TrackStep:
        """Advance by one frame."""
        step = TrackStep()
        # the same picture again: nothing can have changed
        if frame.pixels is self._last_pixels and not frame.splice:
            step.sightings = self._sightings(frame)
            return step
        self._last_pixels = frame.pixels
        if self._is_cut(frame):
            step.ended += [track.number for track in self._tracks]
            self._tracks, self._next_detection = [], frame.index
        lost = self._follow(frame.pixels)
        if lost:
            step.ended += lost
            self._next_detection = frame.index
        if frame.index >= self._next_detection:
            step.ended += self._detect(frame.pixels)
            self._next_detection = frame.index + (
                self._detect_every
                if self._tracks
                else min(IDLE_DETECT_EVERY, self._detect_every)
            )
        step.sightings = self._sightings(frame)
        return step

    @property
    def live(self) -> list[int]:
        """Numbers of the tracks that have not ended."""
        return [track.number for track in self._tracks]

    def _sightings(self, frame: Frame) -> list[Sighting]:
        by_size = sorted(self._tracks, key=lambda track: (-track.face.eye_pixels, track.number))
        return [
            Sighting(track.number, frame.index, track.face, track.score, rank)
            for rank, track in enumerate(by_size)
        ]

    def _is_cut(self, frame: Frame) -> bool:
        # Of a large picture some pixels will do: averaging all of a 1080p frame would take
        # longer than decoding it.
        sampled = cv2.resize(
            frame.pixels, (4 * THUMBNAIL, 4 * THUMBNAIL), interpolation=cv2.INTER_NEAREST
        )
        small = cv2.resize(sampled, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        thumbnail: NDArray[np.float32] = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(
            np.float32
        ) / np.float32(255)
        before, self._thumbnail = self._thumbnail, thumbnail
        return frame.splice or (
            before is not None and picture_change(before, thumbnail) > self._settings.cut
        )

    def _follow(self, pixels: NDArray[np.uint8]) -> list[int]:
        lost, kept = list[int](), list[_Track]()
        for track in self._tracks:
            face = self._landmarker.follow(pixels, track.face)
            if (
                face.presence < self._settings.min_presence
                or _has_jumped(track.face, face)
                or _any_same(face.extent, kept)
            ):
                lost.append(track.number)
            else:
                track.face = face
                kept.append(track)
        self._tracks = kept
        return lost

    def _detect(self, pixels: NDArray[np.uint8]) -> list[int]:
        """Find new faces, and end tracks that the detector has not seen for a while; returns
        the ended ones.
        """
        unclaimed = self._detector(pixels)
        for track in self._tracks:
            matches = [
                d
                for d in unclaimed
                if _overlap(d.box, track.face.extent) > SAME_FACE
                or _contains_centre(track.face.extent, d)
            ]
            track.unsupported = 0 if matches else track.unsupported + 1
            if matches:
                track.score = max(d.score for d in matches)
            unclaimed = [d for d in unclaimed if d not in matches]
        ended = [track.number for track in self._tracks if track.unsupported >= MAX_UNSUPPORTED]
        self._tracks = [track for track in self._tracks if track.unsupported < MAX_UNSUPPORTED]
        for detection in unclaimed:
            if len(self._tracks) >= self._settings.max_faces:
                break
            face = self._landmarker.from_detection(pixels, detection)
            if face.presence >= self._settings.min_presence and not _any_same(
                face.extent, self._tracks
            ):
                self._tracks.append(_Track(self._found, face, detection.score))
                self._found += 1
        return ended


def picture_change(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """How different two luma thumbnails are, 0 to 1: one minus their correlation, weighted by
    how much there is to see.

    Correlation makes it blind to a change of brightness; the weight keeps noise on a blank wall
    from looking like a cut.
    """
    a, b = before - before.mean(), after - after.mean()
    strength = float(np.sqrt((a * a).mean() * (b * b).mean()))
    correlation = float((a * b).mean()) / max(strength, 1e-6)
    contrast = max(float(a.std()), float(b.std()))
    return (1 - correlation) / 2 * min(1.0, contrast / 0.05) if contrast > 0 else 0.0


def _has_jumped(before: Face, after: Face) -> bool:
    size = max(before.extent[2] - before.extent[0], before.extent[3] - before.extent[1], 1.0)
    moved = float(np.linalg.norm(after.landmarks.mean(0) - before.landmarks.mean(0)))
    grown = after.eye_pixels / max(before.eye_pixels, 1e-6)
    return moved > MAX_JUMP * size or not 0.5 < grown < 2.0


def _any_same(extent: Box, tracks: list[_Track]) -> bool:
    return any(_overlap(extent, track.face.extent) > SAME_FACE for track in tracks)


def _contains_centre(extent: Box, detection: Detection) -> bool:
    x, y = detection.x + detection.width / 2, detection.y + detection.height / 2
    return extent[0] <= x <= extent[2] and extent[1] <= y <= extent[3]


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
