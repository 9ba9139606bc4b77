"""The settings of the data plane: configs/data/*.yaml."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from ausl_dist.shards.ranges import Way

REASONS = (
    "fetch",
    "checksum",
    "unpack",
    "decode",
    "removed",
)  # why a clip may be missing, see ledger.py


@dataclass(frozen=True)
class CorpusSource:
    """One corpus of the mixture."""

    url: str  # a path, s3://bucket/prefix, or any other fsspec address
    quota: int = 1  # clips of this corpus in every sum-of-quotas clips of a lane

    def __post_init__(self) -> None:
        if not self.url:
            raise ValueError("url is empty; give a path or s3://bucket/prefix")
        if not 1 <= self.quota <= 1 << 20:
            raise ValueError(f"quota must lie in 1..{1 << 20}, not {self.quota}")


@dataclass(frozen=True)
class Budgets:
    """Share of clips that may be missing for each reason before the run stops; judged as if at
    least 1000 clips had been seen.
    """

    fetch: float = 0.0
    checksum: float = 0.0
    unpack: float = 0.001
    decode: float = 0.01
    removed: float = 1.0  # taken down after the run began

    def __post_init__(self) -> None:
        for reason in REASONS:
            if not 0 <= getattr(self, reason) <= 1:
                raise ValueError(
                    f"{reason} must be a share between 0 and 1, not {getattr(self, reason)}"
                )


@dataclass(frozen=True)
class DataSettings:
    """What is read, in which order, and how it becomes batches."""

    corpora: dict[str, CorpusSource]
    image_size: int = 224  # side of a frame of a batch, pixels

    # the order's width: any number of ranks that divides it sees the same global batches
    lanes: int = 8
    clips_per_lane: int = 4  # global batch = lanes x clips_per_lane
    # clips of a lane shuffled together; costs that many clips of memory for each lane of a rank
    shuffle_window: int = 512
    # first frame of every clip's window; None: drawn for each clip and epoch
    window_start: int | None = None
    # once: the same window of a clip in every epoch, augmentation drawn anew all the same
    window_drawn: Literal["each_epoch", "once"] = "each_epoch"
    action_units: tuple[
        int, ...
        # FACS numbers of the label columns of a batch; needed only by objectives that use
        # labels
    ] = ()
    # of the labelled frames keep their labels: each frame is drawn by the hash of its clip's
    # key, its number and `label_seed`, so the same ones in every epoch and on any number of
    # ranks
    label_share: float = 1.0
    label_seed: int = 0

    # where the augmentation graph runs; auto: on the GPU, where the run has one
    device: Literal["auto", "cpu", "gpu"] = "auto"
    # pyav is FFmpeg on the CPU, for a graph on the CPU or the GPU; dali is NVDEC on a GPU, and
    # VP9 and Motion JPEG alone on a CPU; auto: NVDEC where it is tried and right, else pyav
    # (chosen.py)
    decoder: Literal["auto", "pyav", "dali"] = "auto"

    decode_threads: int = 2
    fetch_threads: int = 8
    prefetch_batches: int = 2  # finished batches that wait for the training step
    memory_mib: int = 2048  # of fetched chunks held by one rank
    # local disk, shared by the ranks of a node; None: no disk cache
    cache_folder: str | None = None
    cache_gib: float = 100.0
    # how chunks of s3:// are read (shards/ranges.py); other stores are read through fsspec
    # always
    reader: Way = "botocore"
    retry_seconds: float = 300.0  # how long a read is repeated before its clips are given up
    budgets: Budgets = field(default_factory=Budgets)

    def __post_init__(self) -> None:
        if not self.corpora:
            raise ValueError(
                "corpora is empty; name one, such as corpora.main.url=s3://bucket/prefix"
            )
        for name, least in (
            ("image_size", 8),
            ("lanes", 1),
            ("clips_per_lane", 1),
            ("shuffle_window", 1),
            ("decode_threads", 1),
            ("fetch_threads", 1),
            ("prefetch_batches", 1),
            ("memory_mib", 16),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.window_start is not None and self.window_start < 0:
            raise ValueError(
                f"window_start must be a frame number or null, not {self.window_start}"
            )
        if self.window_drawn not in ("each_epoch", "once"):
            raise ValueError(
                f"window_drawn must be each_epoch or once, not {self.window_drawn!r}"
            )
        if not 0 < self.label_share <= 1:
            raise ValueError(f"label_share must lie in (0, 1], not {self.label_share}")
        if self.reader not in get_args(Way):
            raise ValueError(
                f"reader must be one of {', '.join(get_args(Way))}, not {self.reader!r}"
            )
        if not (self.retry_seconds > 0 and self.cache_gib > 0):
            raise ValueError("retry_seconds and cache_gib must be greater than 0")

    @property
    def batch_clips(self) -> int:
        """Clips of a global batch."""
        return self.lanes * self.clips_per_lane
