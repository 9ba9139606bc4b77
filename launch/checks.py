"""The checks of `doctor` on the machine where it is typed: config, data, model, disk,
scheduler.

Each check is a method that returns one sentence or raises one; they run in order, and later
ones use what earlier ones have opened.
"""

import importlib.metadata
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ausl_dist.json_lines import read_json_lines
from ausl_dist.run_folder import LEDGER_FILE
from ausl_dist.settings import SettingsError, from_mapping
from launch.cluster import LocalCluster, SlurmCluster, read_settings
from launch.compose import Composed
from launch.findings import Unchecked
from launch.prepare import check_packages

if TYPE_CHECKING:
    from ausl_dist.batch import Batch
    from ausl_dist.model.joint import JointModel
    from ausl_dist.shards.index import Index
    from ausl_dist.train.settings import RunSettings

MIB = 1 << 20
WRITE_BYTES = 64 * MIB
# slower than this a checkpoint of a small model takes longer than the warning before a time
# limit
MIN_WRITE_MIB_PER_SECOND = 20.0
ADAM_BYTES_PER_WEIGHT = 16  # fp32 weight, gradient and two moments
READ_SECONDS = 60.0


class Examination:
    """The checks over one composed config; `scratch` is a folder for what they write."""

    def __init__(self, composed: Composed, scratch: Path) -> None:
        self.composed, self.scratch = composed, scratch
        self.saved_bytes = 0  # for the backward pass, of one lane; known after `step`

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("config", self.config),
            ("packages", self.packages),
            ("corpus index", self.index),
            ("lanes and ranks", self.lanes),
            ("one chunk", self.chunk),
            *self.decoders(),
            ("one batch", self.decode),
            ("forward and backward", self.step),
            ("memory", self.memory),
            ("run folder", self.disk),
            ("scheduler", self.scheduler),
        ]

    def decoders(self) -> list[tuple[str, Callable[[], str]]]:
        from launch.decoder_checks import DecoderChecks

        try:
            return DecoderChecks(self.settings.data).checks()
        except (SettingsError, ValueError):
            return []  # `config` says so

    @cached_property
    def settings(self) -> "RunSettings":
        from ausl_dist.train.settings import RunSettings

        return from_mapping(RunSettings, self.composed.run)

    @cached_property
    def cluster(self) -> LocalCluster | SlurmCluster:
        return read_settings(self.composed.cluster)

    @cached_property
    def indexes(self) -> "dict[str, Index]":
        from ausl_dist.shards.index import Index

        return {
            name: Index.load(source.url) for name, source in self.settings.data.corpora.items()
        }

    @cached_property
    def model(self) -> "JointModel":
        import torch

        from ausl_dist.model.joint import build_model
        from ausl_dist.train.teacher import Teacher

        torch.manual_seed(self.settings.seed)
        model = build_model(
            self.settings.backbone, self.settings.objectives, self.settings.mixture
        )
        if model.needs_teacher:  # the engine's part in training
            model.teacher = Teacher(model, torch.device("cpu"))
        return model

    @cached_property
    def batch(self) -> "Batch":
        from dataclasses import replace

        from ausl_dist.stream.loader import Loader

        # The smallest part of a global batch that a rank can have: one lane. The model is on
        # the CPU here, so decoding is, too; what a GPU makes of the clips is `decode: ...`
        # above.
        data = replace(
            self.settings.data,
            device="cpu",
            decoder="pyav",
            prefetch_batches=1,
            cache_folder=None,
            retry_seconds=READ_SECONDS,
        )
        with Loader(
            data,
            self.model.plan,
            seed=self.settings.seed,
            rank=0,
            world_size=data.lanes,
            run_folder=self.scratch,
        ) as loader:
            return next(loader)

    def config(self) -> str:
        return (
            f"{self.settings.name}: {self.settings.steps:,} steps on {self.cluster.ranks} ranks"
        )

    def packages(self) -> str:
        names = ("torch", "deepspeed", "nvidia-dali-cuda130", "timm", "submitit")
        check_packages(self.composed.run)
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)

    def index(self) -> str:
        found = [
            f"{name}: {index.num_clips:,} clips in {len(index.shards)} shards"
            for name, index in self.indexes.items()
        ]
        window = self.model.plan.window
        short = [name for name, index in self.indexes.items() if index.min_frames < window]
        if short:
            raise ValueError(
                f"{', '.join(short)}: the shortest clip has fewer than the {window} frames that "
                "the objectives look at"
            )
        return "; ".join(found)

    def lanes(self) -> str:
        from ausl_dist.stream.corpora import order_of

        data, ranks = self.settings.data, self.cluster.ranks
        order_of(data, self.indexes, self.settings.seed)  # refuses a corpus that is too small
        clips = sum(index.num_clips for index in self.indexes.values())
        per_rank = data.batch_clips // ranks
        return (
            f"{data.batch_clips} clips a step, {per_rank} a rank; "
            f"{clips / data.batch_clips:,.0f} steps an epoch"
        )

    def chunk(self) -> str:
        from ausl_dist.shards.retry import Retry
        from ausl_dist.stream.fetch import Fetcher

        name, index = next(iter(self.indexes.items()))
        started = time.monotonic()
        size = len(Fetcher({name: index}, Retry(READ_SECONDS)).read(name, 0))
        return (
            f"{size / MIB:.1f} MiB at {size / MIB / (time.monotonic() - started):.0f} "
            "MiB/s, checksum right"
        )

    def decode(self) -> str:
        views = ", ".join(
            " x ".join(map(str, frames.shape)) for frames in self.batch.frames.values()
        )
        if not bool(self.batch.weight.any()):
            raise ValueError(
                f"no clip of the first batch could be decoded: {self._first_loss()}"
            )
        return f"views of B x T x C x H x W = {views}"

    def _first_loss(self) -> str:
        lines = list(read_json_lines(self.scratch / LEDGER_FILE))
        return f"{lines[0]['place']}: {lines[0]['detail']}"

    def step(self) -> str:
        self.saved_bytes = _activation_bytes(self.model, self.batch)
        missing = [
            name
            for name, weight in self.model.named_parameters()
            if weight.requires_grad and weight.grad is None
        ]
        if missing:
            raise ValueError(
                f"no gradient reaches {', '.join(missing[:3])}: an objective leaves weights unused"
            )
        return (
            f"{sum(weight.numel() for weight in self.model.parameters()) / 1e6:.1f} M weights"
        )

    @cached_property
    def rank_bytes(self) -> float:
        """What a rank will hold: weights, gradients and optimizer whole (ZeRO shares some of it
        out), and activations.
        """
        weights = (
            sum(weight.numel() for weight in self.model.parameters()) * ADAM_BYTES_PER_WEIGHT
        )
        share = (
            self.settings.data.batch_clips
            / self.cluster.ranks
            / len(self.batch)
            / self.settings.engine.gradient_accumulation
        )
        half = self.settings.engine.precision != "fp32"
        return weights + self.saved_bytes * share * (0.5 if half else 1.0)

    def memory(self) -> str:
        return (
            f"about {self.rank_bytes / MIB / 1024:.1f} GiB a rank for weights, "
            "optimizer and activations"
        )

    def disk(self) -> str:
        folder = Path(self.composed.run["folder"]).expanduser().resolve()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        rate = write_speed(existing)
        free = shutil.disk_usage(existing).free
        weights = sum(weight.numel() for weight in self.model.parameters())
        needed = (self.settings.checkpoint.keep_last + 1) * weights * ADAM_BYTES_PER_WEIGHT
        if free < needed:
            raise OSError(
                f"{free / MIB:,.0f} MiB free under {existing}, {needed / MIB:,.0f} needed for "
                "checkpoints; set folder= elsewhere"
            )
        if rate < MIN_WRITE_MIB_PER_SECOND:
            raise OSError(
                f"{existing} takes {rate:.0f} MiB/s: checkpoints would hold the run up; "
                "set folder= on a faster disk"
            )
        return f"{free / MIB / 1024:,.0f} GiB free, {rate:,.0f} MiB/s"

    def scheduler(self) -> str:
        from launch import scheduler, slurm

        if isinstance(self.cluster, LocalCluster):
            raise Unchecked("the run is on this machine")
        if not scheduler.available():
            raise OSError("no sbatch here: call doctor on a login node of the cluster")
        script = self.scratch / "job.sh"
        script.write_text(slurm.script(self.cluster, self.settings.name, self.scratch))
        tested = subprocess.run(
            ["sbatch", "--test-only", str(script)],
            capture_output=True,
            text=True,
            timeout=READ_SECONDS,
            check=False,
        )
        said = " ".join(tested.stderr.split())
        if tested.returncode:
            raise OSError(
                f"Slurm would refuse the job: {said}; `sinfo -s` lists partitions, "
                "`sacctmgr show assoc user=$USER` accounts"
            )
        return said.removeprefix("sbatch: ")


def write_speed(folder: Path) -> float:
    """MiB/s of a whole, flushed write into `folder`."""
    path = folder / f".write-speed-{os.uname().nodename}-{os.getpid()}"
    block = os.urandom(MIB)
    started = time.monotonic()
    try:
        with open(path, "wb") as file:
            for _ in range(WRITE_BYTES // MIB):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return WRITE_BYTES / MIB / (time.monotonic() - started)
    finally:
        path.unlink(missing_ok=True)


def _activation_bytes(model: "JointModel", batch: "Batch") -> int:
    """Run forward and backward; returns the bytes that forward kept for backward."""
    import torch

    from ausl_dist.train.memory import kept_for_backward

    with kept_for_backward(model) as kept:
        loss = model(batch).loss
    if not bool(torch.isfinite(loss)):
        raise ValueError(
            f"the loss of the first batch is {float(loss)}; look at the clips with "
            "`python -m tools.inspect_corpus URL`"
        )
    loss.backward()
    return sum(kept.values())
