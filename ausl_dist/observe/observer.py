"""The one object through which a rank tells what happens to it.

with Observer(settings, run_folder=..., run_name=..., rank=0, world_size=2, attempt=1,
start_step=0, total_steps=1000) as observer:
    for step in range(1000):
        observer.enter("data")  # optional: lets a hang be named
        ...
        observer.step(StepRecord(...))
        observer.event("checkpoint", step=step + 1, seconds=1.2, bytes=4096)

step  ─▶ state (sums, last record) ◀─ read by scrapes, heartbeats and the live view, in their own threads
      ├▶ metrics.jsonl, trackers, a plain line now and then (rank 0)
      └▶ profiler, when asked
event ─▶ events/rank-N.jsonl, a counter, the console
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ausl_dist.json_lines import LineWriter
from ausl_dist.observe.console import Console
from ausl_dist.observe.device import process_start
from ausl_dist.observe.events import in_words, is_trouble
from ausl_dist.observe.history import EVENTS_FOLDER, METRICS_FILE, Line, last_metrics
from ausl_dist.observe.profiler import Profiler
from ausl_dist.observe.pulse import Pulse
from ausl_dist.observe.record import StepRecord
from ausl_dist.observe.settings import ObserveSettings
from ausl_dist.observe.starvation import clock_for_this_rank
from ausl_dist.observe.state import RankIdentity, RankState
from ausl_dist.observe.trackers import Tracker, flat_numbers, make_trackers
from ausl_dist.observe.waiting import WaitingClock

__all__ = ["Observer", "StepRecord"]


class Observer:
    """One rank's voice; `step` and `enter` belong to the training loop's thread, `event` to
    any.

    With `settings.enabled` false, rank 0 writes metrics.jsonl and all else is left out.
    """

    def __init__(
        self,
        settings: ObserveSettings,
        *,
        run_folder: Path,
        run_name: str,
        rank: int,
        world_size: int,
        attempt: int,
        start_step: int,
        total_steps: int,
        clock: Callable[[], float] = time.time,
        stream: TextIO | None = None,
    ) -> None:
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        identity = RankIdentity(
            run=run_name, rank=rank, world_size=world_size, node=node, attempt=attempt
        )
        self._settings = settings
        self._run_folder = run_folder
        self._state = RankState(
            identity, settings, start_step=start_step, total_steps=total_steps, clock=clock
        )
        self._lines: LineWriter | None = None
        self._events: LineWriter | None = None
        self._pulse: Pulse | None = None
        self._trackers: list[Tracker] = []
        self._lock = threading.Lock()
        self._waiting = WaitingClock() if settings.enabled and world_size > 1 else None
        if settings.enabled:
            self._state.starvation = clock_for_this_rank()
        self._profiler = Profiler(settings.profile, run_folder, rank)
        if rank == 0:
            self._open_metrics(run_folder)
        if settings.enabled:
            if rank == 0:
                self._trackers = make_trackers(
                    settings.trackers, identity, run_folder, start_step
                )
            self._events = LineWriter(run_folder / EVENTS_FOLDER / f"rank-{rank:05d}.jsonl")
        self._console = Console(
            settings.console if settings.enabled else "quiet",
            self._state,
            settings.console_seconds,
            stream,
        )
        if settings.enabled:
            self._begin()
            self.event("started", attempt=attempt, step=start_step, world_size=world_size)
            if self.metrics_url is not None:
                self._console.tell(f"metrics of rank {rank}: {self.metrics_url}")

    def _begin(self) -> None:
        """Start the threads."""
        if self._waiting is not None:
            self._waiting.start()
        self._pulse = Pulse(
            self._settings,
            self._state,
            self._run_folder,
            self._profiler,
            self.event,
            self._console.trouble,
        )

    @property
    def steps_done(self) -> int:
        """Steps of the whole run that this rank stands at."""
        return self._state.steps_done

    @property
    def metrics_url(self) -> str | None:
        """Where this rank's metrics can be read, if anywhere."""
        return (
            self._pulse.exporter.url
            if self._pulse is not None and self._pulse.exporter is not None
            else None
        )

    def enter(self, phase: str) -> None:
        """The loop begins with a phase of its step (data, forward, ...); of a step that never
        ends, this is all that will be known.
        """
        self._state.enter(phase)

    def step(self, record: StepRecord) -> None:
        """A step has ended; called after each step by every rank. Some tens of microseconds."""
        if self._lines is None and not self._settings.enabled:
            return
        self._state.add(record, 0.0 if self._waiting is None else self._waiting.take())
        if self._lines is not None:
            line = _line(record, self._state)
            self._lines.write(line)
            if self._trackers and (record.step + 1) % self._settings.trackers.every_steps == 0:
                numbers = flat_numbers(line)
                for tracker in self._trackers:
                    tracker.write(record.step, numbers)
        if not self._settings.enabled:
            return
        self._console.step()
        # all ranks have agreed on it: one of them says it
        if record.skipped and self._state.identity.rank == 0:
            self.event("skipped", step=record.step)
        profiled = self._profiler.step(record.step)
        if profiled is not None:
            self.event("profile", **profiled)

    def event(self, kind: str, **fields: Any) -> None:
        """Something happened that is no step: it is counted, written down and said in words.

        `events.py` lists the kinds.
        """
        with self._lock:
            if kind == "rewind":
                self._take_back(fields["to_step"])
            self._state.note(kind, fields)
            if self._events is None:
                return
            identity = self._state.identity
            who = {"rank": identity.rank, "node": identity.node, "attempt": identity.attempt}
            self._events.write({"time": self._state.clock(), "kind": kind, **who, **fields})
            speak = self._console.trouble if is_trouble(kind) else self._console.tell
            speak(in_words(kind, fields))

    def close(self, error: BaseException | None = None) -> None:
        """The rank ends, well or with an error: its target goes, its last heartbeat stays.

        Closing twice does nothing.
        """
        profiled = self._profiler.close()
        if profiled is not None:
            self.event("profile", **profiled)
        text = "" if error is None else f"{type(error).__name__}: {error}"
        if self._pulse is not None:
            self._pulse.close("ended" if error is None else "failed", text)
            self._pulse = None
        if self._events is not None:
            self.event(
                "ended" if error is None else "failed", step=self._state.steps_done, error=text
            )
            self._events.close()
            self._events = None
        if self._waiting is not None:
            self._waiting.stop()
        self._console.close()
        for tracker in self._trackers:
            tracker.close()
        self._trackers = []
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def __enter__(self) -> "Observer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(error)

    def _take_back(self, to_step: int) -> None:
        """What was computed after the checkpoint that the run goes back to has not counted;
        known to rank 0, which has the lines.
        """
        if self._lines is not None:
            before = last_metrics(self._run_folder, before_step=to_step)
            useful = 0.0 if before is None else before["useful_seconds"]
            self._state.useful_seconds = useful - self._state.useful_before

    def _open_metrics(self, run_folder: Path) -> None:
        self._lines = LineWriter(run_folder / METRICS_FILE)
        before = last_metrics(run_folder, before_step=self._state.start_step)
        if before is None:
            self._state.first_start = process_start(self._state.started_at)
        else:
            self._state.first_start, self._state.useful_before = (
                before["first_start"],
                before["useful_seconds"],
            )


def _line(record: StepRecord, state: RankState) -> Line:
    """One line of metrics.jsonl.

    Clips and frames are those of all ranks, blocked seconds and counts rank 0's since its
    start.
    """
    ranks = state.identity.world_size
    return {
        "step": record.step,
        "attempt": state.identity.attempt,
        "time": state.last_at,
        "clips": record.clips * ranks,
        "frames": record.frames * ranks,
        "loss": record.loss,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        "skipped": record.skipped,
        "logs": dict(record.logs),
        "seconds": {phase: round(seconds, 6) for phase, seconds in record.seconds.items()},
        "blocked": {
            stage: round(seconds, 6) for stage, seconds in list(record.loader_blocked.items())
        },
        "counts": record.counts,
        "useful_seconds": round(state.useful_before + state.useful_seconds, 3),
        "first_start": state.first_start,
    }
