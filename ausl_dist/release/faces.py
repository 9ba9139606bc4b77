"""Raw video or pictures to the backbone's input, by the very code that built the training
corpus.

    video, folder of frames, picture ──▶ faces followed, aligned, smoothed (ausl_dist.corpus)
        ──▶ central square, resized, normalised

Memory does not grow with the length of the video. Where a frame shows no face there is no frame
in the result: its number is missing.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ausl_dist.faces.align import AlignedFace, align_tracks
from ausl_dist.faces.decode import Unreadable, read_image
from ausl_dist.faces.detect import Detector, Landmarker
from ausl_dist.faces.settings import FaceSettings, ReadSettings
from ausl_dist.faces.track import FaceTracker
from ausl_dist.faces.video import Frame, FrameReader
from ausl_dist.release.preprocessing import Preprocessing
from ausl_dist.stream.augment import centred

PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
# a camera's; none is shrunk
PICTURES = ReadSettings(max_side=8192, work_side=8192)
DEFAULT_FPS = 25.0  # where the training corpora had several rates
SLOWEST_FPS = 0.1

Source = Path | str | NDArray[np.uint8]


@dataclass(frozen=True)
class FaceFrame:
    """One face of one frame, ready for the backbone."""

    track: (
        int  # one person without a break; a person who is lost and found again is a new track
    )
    frame: int  # at the backbone's rate
    seconds: float
    pixels: Tensor  # C H W float32, normalised


class Faces:
    """The faces of a source, read anew each time it is iterated.

    By default the largest face of each frame; with `everyone`, all of them. Raises ValueError
    while iterating where the source cannot be read, and FileNotFoundError, saying how to get
    them, where the detection models are not there.
    """

    def __init__(
        self,
        source: Source,
        preprocessing: Preprocessing,
        *,
        models: Path | str | None = None,
        everyone: bool = False,
    ) -> None:
        preprocessing.check_executable()
        self.fps = preprocessing.fps or DEFAULT_FPS
        self._source, self._preprocessing, self._models, self._everyone = (
            source,
            preprocessing,
            models,
            everyone,
        )
        self.frames_read = 0

    def __iter__(self) -> Iterator[FaceFrame]:
        yield from map(self.as_input, self.aligned())

    def as_input(self, face: AlignedFace) -> FaceFrame:
        """An aligned face as the backbone takes it."""
        pixels = to_input(face.crop, self._preprocessing)
        return FaceFrame(face.track, face.frame, face.frame / self.fps, pixels)

    def frames(self) -> Iterator[Frame]:
        """The whole frames of the source, in order."""
        return read_frames(self._source, self.fps)

    def aligned(self) -> Iterator[AlignedFace]:
        """The same faces as crops in the template's place, before the backbone's view is taken
        of them.
        """
        settings = FaceSettings()
        detector = Detector(
            self._models, side=settings.detect_side, min_score=settings.min_detector_score
        )
        tracker = FaceTracker(detector, Landmarker(self._models), settings, self.fps)
        self.frames_read = 0
        for aligned in align_tracks(
            self._counted(read_frames(self._source, self.fps)), tracker
        ):
            if isinstance(aligned, int) or aligned.frame % self._preprocessing.stride:
                continue
            if self._everyone or aligned.rank == 0:
                yield aligned

    def _counted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.frames_read += 1
            yield frame


def read_frames(source: Source, fps: float) -> Iterator[Frame]:
    """Frames at a constant rate of a video file or a folder of numbered pictures; the one frame
    of a picture. What is missing of them is warned of; ValueError where reading cannot go on.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ValueError(
                f"a picture is uint8 [H, W, 3] in RGB, not {source.dtype} {source.shape}"
            )
        yield Frame(0, 0, np.ascontiguousarray(source), splice=False)
        return
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
        yield Frame(0, 0, _read_picture(path), splice=False)
        return
    try:
        reader = FrameReader(path, ReadSettings(fps=fps, min_source_fps=SLOWEST_FPS))
        yield from reader
        if reader.problem is not None:
            raise reader.problem
    except Unreadable as error:
        raise ValueError(f"{path}: {error}") from error
    if reader.damaged:
        lost = f"{reader.damaged} packets or images could not be decoded"
        warnings.warn(f"{path} is damaged: {lost}", stacklevel=2)
    if reader.missing_frames:
        seconds = reader.missing_frames / fps
        warnings.warn(
            f"{path} is cut short: its last {seconds:.1f} s are missing", stacklevel=2
        )


def to_input(crop: NDArray[np.uint8], preprocessing: Preprocessing) -> Tensor:
    """The backbone's input C H W of an aligned crop [256, 256, 3], sampled as the stream
    samples clips without augmentation.
    """
    size = preprocessing.image_size
    draw = centred(preprocessing.as_view(), 1, crop.shape[:2], size)
    halved = (crop.shape[1] >> draw.level, crop.shape[0] >> draw.level)
    small = cv2.resize(crop, halved, interpolation=cv2.INTER_AREA) if draw.level else crop
    left, top, side = (int(value) for value in draw.crop[0])
    view = cv2.resize(
        small[top : top + side, left : left + side],
        (size, size),
        interpolation=cv2.INTER_LINEAR,
    )
    mean, std = (
        np.array(values, np.float32)
        for values in (preprocessing.pixel_mean, preprocessing.pixel_std)
    )
    normalised = (view.astype(np.float32) / np.float32(255) - mean) / std
    return torch.from_numpy(
        np.ascontiguousarray(normalised.transpose(2, 0, 1))
    )  # H W C -> C H W


def _read_picture(path: Path) -> NDArray[np.uint8]:
    try:
        return read_image(path, PICTURES)
    except Unreadable as error:
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error
