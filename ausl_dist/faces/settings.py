"""How source video is read and how faces in it are found and followed; part of a corpus's
settings.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadSettings:
    """How source video becomes frames at a constant rate, and which files are absurd."""

    fps: float = 25.0
    min_source_fps: float = 12.0  # below, most frames of the constant rate would be repetitions
    # a longer wait for the next source frame is a hole, not a frame shown for long
    max_gap_seconds: float = 0.2
    # pixels; a decoder may hold 16 such frames, which is what a worker's memory is planned for
    max_side: int = 4096
    work_side: int = 1920  # larger frames are shrunk to this side when read; a crop has 256
    max_seconds: float = 4 * 3600.0
    frames_fps: float = 25.0  # of folders of numbered frames, which state no rate

    def __post_init__(self) -> None:
        require("read", 1 <= self.fps <= 120, f"fps must lie in 1..120, not {self.fps}")
        require(
            "read",
            self.max_gap_seconds >= 1 / self.fps,
            "max_gap_seconds must be at least one frame",
        )
        require(
            "read",
            64 <= self.work_side <= self.max_side <= 16384,
            "need 64 <= work_side <= max_side <= 16384",
        )
        require("read", 0 < self.max_seconds <= 86400, "max_seconds must lie in (0, 86400]")
        require(
            "read",
            1 <= self.frames_fps <= 240,
            f"frames_fps must lie in 1..240, not {self.frames_fps}",
        )


@dataclass(frozen=True)
class FaceSettings:
    """Detection, tracking and what a face must be in every frame of a clip."""

    detect_every_seconds: float = 0.4  # in between, the landmark model follows the faces found
    detect_side: int = 640  # pixels; frames are shrunk to this side for the detector
    min_detector_score: float = 0.6
    min_presence: float = 0.5  # the landmark model's own belief that it looks at a face
    max_faces: int = 4  # followed at once, the largest first
    # distance of the outer eye corners in the source; a crop has 91
    min_eye_pixels: float = 16.0
    max_outside: float = 0.1  # share of the 68 landmarks that may lie outside the picture
    # change of a 32 x 32 luma thumbnail, 0 to 1, that ends every track; see track.py
    cut: float = 0.25

    def __post_init__(self) -> None:
        require("faces", self.detect_every_seconds >= 0, "detect_every_seconds must be >= 0")
        require(
            "faces", 64 <= self.detect_side <= 4096, "detect_side must lie in 64..4096 pixels"
        )
        require(
            "faces",
            1 <= self.max_faces <= 32,
            f"max_faces must lie in 1..32, not {self.max_faces}",
        )
        require(
            "faces",
            self.min_eye_pixels >= 4,
            "min_eye_pixels must be at least 4: no landmark model works below",
        )


def require(group: str, condition: bool, message: str) -> None:
    """Raise ValueError, naming the group of settings, unless the condition holds."""
    if not condition:
        raise ValueError(f"{group}: {message}")
