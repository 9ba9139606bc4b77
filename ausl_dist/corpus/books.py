"""The account of a build: every frame of every source was kept, or was rejected for one reason.

Two accounts are kept of each source, both in frames at the constant rate (seconds = frames /
fps):

* **time**: frames in = frames kept + frames rejected by reason. A frame is kept when any
  person's clip shows it.
* **faces**: face frames in = kept + rejected by reason. A frame with two people counts twice.

`check` fails when either does not balance, and the builder checks before it publishes.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Every reason there is. The later one speaks for a frame of which two things can be said: the
# face that came further.
REASONS = {
    "no_face": "nobody was found",
    "unreadable": "FFmpeg cannot open it: empty, no video, or cut off before the table of contents",
    "no_video": "holds sound or text, but no video",
    "no_frames": "opens as video, but no picture can be decoded",
    "too_small": "pictures of less than 16 pixels",
    "too_large": "pictures larger than read.max_side",
    "too_long": "longer than read.max_seconds",
    "low_frame_rate": "fewer frames per second than read.min_source_fps",
    "crashed": "a decoder or model ended the worker process, twice",
    "damaged": "some of it could not be decoded; what is missing shows as holes",
    "truncated": "promised by the file, but not there",
    "hole": "no picture within read.max_gap_seconds",
    "second_person": "not the largest face of a source whose one identity is known",
    "face_too_small": "outer eye corners nearer than faces.min_eye_pixels",
    "out_of_picture": "more than faces.max_outside of the landmarks outside the picture",
    "too_short": "a face followed for less than clips.min_seconds",
    "uncertain_face": "presence below quality.min_presence",
    "pose": "turned further than quality.max_yaw or max_pitch",
    "exposure": "too dark, too bright, or clipped",
    "blurred": "sharpness below quality.min_sharpness",
    "still_image": "motion below quality.min_motion: a photograph",
    "encoding": "the encoded clip did not decode to what went in",
    "duplicate": "the same footage as an earlier clip",
}
KEPT = "kept"
_COUNTS = (
    *("sources", "sources_kept", "source_frames", "clips"),
    *("frames", "kept", "faces", "faces_kept"),
)
_CODES = {reason: code for code, reason in enumerate([*REASONS, KEPT])}
_NAMES = {code: reason for reason, code in _CODES.items()}


@dataclass(frozen=True)
class TrackPiece:
    """Frames [first, end) of one track, or of the source itself where `track` is None, and what
    became of them.
    """

    first: int
    end: int
    outcome: str  # KEPT or a key of REASONS
    track: int | None = None
    detail: dict[str, float] = field(default_factory=dict)  # the measures that decided
    picture: str = ""  # of a rejected face: three crops as a JPEG in base64
    key: str = ""  # of a clip
    clip_bytes: int = 0  # of its tar members
    signature: str = ""  # of its footage, hexadecimal


class Timeline:
    """What became of each frame: the furthest that any piece of it came."""

    def __init__(self, pieces: Iterable[TrackPiece], length: int, fallback: str) -> None:
        self._codes: NDArray[np.uint8] = np.full(length, _CODES[fallback], np.uint8)
        for piece in pieces:
            assert 0 <= piece.first < piece.end <= length, (
                f"piece {piece} lies outside of the {length} frames"
            )
            part = slice(piece.first, piece.end)
            self._codes[part] = np.maximum(self._codes[part], _CODES[piece.outcome])

    def runs(self) -> list[tuple[int, int, str]]:
        """The outcomes as runs (first, end, outcome)."""
        if not len(self._codes):
            return []
        changes = np.flatnonzero(np.diff(self._codes)) + 1
        edges = [0, *changes.tolist(), len(self._codes)]
        return [
            (first, end, _NAMES[int(self._codes[first])])
            for first, end in itertools.pairwise(edges)
        ]

    def count(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for first, end, outcome in self.runs():
            counts[outcome] += end - first
        return counts


@dataclass
class Books:
    """The account of one source, or of many added up."""

    fps: float
    sources: int = 0
    sources_kept: int = 0  # that gave at least one clip
    source_frames: int = 0  # pictures decoded, before the change of frame rate
    clips: int = 0
    frames: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    faces_kept: int = 0
    faces_rejected: Counter[str] = field(default_factory=Counter)
    # sources, by what is wrong with the whole file
    source_problems: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Books") -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rejected.update(other.rejected)
        self.faces_rejected.update(other.faces_rejected)
        self.source_problems.update(other.source_problems)

    def check(self) -> None:
        """Raise AssertionError unless both accounts balance to the frame."""
        for name, total, kept, rejected in self._accounts():
            assert min(kept, 0, *rejected.values()) >= 0, (
                f"{name}: a negative count in {rejected}"
            )
            assert total == kept + sum(rejected.values()), (
                f"{name}: {total} in, {kept} kept, {dict(rejected)} rejected"
            )

    def _accounts(self) -> Iterable[tuple[str, int, int, Counter[str]]]:
        yield "time", self.frames, self.kept, self.rejected
        yield "faces", self.faces, self.faces_kept, self.faces_rejected

    def to_dict(self) -> dict[str, Any]:
        """For JSON; reasons in the order of REASONS, zero counts left out."""
        values: dict[str, Any] = dict(vars(self))
        for name in ("rejected", "faces_rejected", "source_problems"):
            values[name] = {
                reason: values[name][reason] for reason in REASONS if values[name][reason]
            }
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Books":
        counters = {
            name: Counter(value) for name, value in values.items() if isinstance(value, dict)
        }
        return cls(**{**values, **counters})

    def table(self) -> str:
        """The books as lines for people."""
        lines = [
            f"{self.sources} sources, {self.source_frames} frames decoded; "
            f"{self.clips} clips from {self.sources_kept} sources"
        ]
        for name, total, kept, rejected in self._accounts():
            lines.append(f"{name:<8} in  {self._amount(total)}")
            lines.append(
                f"         kept {self._amount(kept)}  {100 * kept / max(total, 1):5.1f} %"
            )
            lines += [
                f"         {reason:<16} {self._amount(rejected[reason])}  "
                f"{100 * rejected[reason] / max(total, 1):5.1f} %  {text}"
                for reason, text in REASONS.items()
                if rejected[reason]
            ]
        for reason, count in self.to_dict()["source_problems"].items():
            lines.append(f"sources  {reason:<16} {count:>9}  {REASONS[reason]}")
        return "\n".join(lines)

    def _amount(self, frames: int) -> str:
        return f"{frames:>9} frames {frames / self.fps:>10.2f} s"
