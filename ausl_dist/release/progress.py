"""How an extraction shows that it goes on: a bar on a terminal, a line every few seconds in a log.

The number of frames of a video is what its container claims; where it claims nothing the bar only moves.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 5.0


def expected_frames(video: Path, fps: float) -> int | None:
    """About how many frames a video has at this rate; None where nobody knows before it is read."""
    if not video.is_file():
        return None
    try:
        with av.open(str(video)) as container:
            return None if container.duration is None else round(container.duration / av.time_base * fps)
    except av.error.FFmpegError:
        return None  # whoever reads it will say what is wrong


@contextmanager
def frames_shown(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Gives the function to call with the number of frames read so far; shows on standard error."""
    start = time.monotonic()

    def rate(frames: int) -> str:
        return f"{frames / max(time.monotonic() - start, 1e-6):.3g} frames/s"

    if sys.stderr.isatty():
        name = TextColumn("{task.description}", markup=False)  # a path may hold brackets
        columns = (name, BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total, rate="")
            yield lambda frames: bar.update(task, completed=frames, rate=rate(frames))
        return
    of = f" of about {total}" if total else ""
    lines = _Lines(lambda frames: f"{label}: {frames}{of} frames, {rate(frames)}")
    try:
        yield lines.update
    finally:
        lines.show()


class _Lines:
    """The last number of frames in words, every few seconds."""

    def __init__(self, words: Callable[[int], str]) -> None:
        self._words = words
        self._frames, self._shown = 0, time.monotonic()

    def update(self, frames: int) -> None:
        self._frames = frames
        if time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            self.show()

    def show(self) -> None:
        print(self._words(self._frames), file=sys.stderr, flush=True)
