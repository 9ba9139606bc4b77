"""What a rank knows of itself: sums since its start, and the last step whole.

The training loop's thread writes it (`add`, a few microseconds); scrapes, heartbeats and the
console read it from their own threads. Readers need no lock: a record is swapped in as one
reference, and copying a dict of plain values is one step of the interpreter.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ausl_dist.observe.device import Usage
from ausl_dist.observe.record import StepRecord
from ausl_dist.observe.settings import ObserveSettings
from ausl_dist.observe.starvation import StarvationClock
from ausl_dist.observe.throughput import StepWindow, TimedStep
from ausl_dist.observe.time_left import TimeLeft
from ausl_dist.stream.settings import Budgets

# Upper bounds of the step-time histogram, seconds: a factor of about two from a toy on a laptop
# to a step of a large model.
STEP_SECONDS_BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0)


@dataclass(frozen=True)
class RankIdentity:
    """Who speaks. These are also the labels under which Prometheus knows this rank."""

    run: str
    rank: int
    world_size: int
    node: str
    attempt: int  # from 1

    @property
    def labels(self) -> dict[str, str]:
        return {
            "run": self.run,
            "rank": str(self.rank),
            "node": self.node,
            "attempt": str(self.attempt),
        }


class RankState:
    """The state of one rank; `clock` gives Unix seconds."""

    def __init__(
        self,
        identity: RankIdentity,
        settings: ObserveSettings,
        *,
        start_step: int,
        total_steps: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity
        self.clip_budgets = {**asdict(Budgets()), **(settings.clip_budgets or {})}
        self.clock = clock
        self.start_step, self.total_steps = start_step, total_steps
        self.started_at = clock()
        self.steps = self.skipped = self.clips = self.frames = 0
        self.last: StepRecord | None = None
        # each log as it was last heard: some are taken only now and then
        self.logs: dict[str, float] = {}
        self.last_at = self.started_at
        self.phase_seconds: dict[str, float] = {}
        self.total_seconds = self.waited_seconds = 0.0
        self.step_buckets = [0] * (len(STEP_SECONDS_BUCKETS) + 1)
        self.window = StepWindow(settings.window_steps)
        self.left = TimeLeft(self.window)
        # What the loop is doing now and since when: the only thing that a step that never ends
        # still tells.
        self.phase: tuple[str, float] = ("start", self.started_at)
        self.events: dict[str, int] = {}
        # Before the first save its age is that of the attempt: a run that never saves must be
        # noticed too.
        self.checkpoint: Mapping[str, Any] = {"time": self.started_at}
        # of the whole run, from an earlier attempt's last line
        self.first_start, self.useful_before = (
            self.started_at,
            0.0,
        )
        self.useful_seconds = 0.0
        self.usage = Usage()
        self.starvation: StarvationClock | None = None  # where this rank computes on a GPU
        # rank and its own seconds a step; known to rank 0
        self.slowest: tuple[int, float] | None = None

    def enter(self, phase: str) -> None:
        """The loop begins with `phase` of a step."""
        self.phase = (phase, self.clock())
        if self.starvation is not None:
            self.starvation.enter(phase)

    def add(self, record: StepRecord, waited: float = 0.0) -> None:
        """Take in a finished step, of which `waited` seconds went into waiting for other ranks."""
        seconds = record.seconds
        total = seconds.get("total", 0.0)
        self.total_seconds += total
        self.waited_seconds += waited
        self.steps += 1
        self.skipped += record.skipped
        self.clips += record.clips
        self.frames += record.frames
        for phase, value in seconds.items():
            if phase != "total":
                self.phase_seconds[phase] = self.phase_seconds.get(phase, 0.0) + value
        self.step_buckets[bisect_left(STEP_SECONDS_BUCKETS, total)] += 1
        if not record.skipped:
            self.useful_seconds += total - seconds.get("data", 0.0) - seconds.get("save", 0.0)
        self.window.add(
            TimedStep(record.clips, record.frames, seconds, waited, dict(record.loader_blocked))
        )
        self.logs.update(record.logs)
        self.left.add(total, max(self.total_steps - record.step - 1, 0))
        self.last_at = self.clock()
        self.phase = ("step", self.last_at)
        self.last = record

    def note(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take in an event."""
        self.events[kind] = self.events.get(kind, 0) + 1
        if kind == "checkpoint":
            self.checkpoint = {"time": self.clock(), **fields}

    @property
    def steps_done(self) -> int:
        """Steps of the whole run that this rank stands at."""
        return self.start_step if self.last is None else self.last.step + 1

    @property
    def collapsed(self) -> list[str]:
        """The objectives that training's last health check called collapsed."""
        logs = dict(self.logs)
        return sorted(
            name.removesuffix("/collapsed")
            for name, value in logs.items()
            if name.endswith("/collapsed") and value
        )

    @property
    def gpu_starved(self) -> float | None:
        """Share of time the GPU had no work of ours; None without one."""
        return None if self.starvation is None else self.starvation.share

    @property
    def goodput(self) -> float:
        """Share of the run's wall time, from its first start on, spent computing steps that
        count.

        Start-up, waiting for data, saving, skipped steps and steps that a restart had to repeat
        are what is missing to 1.
        """
        wall = self.clock() - self.first_start
        return min((self.useful_before + self.useful_seconds) / wall, 1.0) if wall > 0 else 0.0
