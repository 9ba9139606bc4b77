"""A run on one rank, put together: everything the loop talks to.

config.yaml ──▶ ranks joined ──▶ attempt claimed ──▶ model ──▶ newest whole checkpoint
            ──▶ engine ──▶ loader, observer ──▶ Run
                   ▲                             │
                   └────── rewind ◀── trouble ───┘
"""

import contextlib
import dataclasses
import gc
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ausl_dist.batch import Batch
from ausl_dist.observe.observer import Observer
from ausl_dist.randomness import stable_hash
from ausl_dist.run_folder import (
    BAD_BATCHES_FILE,
    CHECKPOINTS_FOLDER,
    DONE,
    newest_whole_checkpoint,
    newest_whole_step,
)
from ausl_dist.shards.storage import check_bucket
from ausl_dist.stream import chosen
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.order import lanes_of_rank
from ausl_dist.train import fence
from ausl_dist.train.arithmetic import arithmetic_of
from ausl_dist.train.checkpoint import Saver, sweep, take_snapshot
from ausl_dist.train.clock import HostClock
from ausl_dist.train.engine import Engine, Outcome
from ausl_dist.train.machine import by_host, describe_machine
from ausl_dist.train.online import OnlineEvaluation
from ausl_dist.train.place import RunPlace
from ausl_dist.train.process_group import broadcast_from_rank_0, end_startup, start_ranks
from ausl_dist.train.record import note_end, note_start, read_rewinds
from ausl_dist.train.remote import fetch_newest
from ausl_dist.train.resume import ARITHMETIC_VERSION, Resume
from ausl_dist.train.rewind import remove_abandoned, roll_back
from ausl_dist.train.schedule import StepValues, values_at
from ausl_dist.train.settings import RunSettings
from ausl_dist.train.stability import DivergedError, Rewind, Trouble, is_left_out
from ausl_dist.train.startup import StartupClock
from ausl_dist.train.state import TrainingState, corpora_of, data_state, make_state, recorded_of
from ausl_dist.train.stop import StopRequest
from ausl_dist.train.watch import Watch


@dataclass
class Run:
    """The parts of a run, and what the loop keeps from step to step that no checkpoint needs."""

    settings: RunSettings
    place: RunPlace
    device: torch.device
    state: TrainingState
    rewinds: list[Rewind]
    observer: Observer
    saver: Saver
    watch: Watch
    stop: StopRequest
    online: OnlineEvaluation
    started: bool = False  # a step has been done
    collapsed: set[str] = field(default_factory=set)
    clock: HostClock = field(default_factory=HostClock)  # data, step, save

    @property
    def engine(self) -> Engine:
        return self.state.engine

    @property
    def loader(self) -> Loader:
        return self.state.loader

    @property
    def may_rewind(self) -> bool:
        """Whether the run may still go back to a checkpoint when training goes wrong."""
        return len(self.rewinds) < self.settings.rewind.max_times

    def steps_to_do(self) -> range:
        """From the next step to the last."""
        return range(self.state.start_step, self.settings.steps)

    def begin_step(self, step: int) -> None:
        """From here on a step's random numbers depend on nothing that was before it."""
        self.clock.start()
        torch.manual_seed(stable_hash(self.settings.seed, "step", step, self.place.rank))

    def next_batch(self) -> Batch:
        self._enter("data")
        batch = next(self.loader)
        self.clock.lap("data")
        return batch

    def leaves_out(self, step: int) -> bool:
        """Whether a step has led into trouble before, and is not done again."""
        return is_left_out(step, self.rewinds)

    def values_at(self, step: int) -> StepValues:
        """Rate, decay, momentum and weights of a step."""
        teacher = self.engine.teacher
        return values_at(step, self.settings, None if teacher is None else teacher.momentum)

    def train_step(self, batch: Batch, values: StepValues) -> Outcome:
        """One step on all ranks, told whether this one was asked to stop."""
        self._enter("step")
        self.engine.model.weights.update(values.weights)
        return self.engine.train_step(
            batch,
            values.learning_rate,
            weight_decay=values.weight_decay,
            teacher_momentum=values.teacher_momentum,
            stop=self.stop.asked,
        )

    def save_if_due(self, step: int, *, at_once: bool) -> None:
        """Begin to save after `step` steps where it is time, and the last ones look healthy."""
        self.clock.lap("step")
        self._enter("save")
        due = step % self.settings.checkpoint.every_steps == 0
        if at_once or (due and not self.state.stability.suspicious):
            self.save(step)
        self.clock.lap("save")

    def save_the_end(self) -> None:
        """After the last step: what is not saved yet is, and all ranks wait for it."""
        steps = self.settings.steps
        if self.state.start_step < steps and self.saver.saved_step != steps:
            self.save(steps)
        self.finish_saving()

    def end_step(self) -> None:
        """A step has ended: the watch starts anew, and what the background save has done is
        told.
        """
        if not self.started:
            end_startup(self.settings.engine)
            self.started = True
        self.watch.step_done()
        self.saver.check()
        self._tell_saved()

    def _enter(self, phase: str) -> None:
        """Tell observer and watch what the loop does now."""
        self.observer.enter(phase)
        self.watch.at(phase)

    def online_scores(self) -> dict[str, float]:
        """Scores of a checkpoint that have come in since the last call, as logs of a step; rank
        0 alone has any.
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
        share = self.state.mfu_of_clips_a_second
        return {} if share is None else {"mfu": share * clips / seconds}

    def save(self, step: int) -> None:
        """Begin to save the state after `step` steps."""
        state = data_state(self.settings, self.engine.model) | corpora_of(
            self.settings, self.loader
        )
        state |= {
            "arithmetic_version": ARITHMETIC_VERSION,
            "arithmetic": self._arithmetic(),
            "attempt": self.place.attempt,
            "world_size": self.place.world_size,
            "stability": self.state.stability.state(),
        }
        state |= {"rewinds": [dataclasses.asdict(rewind) for rewind in self.rewinds]}
        self.saver.save(take_snapshot(step, self.engine, state))

    def _arithmetic(self) -> dict[str, Any]:
        return dataclasses.asdict(arithmetic_of(self.settings.engine, self.device))

    def finish_saving(self) -> None:
        """Wait until the last checkpoint is in place, on all ranks."""
        self._enter("save")
        self.saver.finish()
        self._tell_saved()
        dist.barrier()

    def rewind(self, trouble: Trouble) -> None:
        """Go back to the newest checkpoint from before the trouble; its steps are left out from
        now on. All ranks must call it.

        Raises DivergedError where the run has gone back often enough, or there is no such
        checkpoint.
        """
        if not self.may_rewind:
            raise DivergedError(
                f"{trouble.reason}, steps {trouble.first} to {trouble.last}; "
                f"the run has gone back {len(self.rewinds)} times, "
                f"rewind.max_times={self.settings.rewind.max_times} allows no more. "
                f"The clips are in {self.place.folder / BAD_BATCHES_FILE}. "
                "A lower optimizer.learning_rate or engine.precision=fp32 may help"
            )
        self.finish_saving()
        self._enter("rewind")
        checkpoint, rewind = broadcast_from_rank_0(
            lambda: roll_back(self.place.folder, trouble, self.place.attempt)
        )
        self.rewinds.append(rewind)
        self.observer.event(
            "rewind", step=trouble.last, to_step=rewind.to_step, reason=trouble.reason
        )
        self.loader.close()
        self.engine.release()
        del self.state  # its memory is needed for the next one
        gc.collect()
        torch.cuda.empty_cache()
        self.state = make_state(
            self.settings,
            self.place,
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
                self.observer.event(
                    "upload_failed", step=saved.step, reason=saved.upload_problem
                )
            self.online.offer(saved.path, saved.step)


@contextlib.contextmanager
def open_run(
    settings: RunSettings, folder: Path, clock: StartupClock | None = None
) -> Iterator[Run]:
    """Join the other ranks, take over the run folder, and go back to the newest whole
    checkpoint, if there is one; `clock` is told what took how long.
    """
    clock = clock or StartupClock()
    stop = StopRequest()
    device = start_ranks(settings.engine, settings.watch.startup_timeout_seconds)
    clock.lap("ranks")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    lanes_of_rank(settings.data.lanes, rank, world_size)  # refuses what cannot be dealt
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(Watch(settings.watch, folder, rank))
        attempt, checkpoint, rewinds = broadcast_from_rank_0(
            lambda: _take_over(folder, settings.checkpoint.upload)
        )
        resume = None if checkpoint is None else Resume(checkpoint)
        clock.lap("checkpoint")
        if resume is not None:
            # the folder's record is lost where the checkpoint was fetched
            rewinds = max(rewinds, resume.rewinds, key=len)
        place = RunPlace(folder, attempt, rank, world_size)
        state = make_state(settings, place, device, resume, clock)
        stack.callback(state.loader.close)
        # a run that goes back does not choose anew
        settings = dataclasses.replace(
            settings, data=chosen.apply(settings.data, state.decoding)
        )
        made_of = recorded_of(settings, state.loader)
        made_of["decoding"] = dataclasses.asdict(state.decoding)
        made_of["arithmetic"] = dataclasses.asdict(arithmetic_of(settings.engine, device))
        made_of["startup_seconds"] = clock.seconds
        _note_start(place, device, state.start_step, checkpoint, made_of)
        observer = stack.enter_context(_observer(settings, place, state.start_step))
        timeout_seconds = settings.watch.step_timeout_seconds
        saver = Saver(place, settings.checkpoint, timeout_seconds)
        online = OnlineEvaluation(settings.online, folder)
        stack.callback(online.finish, 0.0)
        stack.push(_noting_the_end(place, observer, settings.steps))
        if checkpoint is not None and rank == 0:
            online.offer(checkpoint, state.start_step)
        run = Run(settings, place, device, state, rewinds, observer, saver, watch, stop, online)
        yield run
        if not stop.asked:
            online.finish(timeout_seconds / 2)
        run.loader.close()  # another one than above, if the run has gone back
    run.engine.close()
    stop.ignore_from_now()


def _noting_the_end(
    place: RunPlace, observer: Observer, steps: int
) -> Callable[[type[BaseException] | None, BaseException | None, object], None]:
    """Completes the record of this attempt when the run is closed, however that comes about."""

    def note(
        kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        # a fenced one owns the record no longer
        if not place.leads or isinstance(error, fence.FencedError):
            return
        done = observer.steps_done
        how = DONE if done >= steps else "asked to stop"
        if error is not None:
            how = f"{type(error).__name__}: {error}"[:1000]
        note_end(place.folder, place.attempt, done, how)

    return note


def _observer(settings: RunSettings, place: RunPlace, start_step: int) -> Observer:
    return Observer(
        settings.observe,
        run_folder=place.folder,
        run_name=settings.name,
        rank=place.rank,
        world_size=place.world_size,
        attempt=place.attempt,
        start_step=start_step,
        total_steps=settings.steps,
    )


def _take_over(folder: Path, copies: str | None) -> tuple[int, Path | None, list[Rewind]]:
    """Claim the next attempt; returns its number, the checkpoint to go on from, and what the
    run has gone back from before.
    """
    attempt = fence.claim(folder)
    sweep(folder)
    rewinds = read_rewinds(folder)
    remove_abandoned(folder, rewinds)  # where a rewind was killed half-way
    if copies is not None and not newest_whole_step(folder):
        check_bucket(copies)  # now, and not at the first save
        fetched = fetch_newest(copies, folder / CHECKPOINTS_FOLDER)
        if fetched is not None:
            return attempt, fetched, rewinds
    return attempt, newest_whole_checkpoint(folder), rewinds


def _note_start(
    place: RunPlace,
    device: torch.device,
    start_step: int,
    checkpoint: Path | None,
    made_of: Mapping[str, Any],
) -> None:
    ranks: list[Any] = [None] * place.world_size
    dist.all_gather_object(ranks, (socket.gethostname(), describe_machine(device)))
    if place.leads:
        note_start(
            place.folder,
            attempt=place.attempt,
            start_step=start_step,
            resumed_from=checkpoint,
            hosts=[host for host, _ in ranks],
            machines=by_host(ranks),
            corpora=made_of,
        )
