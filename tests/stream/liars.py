"""Stand-ins for NVDEC that lie, each in one way."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from ausl_dist.stream.cards import Kind, kind_of
from ausl_dist.stream.probe import Pictures, Pyav
from ausl_dist.stream.truth import truth


class Honest(Pyav):
    """What a right decoder gives."""


class Neighbours(Pyav):
    """Off by one frame where it has to look for a keyframe."""

    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        return super().__call__(videos, [[max(frame - 1, 0) for frame in f] for f in wanted])


class OtherClips(Pyav):
    """Frames of the next clip of the batch."""

    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        return super().__call__([*videos[1:], videos[0]], wanted)


class OtherReading:
    """Right frames, read by other tags."""

    changes: ClassVar[dict[str, Callable[[Kind], object]]] = {}

    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        return [self._read(video, frames) for video, frames in zip(videos, wanted, strict=True)]

    def _read(self, video: bytes, frames: Sequence[int]) -> np.ndarray:
        kind = kind_of(video)
        change = {name: make(kind) for name, make in self.changes.items()}
        return truth(video, frames, kind=type(kind)(**{**vars(kind), **change}))


class OtherRange(OtherReading):
    changes: ClassVar = {"full": lambda kind: not kind.full}


class OtherMatrix(OtherReading):
    changes: ClassVar = {"matrix": lambda kind: "bt601" if kind.matrix == "bt709" else "bt709"}


class IgnoringTags(OtherReading):
    """Reads every clip as most clips are: right about those, and wrong about the rest."""

    changes: ClassVar = {"full": lambda kind: False, "matrix": lambda kind: "bt601"}


class RedForBlue(OtherReading):
    def _read(self, video: bytes, frames: Sequence[int]) -> np.ndarray:
        return super()._read(video, frames)[..., ::-1]


class Refusing:
    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        raise RuntimeError(
            "Critical error in pipeline:\nError in MIXED operator `decoders.video`\n"
            "  Resolution 64x64 is not supported by the hardware decoder"
        )


class RefusingSmall(Pyav):
    """Takes no frames under 130 pixels, as some front ends of NVDEC."""

    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        if any(min(kind_of(video).width, kind_of(video).height) < 130 for video in videos):
            raise RuntimeError("frames under 130 pixels are not supported")
        return super().__call__(videos, wanted)


class Hanging:
    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        time.sleep(600)
        return []


class Dying:
    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        os.kill(os.getpid(), signal.SIGSEGV)
        return []
