"""This project's contenders: the loader, its parts alone, and the bare decoders on bytes in
memory.

python -m tools.stream_bench.ours JOB.json
"""

import io
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from ausl_dist.batch import Needs, View
from ausl_dist.shards.clip import VIDEO_SUFFIX
from ausl_dist.shards.index import Index
from ausl_dist.shards.reader import StoredClip
from ausl_dist.shards.retry import Retry
from ausl_dist.stream.fetch import Fetcher, unpack
from ausl_dist.stream.frames import FrameDecoder
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.mp4 import parse
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tools.stream_bench.measure import ReadingJob, Result, measure, run, tree_cpu_seconds

VIEW = View()  # a random crop of 213 of 256 pixels, normalised


def loader(job: ReadingJob, decoder: str = "pyav") -> Iterator[Any]:
    plan = Needs.union([Needs({VIEW: tuple(range(job.frames))})])
    settings = DataSettings(
        corpora={"main": CorpusSource(job.data)},
        image_size=job.image_size,
        lanes=job.batch,
        clips_per_lane=1,
        shuffle_window=64,
        decoder=decoder,  # type: ignore[arg-type]
        decode_threads=job.workers,
        memory_mib=192,  # less than the corpus: fetching goes on while it is measured
    )
    return Loader(
        settings,
        plan,
        seed=0,
        rank=0,
        world_size=1,
        run_folder=Path(tempfile.mkdtemp()),
        start_step=job.start_step,
    )


def reading(job: ReadingJob) -> Result:
    """Fetch and verify chunks without decoding, `job.workers` at a time, for `job.clips`
    chunks; the result's clips are bytes.
    """
    index = Index.load(job.data)
    fetcher = Fetcher({"main": index}, Retry())
    with ThreadPoolExecutor(job.workers) as pool:

        def read(count: int) -> int:
            numbers = itertools.islice(itertools.cycle(range(len(index.chunks))), count)
            return sum(pool.map(lambda number: len(fetcher.read("main", number)), numbers))

        read(job.workers)  # opens the connections
        cpu, wall = tree_cpu_seconds(), time.monotonic()
        total = read(job.clips)
        seconds = time.monotonic() - wall
    return Result(0.0, clips=total, wall_seconds=seconds, cpu_seconds=tree_cpu_seconds() - cpu)


def bare_pyav(job: ReadingJob) -> Iterator[Any]:
    """PyAV as its documentation shows it, with one reused reformatter: all frames to RGB, one
    thread.
    """
    reformatter = VideoReformatter()
    for videos in _batches(job):
        for video in videos:
            with av.open(io.BytesIO(video), "r") as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                np.stack(
                    [
                        reformatter.reformat(frame, format="rgb24").to_ndarray()
                        for frame in container.decode(stream)
                    ]
                )
        yield None


def bare_packets(job: ReadingJob) -> Iterator[Any]:
    """The decoder without its output: packets in, frames left as they are decoded.

    What no loader on this decoder can pass.
    """
    decoder = FrameDecoder()
    for videos in _batches(job):
        for data in videos:
            video = parse(data)
            for _ in decoder.decode(video, range(video.frames)):
                pass
        yield None


def _batches(job: ReadingJob) -> Iterator[list[bytes]]:
    index = Index.load(job.data)
    fetcher = Fetcher({"main": index}, Retry())
    clips = unpack(fetcher.read("main", 0), index.chunk(0).clips)
    videos = itertools.cycle(
        [clip.members[VIDEO_SUFFIX] for clip in clips if isinstance(clip, StoredClip)]
    )
    while True:
        yield [next(videos) for _ in range(job.batch)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert threading.active_count() == 1
    run(
        {
            "ours": lambda job: measure(job, loader),
            "ours, DALI decodes": lambda job: measure(job, lambda job: loader(job, "dali")),
            "reading": reading,
            "bare PyAV": lambda job: measure(job, bare_pyav),
            "bare packets": lambda job: measure(job, bare_packets),
        }
    )
