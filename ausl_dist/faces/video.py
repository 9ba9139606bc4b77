"""Pictures at whatever times the source has them become frames at a constant rate, and every
one is counted.

    Picture (seconds) ──▶ the nearest one at 0, 1/fps, 2/fps, … ──▶ Frame

Nothing is interpolated: a frame is a picture of the source, shown again where the source is
slower and passed over where it is faster. Where the nearest picture is too far away the source
has a hole; holes are counted and end tracks. Memory holds two pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.decode import Picture, Unreadable, open_pictures
from ausl_dist.faces.settings import ReadSettings

MISSING_SECONDS = 1.0  # a file that ends this much before its declared length was cut short


@dataclass(frozen=True)
class Frame:
    """One frame at the constant rate."""

    index: int  # at the constant rate: its time is index / fps
    source_frame: int  # number of the decoded picture it shows
    pixels: NDArray[np.uint8]  # H W 3, RGB; frames that show one picture share it
    splice: bool  # tracks cannot go on from the frame before


class FrameReader:
    """Iterate once over a source at `settings.fps`; the counts are true as far as it was read.

    Raises Unreadable at opening or at any later frame; what was yielded before stays valid.
    """

    def __init__(self, path: Path, settings: ReadSettings, *, threads: int = 1) -> None:
        self._settings = settings
        self._pictures = open_pictures(path, settings, threads=threads)
        self.source_frames = 0
        self.source_end = 0  # the number of the last picture, plus one
        self.frames = 0  # yielded and in holes
        self.holes: list[
            tuple[int, int]
        ] = []  # [first, end) frames without a picture near enough
        self.problem: Unreadable | None = None  # why reading stopped before the end

    @property
    def damaged(self) -> int:
        """Packets or images that could not be decoded."""
        return self._pictures.damaged

    @property
    def source_fps(self) -> float:
        return 1 / self._pictures.frame_seconds

    @property
    def missing_frames(self) -> int:
        """Frames that the file promises beyond what could be read; 0 unless it is cut short by
        a second or more.
        """
        declared = self._pictures.declared_seconds or 0.0
        missing = declared - self.frames / self._settings.fps
        return round(missing * self._settings.fps) if missing >= MISSING_SECONDS else 0

    def __iter__(self) -> Iterator[Frame]:
        before: Picture | None = None
        splice = False
        for picture in self._readable():
            self.source_frames += 1
            self.source_end = max(self.source_end, picture.number + 1)
            if before is not None:
                # A frame belongs to `before` until the middle between the two pictures.
                middle = (before.seconds + picture.seconds) / 2
                for frame in self._show(before, middle, splice):
                    splice = False
                    yield frame
            splice = splice or picture.splice
            before = picture
        if before is None:
            raise self.problem or Unreadable("no_frames", "not one frame could be decoded")
        yield from self._show(before, before.seconds + self._pictures.frame_seconds / 2, splice)
        self._skip_to(before.seconds + self._pictures.frame_seconds / 2)

    def _readable(self) -> Iterator[Picture]:
        try:
            yield from self._pictures
        except Unreadable as problem:
            self.problem = problem

    def _show(self, picture: Picture, until: float, splice: bool) -> Iterator[Frame]:
        """The frames from here to `until` that lie near enough to the picture."""
        reach = self._settings.max_gap_seconds / 2
        splice = self._skip_to(picture.seconds - reach) or splice
        pixels = None
        while self.frames / self._settings.fps < min(until, picture.seconds + reach) - 1e-9:
            pixels = picture.pixels() if pixels is None else pixels
            yield Frame(self.frames, picture.number, pixels, splice)
            splice = False
            self.frames += 1

    def _skip_to(self, seconds: float) -> bool:
        """Count the frames before `seconds` as a hole; True when there are any."""
        first = self.frames
        while self.frames / self._settings.fps < seconds - 1e-9:
            self.frames += 1
        if self.frames > first:
            self.holes.append((first, self.frames))
        return self.frames > first
