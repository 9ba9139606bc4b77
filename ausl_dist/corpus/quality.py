"""What a candidate clip is worth: measures that travel in KEY.json, the limits that reject, and
the signature that finds duplicates.

    crops T 256 256 3 + faces ──▶ measure ──▶ {"sharpness": …, "yaw": …, …}
                              ──▶ first_problem ──▶ reason or None

    eye_pixels          outer eye corners' distance in the source, smallest of the clip; pixels
    sharpness           Laplacian energy over luma energy at the source's own resolution, median
    yaw, pitch          90th percentile of the absolute angle; degrees
    luma                mean over face and clip; 0 to 255
    clipped             share of face pixels below 8 or above 247
    motion              mean luma change of the aligned face between different source frames
    presence, detector  mean belief of the landmark model, lowest score of the detector; 0 to 1
    source_fps          frame rate of the source; frames/s
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.settings import QualitySettings
from ausl_dist.faces.align import AlignedFace
from ausl_dist.faces.landmarks import TEMPLATE

# rows and columns of a crop that show the face and little else
FACE = slice(56, 216), slice(56, 200)
# side in pixels at which motion and signature are measured: above codec noise, below expression
SMALL = 64
BLACK, WHITE = 8, 247
SHARPNESS_EVERY = 5  # frames
SIGNATURE_BITS = 256
SIGNATURE_MOMENTS = 7  # points of the clip between which motion is recorded
TEMPLATE_EYE_PIXELS = float(TEMPLATE[3, 0] - TEMPLATE[0, 0])

# how a page names a measure whose unit its own name does not say
TITLES = {
    "eye_pixels": "between the eyes, pixels",
    "yaw": "yaw, degrees",
    "pitch": "pitch, degrees",
    "luma": "luma, 0 to 255",
    "clipped": "share of clipped pixels",
    "presence": "presence, 0 to 1",
    "detector": "detector's score, 0 to 1",
    "source_fps": "frames/s of the source",
}


def titled(measure: str) -> str:
    """A measure's name for people."""
    return TITLES.get(measure, measure)


def measure(faces: Sequence[AlignedFace], source_fps: float) -> dict[str, float]:
    """The measures of one clip (table above); rounded, so that they are short in JSON."""
    lumas = [_luma(face) for face in faces]
    small = _small(lumas)
    eye_pixels = [face.face.eye_pixels for face in faces]
    sharpness = [
        _sharpness(lumas[i], eye_pixels[i]) for i in range(0, len(faces), SHARPNESS_EVERY)
    ]
    clipped = [
        float(((luma < BLACK) | (luma > WHITE)).mean()) for luma in lumas[::SHARPNESS_EVERY]
    ]
    fresh = [
        i for i in range(1, len(faces)) if faces[i].source_frame != faces[i - 1].source_frame
    ]
    values = {
        "eye_pixels": min(eye_pixels),
        "sharpness": float(np.median(sharpness)),
        "yaw": float(np.percentile([abs(face.face.yaw) for face in faces], 90)),
        "pitch": float(np.percentile([abs(face.face.pitch) for face in faces], 90)),
        "luma": float(small.mean()),
        "clipped": float(np.mean(clipped)),
        "motion": float(np.mean([np.abs(small[i] - small[i - 1]).mean() for i in fresh]))
        if fresh
        else 0.0,
        "presence": float(np.mean([face.face.presence for face in faces])),
        "detector": min(face.detector_score for face in faces),
        "source_fps": source_fps,
    }
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def first_problem(values: dict[str, float], limits: QualitySettings) -> str | None:
    """The reason for which a clip with these measures is rejected, or None."""
    if values["presence"] < limits.min_presence:
        return "uncertain_face"
    if values["yaw"] > limits.max_yaw or values["pitch"] > limits.max_pitch:
        return "pose"
    if (
        not limits.min_luma <= values["luma"] <= limits.max_luma
        or values["clipped"] > limits.max_clipped
    ):
        return "exposure"
    if values["sharpness"] < limits.min_sharpness:
        return "blurred"
    if values["motion"] < limits.min_motion:
        return "still_image"
    return None


def signature(faces: Sequence[AlignedFace]) -> bytes:
    """256 bits that stay nearly the same when the same footage is encoded again: 64 of the
    look, 192 of the motion.

    The look alone would call one person at two moments a duplicate, since aligned faces look
    alike. Look: sign of horizontal luma steps of the mean face (difference hash). Motion: sign
    of luma change in 32 blocks between seven moments of the clip.
    """
    moments = np.linspace(0, len(faces) - 1, SIGNATURE_MOMENTS).round().astype(int)
    small = _small([_luma(faces[i]) for i in moments])
    look = cv2.resize(small.mean(0), (9, 8), interpolation=cv2.INTER_AREA)
    blocks = np.stack(
        [cv2.resize(luma, (4, 8), interpolation=cv2.INTER_AREA) for luma in small]
    )
    change = np.diff(blocks, axis=0)
    change -= np.median(change, axis=(1, 2), keepdims=True)  # blind to a change of brightness
    return np.packbits(
        np.concatenate([(np.diff(look, axis=1) > 0).ravel(), (change > 0).ravel()])
    ).tobytes()


def _luma(face: AlignedFace) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(face.crop, cv2.COLOR_RGB2GRAY)[FACE], np.uint8)


def _small(lumas: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return np.stack(
        [cv2.resize(luma, (SMALL, SMALL), interpolation=cv2.INTER_AREA) for luma in lumas]
    ).astype(np.float32)


def _sharpness(luma: NDArray[np.uint8], eye_pixels: float) -> float:
    # At the source's own resolution: an enlarged small face is not out of focus, and its size
    # is another measure.
    shrink = min(1.0, eye_pixels / TEMPLATE_EYE_PIXELS)
    size = max(16, round(luma.shape[1] * shrink)), max(16, round(luma.shape[0] * shrink))
    native = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    energy = float(native.var())
    return float(cv2.Laplacian(native, cv2.CV_32F).var()) / energy if energy > 1 else 0.0
