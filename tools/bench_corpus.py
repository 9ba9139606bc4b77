"""How fast each stage of corpus building is on this machine, what a worker needs, and how
steady crops are.

    python -m tools.bench_corpus VIDEO ... [--workers 2]

Stages are measured one by one over the first frames of each video (640 x 480 is the usual
yardstick); the whole is measured in worker processes, from the first frame they report.
Everything is in frames for each second of processor time, so that other work on the machine
disturbs little; workers are compared by the clock as well, which means something on an idle
machine alone.
"""

import argparse
import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ausl_dist import command
from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.pack import ResultStore
from ausl_dist.corpus.quality import measure, signature
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source, collect
from ausl_dist.corpus.workers import Crew, Task
from ausl_dist.faces.align import AlignedFace, align_tracks, warp
from ausl_dist.faces.detect import Detector, Landmarker
from ausl_dist.faces.landmarks import alignment_to_template
from ausl_dist.faces.steadiness import tremble
from ausl_dist.faces.track import FaceTracker
from ausl_dist.faces.video import Frame, FrameReader
from ausl_dist.shards.encode import encode_video, verify_video

STAGE_FRAMES = 150
STILL_FRAMES, CAMERA_NOISE = 60, 4.0  # levels


@dataclass(frozen=True)
class Whole:
    """All stages together, in worker processes."""

    frames: int  # of the sources
    per_cpu_second: float
    per_second: float
    mebibytes: float  # of the largest worker at its largest


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument(
        "--workers", type=int, default=2, help="compare one worker with this many (default 2)"
    )
    parser.add_argument("--models", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    sources, settings = collect(arguments.videos, layout("plain")).sources, CorpusSettings()
    detector, landmarker = (
        Detector(arguments.models, side=settings.faces.detect_side),
        Landmarker(arguments.models),
    )
    print(f"{'stage':<12} {'frames/s per core':>17} {'frames':>10}")
    for stage, frames, seconds in _stages(sources, settings, detector, landmarker):
        print(f"{stage:<12} {frames / max(seconds, 1e-9):>17.0f} {frames:>10}")
    runs = {
        count: _whole(sources, settings, arguments.models, count)
        for count in sorted({1, arguments.workers})
    }
    for count, run in runs.items():
        print(
            f"whole, {count:<5} {run.per_cpu_second:>17.0f} {run.frames:>10}   "
            f"{run.per_second:.0f} frames/s by the clock, "
            f"{run.per_second / runs[1].per_second:.2f} x one; "
            f"{run.mebibytes:.0f} MiB a worker at most"
        )
    crops, single = _still_head(sources[0], settings, detector, landmarker)
    print(
        f"still head   {crops:.3f} crop pixels/frame^2 of acceleration, "
        f"{single:.3f} were each frame aligned by itself"
    )
    return 0


def _stages(
    sources: Sequence[Source],
    settings: CorpusSettings,
    detector: Detector,
    landmarker: Landmarker,
) -> list[tuple[str, int, float]]:
    rows = []
    frames, seconds, count = list[Frame](), 0.0, 0
    for source in sources:
        reader = FrameReader(Path(source.location), settings.read)
        taken, spent = _timed(
            lambda reader=reader: list(itertools.islice(reader, STAGE_FRAMES))  # type: ignore[misc]
        )
        seconds, count = seconds + spent, count + reader.source_frames
        frames = frames or taken
    rows.append(("decode", count, seconds))
    boxes, seconds = _timed(lambda: [detector(frame.pixels) for frame in frames[::10]])
    rows.append(("detect", len(boxes), seconds))
    face = landmarker.from_detection(frames[0].pixels, boxes[0][0])
    followed, seconds = _timed(
        lambda: [landmarker.follow(frame.pixels, face) for frame in frames]
    )
    rows.append(("landmarks", len(followed), seconds))
    matrices = [alignment_to_template(found.landmarks) for found in followed]
    crops, seconds = _timed(
        lambda: np.stack(
            [warp(frame.pixels, matrix) for frame, matrix in zip(frames, matrices, strict=True)]
        )
    )
    rows.append(("warp", len(crops), seconds))
    tracker = FaceTracker(detector, landmarker, settings.faces, settings.read.fps)
    faces = [
        item for item in align_tracks(iter(frames), tracker) if isinstance(item, AlignedFace)
    ]
    _, seconds = _timed(lambda: (measure(faces, 25.0), signature(faces)))
    rows.append(("measure", len(faces), seconds))
    video, seconds = _timed(
        lambda: encode_video(crops, settings.read.fps, settings.clips.codec)
    )
    rows.append(("encode", len(crops), seconds))
    _, seconds = _timed(lambda: verify_video(video, crops))
    rows.append(("verify", len(crops), seconds))
    return rows


def _whole(
    sources: Sequence[Source], settings: CorpusSettings, models: Path | None, count: int
) -> Whole:
    """`count` workers over all sources; starting the processes does not count."""
    with tempfile.TemporaryDirectory(prefix="ausl-bench-") as folder:
        crew = Crew(Task(settings, Path(folder), models, None, 0), sources, count)
        started: tuple[float, float, int] | None = None
        largest = 0.0
        for _ in crew.run(range(len(sources))):
            now = (_cpu_seconds_of_workers(), time.monotonic(), crew.frames)
            largest = max(largest, _mebibytes_of_largest_worker())
            if started is None and crew.frames:
                started = now
        assert started is not None, "not one frame was read"
        results = [ResultStore(Path(folder)).read(index) for index in range(len(sources))]
    cpu_seconds, seconds, frames = (
        end - start for end, start in zip(now, started, strict=True)
    )
    source_frames = sum(result.source_frames for result in results)
    # of the sources, where those are not of 25 frames/s
    frames *= source_frames / max(1, crew.frames)
    return Whole(source_frames, frames / cpu_seconds, frames / seconds, largest)


def _cpu_seconds_of_workers() -> float:
    ticks = 0
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system time
    return ticks / os.sysconf("SC_CLK_TCK")


def _mebibytes_of_largest_worker() -> float:
    # Not by getrusage: what it says of a child starts with the memory of this process.
    texts = [
        Path(f"/proc/{process.pid}/status").read_text()
        for process in multiprocessing.active_children()
    ]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in texts) / 1024


def _still_head(
    source: Source, settings: CorpusSettings, detector: Detector, landmarker: Landmarker
) -> tuple[float, float]:
    """The first picture again and again, each time with other camera noise."""
    picture = next(iter(FrameReader(Path(source.location), settings.read))).pixels
    random = np.random.default_rng(0)
    noisy = (
        np.clip(picture + random.normal(0, CAMERA_NOISE, picture.shape), 0, 255).astype(
            np.uint8
        )
        for _ in range(STILL_FRAMES)
    )
    tracker = FaceTracker(detector, landmarker, settings.faces, settings.read.fps)
    frames = (Frame(number, number, pixels, False) for number, pixels in enumerate(noisy))
    return tremble(
        [item for item in align_tracks(frames, tracker) if isinstance(item, AlignedFace)]
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    return work(), time.process_time() - started


if __name__ == "__main__":
    command.run(main)
