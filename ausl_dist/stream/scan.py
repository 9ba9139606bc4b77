"""Every clip of a corpus once, in the order of the index, without augmentation: for evaluation
and for looking at a corpus.

for clip in scan(url, image_size=112): clip.frames is T C H W, as a training batch would have it
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ausl_dist.batch import View
from ausl_dist.shards.clip import ACTION_UNITS_SUFFIX, LANDMARKS_SUFFIX, META_SUFFIX, ClipMeta
from ausl_dist.shards.index import Index
from ausl_dist.shards.reader import StoredClip
from ausl_dist.shards.retry import Retry
from ausl_dist.stream.augment import centred
from ausl_dist.stream.decode import Graph, GraphPlan
from ausl_dist.stream.fetch import Fetcher, unpack
from ausl_dist.stream.frames import ClipPixels, FrameDecoder, view_frames
from ausl_dist.stream.ledger import MissingClip
from ausl_dist.stream.prepare import parse_video, read_action_units, read_landmarks

T = TypeVar("T")
R = TypeVar("R")

READ_SECONDS = 300.0  # how long a read of a chunk is repeated
CHUNKS_AHEAD = 2


@dataclass(frozen=True)
class ScannedClip:
    """One clip, whole or every `stride`-th frame of it."""

    key: str
    meta: ClipMeta
    numbers: NDArray[np.int64]  # T, frame numbers in the clip
    frames: Tensor  # T C H W float32, normalised like Batch.frames
    landmarks: NDArray[np.float32] | None  # T 68 2, pixels of `frames`
    action_units: NDArray[np.int8] | None  # T K, columns as in meta.action_units, -1 unknown


def scan(
    url: str,
    *,
    image_size: int,
    view: View | None = None,
    stride: int = 1,
    frames_per_clip: int | None = None,
    threads: int = 2,
) -> Iterator[ScannedClip]:
    """Yield the clips of the corpus at `url`, the crop of the view's middle size taken from the
    middle of each frame.

    At most `frames_per_clip` frames of each, `stride` apart from its first one on. Raises
    ValueError at a clip that cannot be used: an evaluation must not leave out clips in silence.
    """
    if stride < 1 or (frames_per_clip is not None and frames_per_clip < 1):
        raise ValueError(
            "scan: stride and frames_per_clip must be at least 1, "
            f"not {stride} and {frames_per_clip}"
        )
    chosen = slice(0, None if frames_per_clip is None else stride * frames_per_clip, stride)
    view = view or View()
    graph = Graph(GraphPlan(((view, (0,)),), image_size, clips=1, threads=threads))
    with (
        ThreadPoolExecutor(CHUNKS_AHEAD, "fetch") as fetchers,
        ThreadPoolExecutor(threads, "decode") as decoders,
    ):
        raw_clips = _raw_clips(Index.load(url), fetchers)
        for decoded in _ahead(
            decoders, lambda raw: _decode(raw, view, image_size, chosen), raw_clips, 2 * threads
        ):
            frames, _ = graph.run([decoded.pixels])
            yield ScannedClip(
                decoded.key,
                decoded.meta,
                decoded.numbers,
                frames[view][0],
                decoded.landmarks,
                decoded.action_units,
            )


def metas(url: str) -> Iterator[ClipMeta]:
    """Yield the record of every clip of the corpus at `url`, without decoding; ValueError as
    `scan`.
    """
    with ThreadPoolExecutor(CHUNKS_AHEAD, "fetch") as fetchers:
        for raw in _raw_clips(Index.load(url), fetchers):
            try:
                yield ClipMeta.from_bytes(raw.members[META_SUFFIX])
            except ValueError as error:
                raise ValueError(f"clip {raw.key}: {error}") from error


@dataclass(frozen=True)
class _Decoded:
    key: str
    meta: ClipMeta
    numbers: NDArray[np.int64]
    pixels: ClipPixels
    landmarks: NDArray[np.float32] | None
    action_units: NDArray[np.int8] | None


def _raw_clips(index: Index, fetchers: ThreadPoolExecutor) -> Iterator[StoredClip]:
    fetcher = Fetcher({"corpus": index}, Retry(READ_SECONDS))

    def load(number: int) -> list[StoredClip | MissingClip]:
        return unpack(fetcher.read("corpus", number), index.chunk(number).clips)

    for clips in _ahead(fetchers, load, iter(range(len(index.chunks))), CHUNKS_AHEAD):
        for clip in clips:
            if isinstance(clip, MissingClip):
                raise ValueError(f"{index.url}: {clip}")
            yield clip


def _decode(raw: StoredClip, view: View, image_size: int, chosen: slice) -> _Decoded:
    try:
        meta = ClipMeta.from_bytes(raw.members[META_SUFFIX])
        video = parse_video(raw, meta)
        numbers = np.arange(video.frames)[chosen]
        drawn = centred(view, len(numbers), (video.height, video.width), image_size)
        pixels = ClipPixels(video, 0, {view: drawn})
        pixels.pictures = view_frames(
            FrameDecoder(), video, {view: tuple(numbers.tolist())}, pixels.draws, 0
        )
        landmarks = labels = None
        if LANDMARKS_SUFFIX in raw.members:
            landmarks = drawn.landmarks_to_view(read_landmarks(raw, meta)[numbers])
        if ACTION_UNITS_SUFFIX in raw.members:
            labels = read_action_units(raw, meta, meta.action_units)[numbers]
    except ValueError as error:
        raise ValueError(f"clip {raw.key}: {error}") from error
    return _Decoded(raw.key, meta, numbers, pixels, landmarks, labels)


def _ahead(
    executor: Executor, work: Callable[[T], R], items: Iterator[T], depth: int
) -> Iterator[R]:
    """`map` in the executor's threads, in order, at most `depth` items ahead."""
    running = deque(executor.submit(work, item) for item in islice(items, depth))
    while running:
        result = running.popleft().result()
        running.extend(executor.submit(work, item) for item in islice(items, 1))
        yield result
