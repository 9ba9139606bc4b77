"""How large the measurements are: as on a card, or small enough for a CPU in a test."""

from dataclasses import dataclass
from pathlib import Path

Numbers = dict[str, float | str]  # name -> what was measured; text where something could not be


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
    seconds: float  # of each measurement of speed
    threads: int  # that decode
    compiled: bool
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
    seconds=1.0,
    threads=12,
    compiled=True,
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
    backbones=("test_resnet", "test_vit"),
    steps=1,
    seconds=0.05,
    threads=1,
    compiled=False,  # half a minute of C++ for each
    learning=(),
)
SIZES = {"full": FULL, "tiny": TINY}


@dataclass(frozen=True)
class GpuBench:
    """One run of the benchmark."""

    size: Size
    work: Path  # for corpora and checkpoints, empty at first
