"""Every number that decides what a corpus contains, with its unit and its reason.

    configs/corpus/default.yaml ──▶ CorpusSettings ──▶ corpus.json (settings)

Two builds with equal settings, models and videos give equal bytes; two builds with different settings are different corpora,
which is why a build refuses to go on with changed ones.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ausl_dist.clip import MAX_CLIP_FRAMES
from ausl_dist.corpus.encode import Codec
from ausl_dist.landmarks import CROP_SIZE
from ausl_dist.settings import from_mapping

FlowEstimator = Literal["dis_ultrafast", "dis_fast", "dis_medium"]


@dataclass(frozen=True)
class ReadSettings:
    """How source video becomes frames at a constant rate, and which files are absurd."""

    fps: float = 25.0
    min_source_fps: float = 12.0  # below, most frames of the constant rate would be repetitions
    max_gap_seconds: float = 0.2  # a longer wait for the next source frame is a hole, not a frame shown for long
    max_side: int = 4096  # pixels; a decoder may hold 16 such frames, which is what a worker's memory is planned for
    work_side: int = 1920  # larger frames are shrunk to this side when read; a crop has 256
    max_seconds: float = 4 * 3600.0
    frames_fps: float = 25.0  # of folders of numbered frames, which state no rate

    def __post_init__(self) -> None:
        _require("read", 1 <= self.fps <= 120, f"fps must lie in 1..120, not {self.fps}")
        _require("read", self.max_gap_seconds >= 1 / self.fps, "max_gap_seconds must be at least one frame")
        _require("read", 64 <= self.work_side <= self.max_side <= 16384, "need 64 <= work_side <= max_side <= 16384")
        _require("read", 0 < self.max_seconds <= 86400, "max_seconds must lie in (0, 86400]")
        _require("read", 1 <= self.frames_fps <= 240, f"frames_fps must lie in 1..240, not {self.frames_fps}")


@dataclass(frozen=True)
class FaceSettings:
    """Detection, tracking and what a face must be in every frame of a clip."""

    detect_every_seconds: float = 0.4  # in between, the landmark model follows the faces found
    detect_side: int = 640  # pixels; frames are shrunk to this side for the detector
    min_detector_score: float = 0.6
    min_presence: float = 0.5  # the landmark model's own belief that it looks at a face
    max_faces: int = 4  # followed at once, the largest first
    min_eye_pixels: float = 16.0  # distance of the outer eye corners in the source; a crop has 91
    max_outside: float = 0.1  # share of the 68 landmarks that may lie outside the picture
    cut: float = 0.25  # change of a 32 x 32 luma thumbnail, 0 to 1, that ends every track; see track.py

    def __post_init__(self) -> None:
        _require("faces", self.detect_every_seconds >= 0, "detect_every_seconds must be >= 0")
        _require("faces", 64 <= self.detect_side <= 4096, "detect_side must lie in 64..4096 pixels")
        _require("faces", 1 <= self.max_faces <= 32, f"max_faces must lie in 1..32, not {self.max_faces}")
        _require("faces", self.min_eye_pixels >= 4, "min_eye_pixels must be at least 4: no landmark model works below")


@dataclass(frozen=True)
class ClipSettings:
    """How a track is cut into clips. A rest shorter than min_seconds is added to the clip before it."""

    seconds: float = 3.0
    overlap_seconds: float = 0.0
    min_seconds: float = 1.2  # a track that is followed for less gives no clip
    codec: Codec = "vp9"

    def __post_init__(self) -> None:
        _require("clips", 0 < self.min_seconds <= self.seconds, "need 0 < min_seconds <= seconds")
        _require("clips", 0 <= self.overlap_seconds < self.seconds, "need 0 <= overlap_seconds < seconds")


@dataclass(frozen=True)
class QualitySettings:
    """What a clip must be as a whole; each measure is defined in quality.py and stored in KEY.json whatever the limits."""

    min_sharpness: float = 0.015  # in focus 0.05 to 0.4; 0.002 to 0.02 after a blur of 3 pixels
    max_yaw: float = 60.0  # degrees, 90th percentile over the clip's frames
    max_pitch: float = 45.0
    min_luma: float = 25.0  # mean over face and clip, 0 to 255
    max_luma: float = 235.0
    max_clipped: float = 0.4  # share of face pixels that are black or burnt out
    min_motion: float = 0.15  # mean change of the aligned face from frame to frame, luma levels; less is a photograph
    min_presence: float = 0.7  # mean over the clip
    duplicate_bits: int = 36  # of 256; a clip whose signature is this near an earlier one shows the same footage; -1 keeps them


@dataclass(frozen=True)
class LabelSettings:
    """Which of the action-unit labels travel into clips: for studies of how few are enough."""

    share: float = 1.0  # of the labelled frames of each source, drawn at random; the others become unknown
    seed: int = 0

    def __post_init__(self) -> None:
        _require("labels", 0 < self.share <= 1, f"share must lie in (0, 1], not {self.share}")


@dataclass(frozen=True)
class FlowSettings:
    """Motion that is stored beside each clip (KEY.flow.npy); see flow.py."""

    gap_frames: int = 0  # from the first frame of a pair to the second; 0 stores no motion
    estimator: FlowEstimator = "dis_medium"
    cells: int = 32  # side of the grid; a cell holds the mean of 8 x 8 crop pixels

    def __post_init__(self) -> None:
        _require("flow", self.gap_frames >= 0, f"gap_frames must be >= 0, not {self.gap_frames}")
        _require("flow", self.estimator in get_args(FlowEstimator), f"estimator must be one of {', '.join(get_args(FlowEstimator))}")
        _require("flow", self.cells > 0 and CROP_SIZE % self.cells == 0, f"cells must divide {CROP_SIZE}")


@dataclass(frozen=True)
class CorpusSettings:
    """The whole of it."""

    read: ReadSettings = field(default_factory=ReadSettings)
    faces: FaceSettings = field(default_factory=FaceSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    flow: FlowSettings = field(default_factory=FlowSettings)
    max_shard_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        longest = (self.clips.seconds + self.clips.min_seconds) * self.read.fps
        _require("clips", longest < MAX_CLIP_FRAMES, f"seconds x fps must stay below {MAX_CLIP_FRAMES} frames")
        _require("clips", self.min_frames >= 2, "min_seconds must be at least two frames")
        _require("flow", self.flow.gap_frames < self.min_frames, f"gap_frames must be below clips.min_seconds ({self.min_frames} frames)")
        _require("corpus", self.max_shard_bytes >= 1 << 20, "max_shard_bytes must be at least 1 MiB")

    @property
    def clip_frames(self) -> int:
        return round(self.clips.seconds * self.read.fps)

    @property
    def overlap_frames(self) -> int:
        return round(self.clips.overlap_seconds * self.read.fps)

    @property
    def min_frames(self) -> int:
        return round(self.clips.min_seconds * self.read.fps)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def digest(self) -> str:
        """16 hex digits that change with any setting."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "CorpusSettings":
        return from_mapping(cls, values)


def _require(group: str, condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"{group}: {message}")
