"""Where a clip's processor time goes in our loader: its parts one after the other, in one thread.

    python -m tools.stream_bench.parts [--work DIR] [--clips 96] [--rounds 5]

Reads the corpus that tools.bench_stream has made; prints medians in milliseconds a clip, and
what would be saved where a view needs fewer pixels or frames.
"""

import argparse
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from ausl_dist import command
from ausl_dist.batch import Needs, View
from ausl_dist.shards.clip import META_SUFFIX, ClipMeta
from ausl_dist.shards.index import Index
from ausl_dist.shards.ranges import open_ranges
from ausl_dist.shards.reader import StoredClip
from ausl_dist.stream.augment import draw
from ausl_dist.stream.decode import Graph, GraphPlan
from ausl_dist.stream.fetch import unpack
from ausl_dist.stream.frames import ClipPixels, FrameDecoder, view_frames
from ausl_dist.stream.prepare import parse_video
from tools.bench_stream import ROOT

FRAMES, SIZE, BATCH = 32, 112, 8
VIEW = View()


class Clock:
    """Processor seconds of this process, by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[part] += time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "bench-stream")
    parser.add_argument("--clips", type=int, default=96, help="measured in each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    measured = Parts(arguments.work / "corpus")
    measured.round(BATCH)  # opens the decoders
    rounds = [measured.round(arguments.clips) for _ in range(arguments.rounds)]
    print("| part | CPU ms a clip |\n|---|---|")
    for part in rounds[0]:
        print(f"| {part} | {statistics.median(one[part] for one in rounds):.2f} |")
    return 0


class Parts:
    """The parts of our loader, each to be called by itself."""

    def __init__(self, corpus: Path) -> None:
        self._index = Index.load(str(corpus))
        self._ranges = open_ranges(str(corpus), "fsspec")
        self._plan = Needs.union([Needs({VIEW: tuple(range(FRAMES))})])
        views = tuple(self._plan.views.items())
        self._graph = Graph(GraphPlan(views, SIZE, BATCH, threads=1))
        self._decoder = FrameDecoder()

    def round(self, clips: int) -> dict[str, float]:
        """Milliseconds a clip of each part."""
        clock = Clock()
        stored = itertools.islice(self._stored(clock), clips)
        while batch := list(itertools.islice(stored, BATCH)):
            self._batch(batch, clock)
        return {part: 1000 * seconds / clips for part, seconds in clock.seconds.items()}

    def _stored(self, clock: Clock) -> Iterator[StoredClip]:
        for number in itertools.cycle(range(len(self._index.chunks))):
            chunk = self._index.chunk(number)
            with clock.of("reading a file"):
                data = self._ranges(chunk.shard, chunk.offset, chunk.offset + chunk.bytes, 60.0)
            with clock.of("checksum"):
                assert xxhash.xxh3_64_intdigest(data) == chunk.xxh3
            with clock.of("parsing the tar"):
                found = unpack(data, chunk.clips)
            yield from (clip for clip in found if isinstance(clip, StoredClip))

    def _batch(self, clips: list[StoredClip], clock: Clock) -> None:
        pixels = [self._pixels(clip, clock) for clip in clips]
        with clock.of("DALI's graph: colour, normalisation, floats"):
            self._graph.run(pixels)

    def _pixels(self, clip: StoredClip, clock: Clock) -> ClipPixels:
        with clock.of("metadata, sample table and draws"):
            video = parse_video(clip, ClipMeta.from_bytes(clip.members[META_SUFFIX]))
            size = (video.height, video.width)
            draws = {VIEW: draw(VIEW, FRAMES, size, SIZE, seed=0, epoch=0, key=clip.key)}
        with clock.of("decoding (FFmpeg, frames as they are)"):
            for _ in self._decoder.decode(video, range(FRAMES)):
                pass
        pixels = ClipPixels(video, 0, draws)
        with clock.of("decoding, crop, resize, RGB"):
            pixels.pictures = view_frames(
                self._decoder, video, self._plan.views, draws, pixels.start
            )
        return pixels


if __name__ == "__main__":
    command.run(main)
