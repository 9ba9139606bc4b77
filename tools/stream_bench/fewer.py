"""Whether fewer pixels could be decoded where a view needs no more: FFmpeg's ways to leave work
out, beside whole decoding.

    python -m tools.stream_bench.fewer [--work DIR] [--clips 16]

Clips of the corpus that tools.bench_stream has made, as they are (VP9) and encoded again in the
other codecs that a corpus may have. `lowres=1` decodes at half the size, `skip_loop_filter=all`
leaves out the smoothing of block edges. Prints milliseconds of processor time a clip, and how
near the luma comes to that of whole decoding (halved by means of pixels, where it is half).
"""

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist import command
from ausl_dist.shards.clip import VIDEO_SUFFIX
from ausl_dist.shards.encode import encode_video
from ausl_dist.shards.reader import read_clips
from ausl_dist.stream.frames import FrameDecoder, whole_frames
from ausl_dist.stream.mp4 import Video, parse
from tools.bench_stream import ROOT

FPS, ROUNDS = 25.0, 3
WAYS: tuple[dict[str, str], ...] = ({}, {"lowres": "1"}, {"skip_loop_filter": "all"})
Luma = list[NDArray[np.uint8]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "bench-stream")
    parser.add_argument("--clips", type=int, default=16)
    arguments = parser.parse_args()
    shards = sorted((arguments.work / "corpus").glob("*.tar"))
    stored = itertools.chain.from_iterable(map(read_clips, shards))
    given = [clip.members[VIDEO_SUFFIX] for clip in itertools.islice(stored, arguments.clips)]
    frames = [
        whole_frames(FrameDecoder(), video, range(video.frames)) for video in map(parse, given)
    ]
    print("| codec | kB a clip | left out | CPU ms a clip | PSNR of luma, dB: mean, least |")
    print("|---|---|---|---|---|")
    for codec in ("vp9", "h264", "mjpeg"):
        made = given if codec == "vp9" else [encode_video(one, FPS, codec) for one in frames]
        kilobytes = sum(map(len, made)) / len(made) / 1000
        for way, seconds, near in measure([parse(one) for one in made]):
            what = " ".join(f"{name}={value}" for name, value in way.items()) or "nothing"
            quality = f"{np.mean(near):.1f}, {np.min(near):.1f}" if near else "the same"
            print(f"| {codec} | {kilobytes:.0f} | {what} | {1000 * seconds:.1f} | {quality} |")
    return 0


def measure(videos: Sequence[Video]) -> Iterator[tuple[dict[str, str], float, list[float]]]:
    """Each way, its seconds a clip, and the PSNR of each frame where it differs at all."""
    whole = [luma(video, {}) for video in videos]
    for way in WAYS:
        start = time.process_time()
        for _ in range(ROUNDS):
            less = [luma(video, way) for video in videos]
        seconds = (time.process_time() - start) / ROUNDS / len(videos)
        pairs = [
            (one, other)
            for frames, others in zip(whole, less, strict=True)
            for one, other in zip(frames, others, strict=True)
        ]
        is_same = all(np.array_equal(one, other) for one, other in pairs)
        yield way, seconds, [] if is_same else [psnr(one, other) for one, other in pairs]


def luma(video: Video, options: dict[str, str]) -> Luma:
    context: Any = av.CodecContext.create(video.codec, "r")
    context.thread_count = 1
    context.options = options
    if video.extradata:
        context.extradata = video.extradata
    decoded: Luma = []
    for _, data in video.packets(0, video.frames - 1):
        decoded += [_plane(frame) for frame in context.decode(av.Packet(data))]  # type: ignore[arg-type]
    return decoded + [_plane(frame) for frame in context.decode(None)]


def _plane(frame: av.VideoFrame) -> NDArray[np.uint8]:
    plane: Any = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].copy()


def psnr(whole: NDArray[np.uint8], less: NDArray[np.uint8]) -> float:
    if whole.shape != less.shape:
        size = less.shape[1], less.shape[0]
        whole = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    error = float(np.mean((whole.astype(np.float32) - less) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


if __name__ == "__main__":
    command.run(main)
