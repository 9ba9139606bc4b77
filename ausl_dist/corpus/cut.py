"""A track of aligned faces becomes candidate clips; what cannot be in a clip becomes rejected
pieces.

    AlignedFace, … ──▶ fit for a clip? ──▶ runs without a break ──▶ Candidate (3 s) | Piece with a reason

A run is cut into clips of `clips.seconds`; a rest shorter than `clips.min_seconds` lengthens
the clip before it, so no frame of a run is lost. Memory holds one clip and the shortest rest.
"""

import base64
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ausl_dist.corpus.books import TrackPiece
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.faces.align import AlignedFace
from ausl_dist.faces.settings import FaceSettings

PICTURE_SIDE = 64  # pixels


@dataclass(frozen=True)
class Candidate:
    """Consecutive frames of one track, to be judged as a clip."""

    faces: list[AlignedFace]

    @property
    def first(self) -> int:
        return self.faces[0].frame

    @property
    def end(self) -> int:
        return self.faces[-1].frame + 1

    def rejected(self, reason: str, detail: dict[str, float] | None = None) -> TrackPiece:
        """The piece that this candidate is when it becomes no clip."""
        return TrackPiece(
            self.first, self.end, reason, self.faces[0].track, detail or {}, picture(self.faces)
        )


class TrackCutter:
    """Feed it one track's faces in order.

    `one_person`: only the largest face of each frame may be in a clip.
    """

    def __init__(self, settings: CorpusSettings, *, one_person: bool = False) -> None:
        self._settings, self._one_person = settings, one_person
        self._run: list[AlignedFace] = []
        self._carried = 0  # first frames of the run that are in the clip before as well
        # grows while frames are rejected for one reason
        self._rejected: TrackPiece | None = None

    def push(self, face: AlignedFace) -> list[Candidate | TrackPiece]:
        """Take one face; give what is complete."""
        problem = frame_problem(face, self._settings.faces)
        if problem is None and self._one_person and face.rank > 0:
            problem = "second_person"
        if problem is not None:
            return [*self._end_run(), *self._reject(face, problem)]
        complete: list[Candidate | TrackPiece] = [*self._end_rejected()]
        self._run.append(face)
        length = self._settings.clip_frames
        if len(self._run) == length + self._settings.min_frames:
            complete.append(Candidate(self._run[:length]))
            self._run = self._run[length - self._settings.overlap_frames :]
            self._carried = self._settings.overlap_frames
        return complete

    def finish(self) -> list[Candidate | TrackPiece]:
        """The track has ended: give what is left."""
        return [*self._end_run(), *self._end_rejected()]

    def _end_run(self) -> list[Candidate | TrackPiece]:
        run, carried = self._run, self._carried
        self._run, self._carried = [], 0
        if len(run) == carried:
            return []
        if len(run) >= self._settings.min_frames:
            return [Candidate(run)]
        return [Candidate(run).rejected("too_short")]

    def _reject(self, face: AlignedFace, reason: str) -> list[TrackPiece]:
        before = self._rejected
        if before is not None and before.outcome == reason and before.end == face.frame:
            self._rejected = dataclasses.replace(before, end=face.frame + 1)
            return []
        self._rejected = Candidate([face]).rejected(reason)
        return [before] if before is not None else []

    def _end_rejected(self) -> list[TrackPiece]:
        before, self._rejected = self._rejected, None
        return [before] if before is not None else []


def frame_problem(face: AlignedFace, settings: FaceSettings) -> str | None:
    """Why a single frame cannot be in a clip, or None."""
    if face.face.eye_pixels < settings.min_eye_pixels:
        return "face_too_small"
    if face.outside > settings.max_outside:
        return "out_of_picture"
    return None


def picture(faces: Sequence[AlignedFace]) -> str:
    """First, middle and last crop side by side, as a small JPEG in base64, for people who ask
    what was rejected.
    """
    chosen = [faces[0], faces[len(faces) // 2], faces[-1]] if len(faces) > 1 else faces
    row = np.hstack(
        [
            cv2.resize(face.crop, (PICTURE_SIDE, PICTURE_SIDE), interpolation=cv2.INTER_AREA)
            for face in chosen
        ]
    )
    _, jpeg = cv2.imencode(".jpg", row[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    return base64.b64encode(jpeg.tobytes()).decode()
