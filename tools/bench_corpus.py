"""How fast each stage of corpus building is on this machine, in frames for each second of one core.

python tools/bench_corpus.py VIDEO ... [--workers 2]

Stages are measured one by one over the frames of the videos (640 x 480 is the usual yardstick), in processor time, so that other work on
the machine disturbs little; the whole is measured in processor time and, with workers, by the clock.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ausl_dist import command
from ausl_dist.corpus.align import AlignedFace, align_tracks, warp
from ausl_dist.corpus.encode import encode_video, verify_video
from ausl_dist.corpus.extract import Extractor
from ausl_dist.corpus.faces import Detector, Landmarker
from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.quality import measure, signature
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source, collect
from ausl_dist.corpus.track import FaceTracker
from ausl_dist.corpus.video import Frame, FrameReader
from ausl_dist.corpus.workers import Crew, Task
from ausl_dist.landmarks import alignment_to_template

STAGE_FRAMES = 150


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--workers", type=int, default=2, help="compare one worker with this many (default 2)")
    parser.add_argument("--models", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    sources, settings = collect(arguments.videos, layout("plain")).sources, CorpusSettings()
    print("stage        frames/s per core     frames")
    for stage, frames, seconds in _stages(sources, settings, arguments.models):
        print(f"{stage:<12} {frames / max(seconds, 1e-9):>17.0f} {frames:>10}")
    frames, seconds, megabytes = _whole(sources, settings, arguments.models)
    print(f"{'whole':<12} {frames / seconds:>17.0f} {frames:>10}   source frames; {megabytes:.0f} MiB of memory at most")
    one, many = (_workers(sources, settings, arguments.models, count) for count in (1, arguments.workers))
    print(f"1 worker {one:.0f} frames/s by the clock, {arguments.workers} workers {many:.0f}: {many / one:.2f} times")
    return 0


def _stages(sources: Sequence[Source], settings: CorpusSettings, models: Path | None) -> list[tuple[str, int, float]]:
    rows = []
    frames, seconds, count = list[Frame](), 0.0, 0
    for source in sources:
        reader = FrameReader(Path(source.location), settings.read)
        taken, spent = _timed(lambda reader=reader: list(reader))  # type: ignore[misc]
        seconds, count = seconds + spent, count + reader.source_frames
        frames = frames or taken[:STAGE_FRAMES]
    rows.append(("read", count, seconds))
    detector, landmarker = Detector(models, side=settings.faces.detect_side), Landmarker(models)
    boxes, seconds = _timed(lambda: [detector(frame.pixels) for frame in frames[::10]])
    rows.append(("detect", len(boxes), seconds))
    face = landmarker.from_detection(frames[0].pixels, boxes[0][0])
    followed, seconds = _timed(lambda: [landmarker.follow(frame.pixels, face) for frame in frames])
    rows.append(("landmarks", len(followed), seconds))
    matrices = [alignment_to_template(found.landmarks) for found in followed]
    crops, seconds = _timed(lambda: np.stack([warp(frame.pixels, matrix) for frame, matrix in zip(frames, matrices, strict=True)]))
    rows.append(("warp", len(crops), seconds))
    tracker = FaceTracker(detector, landmarker, settings.faces, settings.read.fps)
    faces = [item for item in align_tracks(iter(frames), tracker) if isinstance(item, AlignedFace)]
    _, seconds = _timed(lambda: (measure(faces, 25.0), signature(faces)))
    rows.append(("measure", len(faces), seconds))
    video, seconds = _timed(lambda: encode_video(crops, settings.read.fps, settings.clips.codec))
    rows.append(("encode", len(crops), seconds))
    _, seconds = _timed(lambda: verify_video(video, crops))
    rows.append(("verify", len(crops), seconds))
    return rows


def _whole(sources: Sequence[Source], settings: CorpusSettings, models: Path | None) -> tuple[int, float, float]:
    extractor = Extractor(settings, models)
    results, seconds = _timed(lambda: [extractor.extract(source, Path(source.location), lambda clip: None) for source in sources])
    return sum(result.source_frames for result in results), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _workers(sources: Sequence[Source], settings: CorpusSettings, models: Path | None, count: int) -> float:
    """Source frames per second by the clock, from the first result on, so that starting the processes does not count."""
    with tempfile.TemporaryDirectory(prefix="ausl-bench-") as folder:
        crew = Crew(Task(settings, Path(folder), models, None, 0), sources, count)
        first = frames_before = 0.0
        for finished in crew.run(range(len(sources))):
            if finished is not None and not first:
                first, frames_before = time.monotonic(), crew.frames
        return (crew.frames - frames_before) / max(time.monotonic() - first, 1e-9)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    return work(), time.process_time() - started


if __name__ == "__main__":
    command.run(main)
