"""Every number that decides what a corpus contains, with its unit and its reason.

    a YAML file, --set group.name=value ──▶ CorpusSettings ──▶ corpus.json (settings)

Two builds with equal settings, models and videos give equal bytes; two builds with different
settings are different corpora, which is why a build refuses to go on with changed ones.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ausl_dist.faces.landmarks import CROP_SIZE
from ausl_dist.faces.settings import FaceSettings, ReadSettings, require
from ausl_dist.settings import from_mapping
from ausl_dist.shards.clip import MAX_CLIP_FRAMES
from ausl_dist.shards.encode import Codec

FlowEstimator = Literal["dis_ultrafast", "dis_fast", "dis_medium"]


@dataclass(frozen=True)
class ClipSettings:
    """How a track is cut into clips.

    A rest shorter than min_seconds is added to the clip before it.
    """

    seconds: float = 3.0
    overlap_seconds: float = 0.0
    min_seconds: float = 1.2  # a track that is followed for less gives no clip
    codec: Codec = "vp9"

    def __post_init__(self) -> None:
        require(
            "clips", 0 < self.min_seconds <= self.seconds, "need 0 < min_seconds <= seconds"
        )
        require(
            "clips",
            0 <= self.overlap_seconds < self.seconds,
            "need 0 <= overlap_seconds < seconds",
        )


@dataclass(frozen=True)
class QualitySettings:
    """What a clip must be as a whole; each measure is defined in quality.py and stored in
    KEY.json whatever the limits.
    """

    min_sharpness: float = 0.015  # in focus 0.05 to 0.4; 0.002 to 0.02 after a blur of 3 pixels
    max_yaw: float = 60.0  # degrees, 90th percentile over the clip's frames
    max_pitch: float = 45.0
    min_luma: float = 25.0  # mean over face and clip, 0 to 255
    max_luma: float = 235.0
    max_clipped: float = 0.4  # share of face pixels that are black or burnt out
    # mean change of the aligned face from frame to frame, luma levels; less is a photograph
    min_motion: float = 0.15
    min_presence: float = 0.7  # mean over the clip
    # of 256; a clip whose signature is this near an earlier one shows the same footage; -1
    # keeps it
    duplicate_bits: int = 36


@dataclass(frozen=True)
class LabelSettings:
    """Which of the action-unit labels travel into clips: for studies of how few are enough."""

    # of the labelled frames of each source, drawn at random; the others become unknown
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require("labels", 0 < self.share <= 1, f"share must lie in (0, 1], not {self.share}")


@dataclass(frozen=True)
class FlowSettings:
    """Motion that is stored beside each clip (KEY.flow.npy); see flow.py."""

    gap_frames: int = 0  # from the first frame of a pair to the second; 0 stores no motion
    estimator: FlowEstimator = "dis_medium"
    cells: int = 32  # side of the grid; a cell holds the mean of 8 x 8 crop pixels

    def __post_init__(self) -> None:
        require("flow", self.gap_frames >= 0, f"gap_frames must be >= 0, not {self.gap_frames}")
        require(
            "flow",
            self.estimator in get_args(FlowEstimator),
            f"estimator must be one of {', '.join(get_args(FlowEstimator))}",
        )
        require(
            "flow",
            self.cells > 0 and CROP_SIZE % self.cells == 0,
            f"cells must divide {CROP_SIZE}",
        )


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
        require(
            "clips",
            longest < MAX_CLIP_FRAMES,
            f"seconds x fps must stay below {MAX_CLIP_FRAMES} frames",
        )
        require("clips", self.min_frames >= 2, "min_seconds must be at least two frames")
        require(
            "flow",
            self.flow.gap_frames < self.min_frames,
            f"gap_frames must be below clips.min_seconds ({self.min_frames} frames)",
        )
        require(
            "corpus", self.max_shard_bytes >= 1 << 20, "max_shard_bytes must be at least 1 MiB"
        )

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
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[
            :16
        ]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "CorpusSettings":
        return from_mapping(cls, values)
