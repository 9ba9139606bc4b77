"""A run on one rank, put together: everything the loop talks to.

    config.yaml ──▶ ranks joined ──▶ attempt claimed ──▶ model ──▶ newest whole checkpoint ──▶ engine ──▶ loader, observer ──▶ Run
"""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ausl_dist.model import JointModel, build_model
from ausl_dist.observe.observer import Observer
from ausl_dist.randomness import stable_hash
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.order import ORDER_VERSION
from ausl_dist.train import fence
from ausl_dist.train.checkpoint import Saver, newest_complete, sweep, take_snapshot
from ausl_dist.train.engine import Engine, start_ranks
from ausl_dist.train.record import note_start
from ausl_dist.train.resume import Resume
from ausl_dist.train.settings import RunSettings
from ausl_dist.train.stop import StopRequest
from ausl_dist.train.watch import Watch


@dataclass
class Run:
    """The parts of a run, and what the loop keeps from step to step that no checkpoint needs."""

    settings: RunSettings
    folder: Path
    rank: int
    attempt: int
    start_step: int
    engine: Engine
    loader: Loader
    observer: Observer
    saver: Saver
    watch: Watch
    stop: StopRequest
    bad_steps_in_a_row: int = 0
    collapsed: set[str] = field(default_factory=set)

    def enter(self, phase: str) -> None:
        """Tell observer and watch what the loop does now."""
        self.observer.enter(phase)
        self.watch.at(phase)

    def step_done(self) -> None:
        """A step has ended: the watch starts anew, and what the background save has done is told."""
        self.watch.step_done()
        self.saver.check()
        self._tell_saved()

    def save(self, step: int) -> None:
        """Begin to save the state after `step` steps."""
        state = data_state(self.settings) | _corpora(self.settings, self.loader)
        state |= {"attempt": self.attempt, "world_size": dist.get_world_size()}
        self.saver.save(take_snapshot(step, self.engine, state))

    def finish_saving(self) -> None:
        """Wait until the last checkpoint is in place, on all ranks."""
        self.enter("save")
        self.saver.finish()
        self._tell_saved()
        dist.barrier()

    def _tell_saved(self) -> None:
        for saved in self.saver.news():
            self.observer.event("checkpoint", step=saved.step, seconds=saved.seconds, bytes=saved.bytes)


def data_state(settings: RunSettings) -> dict[str, Any]:
    """What must stay as it is for the data integer to mean the same clips, and for the optimizer state to fit."""
    data = settings.data
    return {
        "seed": settings.seed,
        "order_version": ORDER_VERSION,
        "lanes": data.lanes,
        "clips_per_lane": data.clips_per_lane,
        "shuffle_window": data.shuffle_window,
        "optimizer_kind": settings.optimizer.kind,
    }


@contextlib.contextmanager
def open_run(settings: RunSettings, folder: Path) -> Iterator[Run]:
    """Join the other ranks, take over the run folder, and go back to the newest whole checkpoint, if there is one."""
    stop = StopRequest()
    device = start_ranks(settings.engine)
    rank, world_size = dist.get_rank(), dist.get_world_size()
    if settings.data.lanes % world_size:
        raise ValueError(f"data.lanes={settings.data.lanes} cannot be dealt evenly to {world_size} ranks: change data.lanes, or the ranks")
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(Watch(settings.watch, folder, rank))
        attempt, checkpoint = _take_over(folder, rank)
        resume = None if checkpoint is None else Resume(checkpoint)
        model = _build(settings, resume)
        engine = Engine(model, settings.engine, settings.optimizer, device)
        if resume is not None:
            resume.restore(engine)
        start_step = 0 if resume is None else resume.step
        loader = Loader(
            settings.data, model.plan, seed=settings.seed, rank=rank, world_size=world_size, run_folder=folder, start_step=start_step
        )
        stack.callback(loader.close)
        if resume is not None:
            resume.check(_corpora(settings, loader))
        _note_start(folder, attempt, start_step, checkpoint, _corpora(settings, loader))
        observer = stack.enter_context(
            Observer(
                settings.observe,
                run_folder=folder,
                run_name=settings.name,
                rank=rank,
                world_size=world_size,
                restart=attempt - 1,
                start_step=start_step,
                total_steps=settings.steps,
            )
        )
        timeout_seconds = settings.watch.step_timeout_seconds
        saver = Saver(folder, settings.checkpoint, attempt=attempt, rank=rank, world_size=world_size, timeout_seconds=timeout_seconds)
        yield Run(settings, folder, rank, attempt, start_step, engine, loader, observer, saver, watch, stop)
    engine.close()


def _take_over(folder: Path, rank: int) -> tuple[int, Path | None]:
    """Rank 0 claims the next attempt and finds the checkpoint to go on from; the others are told."""
    found: list[Any] = [None, None, None]
    if rank == 0:
        try:
            attempt = fence.claim(folder)
            sweep(folder)
            found = [attempt, newest_complete(folder), None]
        except (ValueError, OSError) as error:  # all ranks must hear of it, or they would wait
            found[2] = error
    dist.broadcast_object_list(found)
    attempt, checkpoint, problem = found
    if problem is not None:
        raise problem
    return attempt, checkpoint


def _build(settings: RunSettings, resume: Resume | None) -> JointModel:
    torch.manual_seed(stable_hash(settings.seed, "weights"))
    model = build_model(settings.backbone, settings.objectives, settings.mixture, settings.balance_decay)
    if resume is not None:
        resume.check(data_state(settings))
        resume.load_weights(model)
    return model


def _corpora(settings: RunSettings, loader: Loader) -> dict[str, Any]:
    """Content and share of each corpus: with another one the data integer would mean other clips. Where it lies may change."""
    sources = settings.data.corpora
    return {"corpora": {name: {"digest": index.digest, "quota": sources[name].quota} for name, index in loader.indexes.items()}}


def _note_start(folder: Path, attempt: int, start_step: int, checkpoint: Path | None, corpora: Mapping[str, Any]) -> None:
    hosts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(hosts, socket.gethostname())
    if dist.get_rank() == 0:
        note_start(folder, attempt=attempt, start_step=start_step, resumed_from=checkpoint, hosts=hosts, corpora=corpora)
