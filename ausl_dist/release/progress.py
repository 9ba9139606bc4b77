"""How an extraction shows that it goes on.

The number of frames of a video is what its container claims; where it claims nothing the bar
only moves.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from ausl_dist.faces.decode import Unreadable, open_video
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.progress import progress


def expected_frames(video: Path, fps: float) -> int | None:
    """About how many frames a video has at this rate; None where nobody knows before it is
    read.
    """
    if not video.is_file():
        return None
    try:
        with open_video(video, ReadSettings()) as container:
            return (
                None
                if container.duration is None
                else round(container.duration / av.time_base * fps)
            )
    except Unreadable:
        return None  # whoever reads it will say what is wrong


@contextmanager
def frames_shown(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Gives the function to call with the number of frames read so far; shows on standard
    error.
    """
    start = time.monotonic()
    with progress(label, " frames", about=True) as report:
        yield lambda frames: report(
            frames, total, f"{frames / max(time.monotonic() - start, 1e-6):.3g} frames/s"
        )
