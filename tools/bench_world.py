"""How fast the rendered world is: frames a second of one core, by stage, for the built-in head
and for one from a file.

    python -m tools.bench_world [--head FILE]
"""

import argparse
import os

# one core means one: set before NumPy starts its threads
os.environ.setdefault("OMP_NUM_THREADS", "1")

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2

from ausl_dist import command
from ausl_dist.shards.encode import encode_video, verify_video
from ausl_dist.world.file_head import FileHead
from ausl_dist.world.head import BuiltinHead, HeadModel
from ausl_dist.world.render import World

REPEATS = 3
T = TypeVar("T")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--head", type=Path, metavar="FILE", help="a blendshape head (.npz), measured too"
    )
    parser.add_argument(
        "--frames", type=int, default=50, help="of each clip measured (default 50)"
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    cases: list[tuple[HeadModel, int]] = [(BuiltinHead(), 128), (BuiltinHead(), 256)]
    if arguments.head:
        cases += [(FileHead(arguments.head), 128), (FileHead(arguments.head), 256)]
    print(
        f"frames a second of CPU time, best of {REPEATS} clips of {arguments.frames} frames; "
        "identity: seconds to draw one"
    )
    print(
        f"{'head':<40} {'size':>4} {'render':>7} {'encode':>7} {'verify':>7} {'all':>7} "
        f"{'identity':>8}"
    )
    for head, size in cases:
        print(_measure(head, size, arguments.frames), flush=True)
    return 0


def _measure(head: HeadModel, size: int, num_frames: int) -> str:
    world = World(head, size=size, seconds=num_frames / 25)
    identity, _ = _timed(lambda: world.face(0))
    times = []
    for number in range(REPEATS):
        render, frames = _timed(world.clip(0, number).frames)
        encode, video = _timed(functools.partial(encode_video, frames, world.fps))
        verify, _ = _timed(functools.partial(verify_video, video, frames))
        times.append((render, encode, verify, render + encode + verify))
    best = [num_frames / min(column) for column in zip(*times, strict=True)]
    return (
        f"{head.name:<40} {size:>4} "
        + " ".join(f"{rate:>7.0f}" for rate in best)
        + f" {identity:>8.2f}"
    )


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds that the work took, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == "__main__":
    command.run(main)
