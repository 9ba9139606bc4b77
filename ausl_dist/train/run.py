"""A run on one rank, put together: everything the loop talks to.

config.yaml ──▶ ranks joined ──▶ attempt claimed ──▶ model ──▶ newest whole checkpoint ──▶ engine ──▶ loader, observer ──▶ Run
                                                      └─────────────────── rewind ◀── trouble ──────────────────────────────┘
"""

import contextlib
import dataclasses
import gc
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ausl_dist.files import read_json, write_json
from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.observe.observer import Observer
from ausl_dist.randomness import stable_hash
from ausl_dist.run_folder import (
    BAD_BATCHES_FILE,
    CHECKPOINTS_FOLDER,
    FLOPS_FILE,
    newest_whole_checkpoint,
    newest_whole_step,
)
from ausl_dist.stream import chosen
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.order import ORDER_VERSION
from ausl_dist.stream.truth import Choice
from ausl_dist.train import fence
from ausl_dist.train.checkpoint import Saver, sweep, take_snapshot
from ausl_dist.train.engine import Engine, end_startup, start_ranks
from ausl_dist.train.flops import JOINT, count_flops, peak_flops
from ausl_dist.train.online import OnlineEvaluation
from ausl_dist.train.record import note_start, read_rewinds
from ausl_dist.train.remote import fetch_newest
from ausl_dist.train.resume import Resume
from ausl_dist.train.rewind import give_up, remove_spoilt
from ausl_dist.train.settings import RunSettings
from ausl_dist.train.stability import DivergedError, Rewind, Stability, Trouble
from ausl_dist.train.stop import StopRequest
from ausl_dist.train.watch import Watch


@dataclass
class Course:
    """What a run does its steps with, as a checkpoint left it, or as new."""

    start_step: int
    engine: Engine
    loader: Loader
    decoding: Choice
    stability: Stability
    # what one clip a second adds to the MFU; None where the device's peak is unknown
    mfu_of_clips_a_second: float | None


@dataclass
class Run:
    """The parts of a run, and what the loop keeps from step to step that no checkpoint needs."""

    settings: RunSettings
    folder: Path
    rank: int
    attempt: int
    device: torch.device
    course: Course
    rewinds: list[Rewind]
    observer: Observer
    saver: Saver
    watch: Watch
    stop: StopRequest
    online: OnlineEvaluation
    started: bool = False  # a step has been done
    collapsed: set[str] = field(default_factory=set)

    @property
    def engine(self) -> Engine:
        return self.course.engine

    @property
    def loader(self) -> Loader:
        return self.course.loader

    @property
    def may_rewind(self) -> bool:
        """Whether the run may still go back to a checkpoint when training goes wrong."""
        return len(self.rewinds) < self.settings.rewind.max_times

    def enter(self, phase: str) -> None:
        """Tell observer and watch what the loop does now."""
        self.observer.enter(phase)
        self.watch.at(phase)

    def step_done(self) -> None:
        """A step has ended: the watch starts anew, and what the background save has done is told."""
        if not self.started:
            end_startup(self.settings.engine)
            self.started = True
        self.watch.step_done()
        self.saver.check()
        self._tell_saved()

    def online_scores(self) -> dict[str, float]:
        """Scores of a checkpoint that have come in since the last call, as logs of a step; rank 0
        alone has any.
        """
        scores, failed = self.online.news()
        if failed is not None:
            self.observer.event(
                "online_failed", checkpoint=failed.name, log=str(self.online.log_path)
            )
        return {f"online/{name}": value for name, value in scores.items()}

    def mfu(self, clips: int, seconds: float) -> dict[str, float]:
        """Share of the device's peak that a step came to, as a log; nothing where the peak is
        unknown.
        """
        share = self.course.mfu_of_clips_a_second
        return {} if share is None else {"mfu": share * clips / seconds}

    def save(self, step: int) -> None:
        """Begin to save the state after `step` steps."""
        state = data_state(self.settings) | _corpora(self.settings, self.loader)
        state |= {
            "attempt": self.attempt,
            "world_size": dist.get_world_size(),
            "stability": self.course.stability.state(),
        }
        state |= {"rewinds": [dataclasses.asdict(rewind) for rewind in self.rewinds]}
        self.saver.save(take_snapshot(step, self.engine, state))

    def finish_saving(self) -> None:
        """Wait until the last checkpoint is in place, on all ranks."""
        self.enter("save")
        self.saver.finish()
        self._tell_saved()
        dist.barrier()

    def rewind(self, trouble: Trouble) -> None:
        """Go back to the newest checkpoint from before the trouble; its steps are left out from now
        on. All ranks must call it.

        Raises DivergedError where the run has gone back often enough, or there is no such
        checkpoint.
        """
        if not self.may_rewind:
            raise DivergedError(
                f"{trouble.reason}, steps {trouble.first} to {trouble.last}; "
                f"the run has gone back {len(self.rewinds)} times, "
                f"rewind.max_times={self.settings.rewind.max_times} allows no more. "
                f"The clips are in {self.folder / BAD_BATCHES_FILE}. "
                "A lower optimizer.learning_rate or engine.precision=fp32 may help"
            )
        self.finish_saving()
        self.enter("rewind")
        checkpoint, rewind = _told_by_rank_0(
            lambda: give_up(self.folder, trouble, self.attempt), self.rank
        )
        self.rewinds.append(rewind)
        self.observer.event(
            "rewind", step=trouble.last, to_step=rewind.to_step, reason=trouble.reason
        )
        self.loader.close()
        self.engine.release()
        del self.course  # its memory is needed for the next one
        gc.collect()
        torch.cuda.empty_cache()
        self.course = _set_out(
            self.settings,
            self.folder,
            self.device,
            None if checkpoint is None else Resume(checkpoint),
        )
        self.watch.step_done()

    def _tell_saved(self) -> None:
        for saved in self.saver.news():
            self.observer.event(
                "checkpoint", step=saved.step, seconds=saved.seconds, bytes=saved.bytes
            )
            if saved.upload_problem is not None:
                self.observer.event("upload_failed", step=saved.step, reason=saved.upload_problem)
            self.online.offer(saved.path, saved.step)


def data_state(settings: RunSettings) -> dict[str, Any]:
    """What must stay as it is for the data integer to mean the same clips, and for the optimizer
    state to fit.
    """
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
    """Join the other ranks, take over the run folder, and go back to the newest whole checkpoint,
    if there is one.
    """
    stop = StopRequest()
    device = start_ranks(settings.engine, settings.watch.startup_timeout_seconds)
    rank, world_size = dist.get_rank(), dist.get_world_size()
    if settings.data.lanes % world_size:
        raise ValueError(
            f"data.lanes={settings.data.lanes} cannot be dealt evenly to {world_size} ranks: "
            "change data.lanes, or the ranks"
        )
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(Watch(settings.watch, folder, rank))
        attempt, checkpoint, rewinds = _told_by_rank_0(
            lambda: _take_over(folder, settings.checkpoint.upload), rank
        )
        resume = None if checkpoint is None else Resume(checkpoint)
        if resume is not None:
            # the folder's record is lost where the checkpoint was fetched
            rewinds = max(rewinds, resume.rewinds, key=len)
        course = _set_out(settings, folder, device, resume)
        stack.callback(course.loader.close)
        # a run that goes back does not choose anew
        settings = dataclasses.replace(settings, data=chosen.apply(settings.data, course.decoding))
        made_of = _recorded(settings, course.loader)
        made_of["decoding"] = dataclasses.asdict(course.decoding)
        _note_start(folder, attempt, course.start_step, checkpoint, made_of)
        observer = stack.enter_context(
            Observer(
                settings.observe,
                run_folder=folder,
                run_name=settings.name,
                rank=rank,
                world_size=world_size,
                restart=attempt - 1,
                start_step=course.start_step,
                total_steps=settings.steps,
            )
        )
        timeout_seconds = settings.watch.step_timeout_seconds
        saver = Saver(
            folder,
            settings.checkpoint,
            attempt=attempt,
            rank=rank,
            world_size=world_size,
            timeout_seconds=timeout_seconds,
        )
        online = OnlineEvaluation(settings.online, folder)
        stack.callback(online.finish, 0.0)
        if checkpoint is not None and rank == 0:
            online.offer(checkpoint, course.start_step)
        run = Run(
            settings,
            folder,
            rank,
            attempt,
            device,
            course,
            rewinds,
            observer,
            saver,
            watch,
            stop,
            online,
        )
        yield run
        if not stop.asked:
            online.finish(timeout_seconds / 2)
        run.loader.close()  # another one than above, if the run has gone back
    run.engine.close()
    stop.ignore_from_now()


T = TypeVar("T")


def _told_by_rank_0(find: Callable[[], T], rank: int) -> T:
    """What `find` gives on rank 0, on every rank; what it raises is raised on every rank too, or
    the others would wait.
    """
    told: list[Any] = [None, None]
    if rank == 0:
        try:
            told[0] = find()
        except (ValueError, OSError, DivergedError) as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    found: T = told[0]
    return found


def _take_over(folder: Path, copies: str | None) -> tuple[int, Path | None, list[Rewind]]:
    """Claim the next attempt; returns its number, the checkpoint to go on from, and what the run
    has given up before.
    """
    attempt = fence.claim(folder)
    sweep(folder)
    rewinds = read_rewinds(folder)
    remove_spoilt(folder, rewinds)  # where a rewind was killed half-way
    if copies is not None and not newest_whole_step(folder):
        fetched = fetch_newest(copies, folder / CHECKPOINTS_FOLDER)
        if fetched is not None:
            return attempt, fetched, rewinds
    return attempt, newest_whole_checkpoint(folder), rewinds


def _set_out(
    settings: RunSettings, folder: Path, device: torch.device, resume: Resume | None
) -> Course:
    """Model, engine and data, new or as a checkpoint left them."""
    model = _build(settings, resume)
    mfu = _mfu_of_clips_a_second(settings, folder, model.to(device), device)
    engine = Engine(model, settings.engine, settings.optimizer, device)
    if resume is not None:
        resume.restore(engine)
    start_step = 0 if resume is None else resume.step
    rank, world_size = dist.get_rank(), dist.get_world_size()
    decoding = _choose_decoder(settings, model, device)
    loader = Loader(
        chosen.apply(settings.data, decoding),
        model.plan,
        seed=settings.seed,
        rank=rank,
        world_size=world_size,
        run_folder=folder,
        start_step=start_step,
        device=device,
        digests=None if resume is None else resume.corpus_digests,
    )
    if resume is not None:
        resume.check(_corpora(settings, loader))
    stability = Stability(
        settings.rewind,
        settings.watch.max_bad_steps,
        None if resume is None else resume.state.get("stability"),
    )
    return Course(start_step, engine, loader, decoding, stability, mfu)


def _mfu_of_clips_a_second(
    settings: RunSettings, folder: Path, model: JointModel, device: torch.device
) -> float | None:
    peak = peak_flops(
        settings.engine, torch.cuda.get_device_name(device) if device.type == "cuda" else None
    )
    if peak is None:
        return None
    path = folder / FLOPS_FILE
    counts: dict[str, float] | None = _told_by_rank_0(
        lambda: read_json(path) if path.exists() else None, dist.get_rank()
    )
    if counts is None:
        counts = count_flops(
            model, settings.data.image_size, max(len(settings.data.action_units), 1)
        )
        if dist.get_rank() == 0:
            write_json(path, counts)
    return counts[JOINT] / peak


def _choose_decoder(settings: RunSettings, model: JointModel, device: torch.device) -> Choice:
    """How clips are decoded, the same on all ranks; one rank of each node tries."""
    own = None
    if os.environ["LOCAL_RANK"] == "0":
        own = chosen.decide(settings.data, model.plan, gpu=device.type == "cuda")
    told: list[Choice | None] = [None] * dist.get_world_size()
    dist.all_gather_object(told, own)
    return chosen.agree_on([choice for choice in told if choice is not None])


def _build(settings: RunSettings, resume: Resume | None) -> JointModel:
    torch.manual_seed(stable_hash(settings.seed, "weights"))
    model = build_model(
        settings.backbone, settings.objectives, settings.mixture, settings.balance_decay
    )
    if resume is not None:
        resume.check(data_state(settings))
        resume.load_weights(model)
    return model


def _corpora(settings: RunSettings, loader: Loader) -> dict[str, Any]:
    """Content and share of each corpus: with another one the data integer would mean other clips.

    Where it lies may change.
    """
    sources = settings.data.corpora
    return {
        "corpora": {
            name: {"digest": index.digest, "quota": sources[name].quota}
            for name, index in loader.indexes.items()
        }
    }


def _recorded(settings: RunSettings, loader: Loader) -> dict[str, Any]:
    """What a start's record says of the corpora."""
    taken_down = {name: clips for name, clips in loader.taken_down.items() if clips}
    return _corpora(settings, loader) | ({"taken_down_clips": taken_down} if taken_down else {})


def _note_start(
    folder: Path, attempt: int, start_step: int, checkpoint: Path | None, corpora: Mapping[str, Any]
) -> None:
    hosts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(hosts, socket.gethostname())
    if dist.get_rank() == 0:
        note_start(
            folder,
            attempt=attempt,
            start_step=start_step,
            resumed_from=checkpoint,
            hosts=hosts,
            corpora=corpora,
        )
