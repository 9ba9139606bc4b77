"""How large the measurements are: as on a card, or small enough for a CPU in a test."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# name -> what was measured; text where something could not be
Numbers = dict[str, float | str]
# A part gives its numbers as they come: what it has when it is ended is kept.
Measured = Iterator[Numbers]


@dataclass(frozen=True)
class Size:
    """What every part measures with."""

    codecs: tuple[str, ...]
    sides: tuple[int, ...]  # of clips whose decoding is measured, pixels
    side: int  # of the clips of the loader's corpus
    clips: int  # in it
    frames: int  # of a clip
    image_size: int
    batch: int  # clips of a step
    backbones: tuple[str, ...]
    steps: int  # timed, of each variant
    warm: int  # steps before the loader is timed: more than it has ready by then
    seconds: float  # of each measurement of speed
    threads: int  # that decode
    sessions: int  # of a bare decoder: an H100 has seven engines
    compiled: tuple[str, ...]  # backbones that are compiled
    compiler: str  # of torch.compile
    part_seconds: float  # no part may take longer
    all_seconds: float  # and no part is begun when these are over
    learning: tuple[str, ...]  # options of tools.bench_objectives learn


FULL = Size(
    codecs=("vp9", "h264", "mjpeg"),
    sides=(64, 96, 128, 224, 256),
    side=224,
    clips=512,
    frames=32,
    image_size=224,
    batch=32,
    backbones=("resnet50", "vit_base_patch16_224"),
    steps=10,
    warm=8,
    seconds=1.0,
    threads=12,
    sessions=7,
    compiled=("resnet50", "vit_base_patch16_224"),
    compiler="inductor",
    part_seconds=120.0,
    all_seconds=600.0,
    learning=("--steps", "100", "--seeds", "1", "--cases", "random,joint", "--workers", "12"),
)
TINY = Size(
    codecs=("vp9",),
    sides=(64,),
    side=64,
    clips=8,
    frames=16,
    image_size=32,
    batch=2,
    backbones=("test_vit",),
    steps=1,
    warm=1,
    seconds=0.05,
    threads=1,
    sessions=2,
    compiled=("small_conv",),
    compiler="eager",  # traced into graphs, but no minutes of C++
    part_seconds=600.0,  # a busy machine is no fault of the script
    all_seconds=3600.0,
    learning=(
        *("--steps", "2", "--seeds", "1", "--cases", "landmark_deviation", "--size", "32"),
        *("--identities", "1", "--heldout", "4", "--clips", "2", "batch.clips=2"),
    ),
)
SIZES = {"full": FULL, "tiny": TINY}


def tried(measure: Callable[[], T]) -> T | str:
    """What was measured, or why not: one way that fails must not end the others."""
    try:
        return measure()
    except TimeoutError:  # of the whole part
        raise
    except Exception as error:  # noqa: BLE001 - whatever is raised is the result
        return f"not measured: {' '.join(str(error).split())[:200]}"


@dataclass(frozen=True)
class GpuBench:
    """One run of the benchmark."""

    size: Size
    work: Path  # for corpora and checkpoints, empty at first
