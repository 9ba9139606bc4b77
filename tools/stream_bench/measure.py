"""What is measured of a loader, the same for every contender.

Processor time is that of the whole process tree, workers included, between two batches in the
steady state; so neither imports nor the filling of queues count, and a loader that hides its
work in workers or threads hides nothing. Only the standard library is used here: this file runs
in the environment of the peers as well.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ReadingJob:
    """One measurement."""

    contender: str
    data: str  # where the contender's data are: a folder, or an s3:// address
    clips: int = 256  # measured, after `warm_up` clips
    warm_up: int = 64
    batch: int = 8
    frames: int = 32
    image_size: int = 112
    workers: int = 2  # worker processes, or decoding threads
    start_step: int = 0
    # file with the loader's state at `start_step`, for those that cannot do without
    state: str = ""
    wait_ms: float = 0.0  # that the consumer sleeps for each batch

    @classmethod
    def read(cls, path: str) -> "ReadingJob":
        return cls(**json.loads(Path(path).read_text()))


@dataclass(frozen=True)
class Result:
    first_batch_seconds: float  # from before the loader is made, without imports
    first_batch_cpu_seconds: float = 0.0
    clips: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    stalled_seconds: float = 0.0  # that the consumer waited for batches


def measure(job: ReadingJob, make: Callable[[ReadingJob], Iterator[Any]]) -> Result:
    """Make the loader and measure its batches; every batch has `job.batch` clips."""
    start, start_cpu = time.monotonic(), tree_cpu_seconds()
    batches = make(job)
    next(batches)
    first = (time.monotonic() - start, tree_cpu_seconds() - start_cpu)
    for _ in range(job.warm_up // job.batch):
        next(batches)
    steps = job.clips // job.batch
    cpu, wall, stalled = tree_cpu_seconds(), time.monotonic(), 0.0
    for _ in range(steps):
        asked = time.monotonic()
        next(batches)
        stalled += time.monotonic() - asked
        time.sleep(job.wait_ms / 1000)
    return Result(
        *first, steps * job.batch, time.monotonic() - wall, tree_cpu_seconds() - cpu, stalled
    )


def tree_cpu_seconds() -> float:
    """User and system time of this process and all that descend from it and still run."""
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def run(contenders: dict[str, Callable[[ReadingJob], Result]]) -> None:
    """The end of a contender's file: read the job named on the command line, print its result
    as the last line.
    """
    job = ReadingJob.read(sys.argv[1])
    result = contenders[job.contender](job)
    print(json.dumps(asdict(result)), flush=True)
    os._exit(0)  # some loaders leave workers that hold up an orderly exit
