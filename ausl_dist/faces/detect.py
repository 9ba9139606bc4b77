"""Pictures to faces: YuNet finds boxes, the landmark model puts 478 points on each, a table
makes 68 of them.

    frame H W 3 ──Detector──▶ Detection (box, eyes, score) ──Landmarker──▶ Face (68 points, presence, pose)

The landmark model sees an upright square around the face: at first around the detector's box,
later around the landmarks of the frame before, so that following a face needs no detector. Both
run on one thread: a machine is filled with workers, not with threads.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import apply_affine
from ausl_dist.faces.models import DETECTOR, LANDMARKER, find_model

MODEL_SIDE = 256  # of the landmark model's input
# side of that input as a multiple of the face's extent, as the model was trained
ROI_MARGIN = 1.5
LANDMARKS_MEMBER = "face_landmarks_detector.tflite"
MAX_MODEL_BYTES = 64 << 20

# 68 points out of 478, py-feat's table (iBUG order); an approximation: the mesh has no jaw
# contour that slides with the pose.
MESH_TO_68 = np.array(
    [
        *(
            127,
            234,
            93,
            132,
            58,
            172,
            136,
            150,
            176,
            148,
            152,
            377,
            400,
            379,
            365,
            397,
            356,
        ),  # jaw
        *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows
        *(168, 6, 195, 4, 240, 75, 1, 305, 460),  # nose
        *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
        *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lip
        *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lip
    ]
)
_EYES = (33, 263)  # outer corners, mesh numbering
_TOP, _CHIN = 10, 152


@dataclass(frozen=True)
class Detection:
    """What the detector says: box in picture pixels and the two eyes (image left first)."""

    x: float
    y: float
    width: float
    height: float
    eyes: NDArray[np.float64]  # 2 2
    score: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True)
class Face:
    """One face in one picture."""

    landmarks: NDArray[np.float32]  # 68 2, picture pixels
    presence: float  # 0 to 1
    yaw: float  # degrees, positive when the face looks to the image's right
    pitch: float  # degrees, positive when it looks down
    extent: tuple[float, float, float, float]  # box around all mesh points: x0, y0, x1, y1
    mesh: NDArray[np.float32] | None = None  # 478 2, picture pixels, of the landmark model

    @property
    def eye_pixels(self) -> float:
        """Distance of the outer eye corners in picture pixels: the size of a face."""
        return float(np.linalg.norm(self.landmarks[45] - self.landmarks[36]))


class Detector:
    """YuNet on pictures of any size, shrunk to at most `side` pixels."""

    def __init__(
        self, models: Path | str | None = None, *, side: int = 640, min_score: float = 0.6
    ) -> None:
        path = find_model(DETECTOR, models)
        cv2.setNumThreads(1)
        # OpenCV 5 warns of a default of its own
        previous = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        self._net = cv2.FaceDetectorYN.create(str(path), "", (side, side), min_score, 0.3, 200)
        cv2.utils.logging.setLogLevel(previous)
        self._side = side

    def __call__(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an RGB picture [H, W, 3], the largest first."""
        height, width = picture.shape[:2]
        scale = min(1.0, self._side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = (
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
        )
        self._net.setInputSize(size)
        _, rows = self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        found = [
            self._detection(np.asarray(row, np.float64), scale)
            for row in (() if rows is None else rows)
        ]
        return sorted(found, key=lambda detection: -detection.width * detection.height)

    @staticmethod
    def _detection(row: NDArray[np.float64], scale: float) -> Detection:
        x, y, width, height = (float(value) for value in row[:4] / scale)
        return Detection(
            x, y, width, height, eyes=row[4:8].reshape(2, 2) / scale, score=float(row[14])
        )


class Landmarker:
    """The 478-point face mesh of MediaPipe's face_landmarker.task, run without mediapipe."""

    def __init__(self, models: Path | str | None = None) -> None:
        from ai_edge_litert.interpreter import (
            Interpreter,  # 0.3 s, and not needed by those who only read shards
        )

        self._net = Interpreter(
            model_content=_read_landmark_model(find_model(LANDMARKER, models)), num_threads=1
        )
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        outputs: dict[tuple[int, ...], Any] = {
            tuple(o["shape"]): o["index"] for o in self._net.get_output_details()
        }
        self._mesh, self._presence = outputs[(1, 1, 1, 478 * 3)], outputs[(1, 1, 1, 1)]

    def from_detection(self, picture: NDArray[np.uint8], detection: Detection) -> Face:
        """The face in a detector's box; looked at twice, the second time around the points of
        the first.
        """
        centre = np.array(
            [detection.x + detection.width / 2, detection.y + detection.height / 2]
        )
        side = max(detection.width, detection.height) * ROI_MARGIN
        return self.follow(picture, self._run(picture, _upright(centre, side, detection.eyes)))

    def follow(self, picture: NDArray[np.uint8], face: Face) -> Face:
        """The same face in the next picture."""
        x0, y0, x1, y1 = face.extent
        side = max(x1 - x0, y1 - y0) * ROI_MARGIN
        return self._run(
            picture,
            _upright(
                np.array([x0 + x1, y0 + y1]) / 2,
                side,
                face.landmarks[[36, 45]].astype(np.float64),
            ),
        )

    def _run(self, picture: NDArray[np.uint8], to_model: NDArray[np.float64]) -> Face:
        crop = cv2.warpAffine(
            picture,
            to_model,
            (MODEL_SIDE, MODEL_SIDE),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        self._net.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._net.invoke()
        mesh = self._net.get_tensor(self._mesh).reshape(478, 3).astype(np.float64)
        logit = float(self._net.get_tensor(self._presence).reshape(()))
        points = apply_affine(
            np.asarray(cv2.invertAffineTransform(to_model), np.float64), mesh[:, :2]
        )
        yaw, pitch = _pose(mesh)
        (left, top), (right, bottom) = points.min(0), points.max(0)
        presence = float(1 / (1 + np.exp(-np.clip(logit, -50, 50))))
        return Face(
            landmarks=points[MESH_TO_68].astype(np.float32),
            presence=presence if np.isfinite(points).all() else 0.0,
            yaw=yaw,
            pitch=pitch,
            extent=(float(left), float(top), float(right), float(bottom)),
            mesh=points.astype(np.float32),
        )


def _upright(
    centre: NDArray[np.float64], side: float, eyes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The matrix [2, 3] from picture to model input that puts `centre` in the middle and the
    eyes level.
    """
    side = max(side, 8.0)
    across = eyes[1] - eyes[0]
    length = float(np.hypot(*across))
    cosine, sine = (across / length) if length > 1e-6 else (1.0, 0.0)
    linear = np.array([[cosine, sine], [-sine, cosine]]) * (MODEL_SIDE / side)
    return np.column_stack([linear, MODEL_SIDE / 2 - linear @ centre])


def _pose(mesh: NDArray[np.float64]) -> tuple[float, float]:
    """Yaw and pitch in degrees from the depth of the mesh: how far eye line and brow-to-chin
    line turn out of the picture plane.
    """
    across, down = mesh[_EYES[1]] - mesh[_EYES[0]], mesh[_CHIN] - mesh[_TOP]
    return float(np.degrees(np.arctan2(across[2], across[0]))), float(
        np.degrees(np.arctan2(down[2], down[1]))
    )


def _read_landmark_model(path: Path) -> bytes:
    with zipfile.ZipFile(path) as bundle:
        if bundle.getinfo(LANDMARKS_MEMBER).file_size > MAX_MODEL_BYTES:
            raise ValueError(
                f"{path}: {LANDMARKS_MEMBER} is larger than {MAX_MODEL_BYTES} bytes"
            )
        return bundle.read(LANDMARKS_MEMBER)
