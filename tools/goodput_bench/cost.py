"""What a failure cost, told apart by what a run writes anyway: record.json, metrics.jsonl, the
history of its attempts.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ausl_dist.files import read_json
from ausl_dist.json_lines import read_log_lines
from ausl_dist.observe.history import last_metrics
from ausl_dist.run_folder import METRICS_FILE, RECORD_FILE
from ausl_dist.train.startup import PARTS
from launch.attempts import read_history
from tools.goodput_bench.tasks import Tasks, cpu_seconds

DETECT, PROCESSES, FIRST_STEP, AGAIN = "detect", "processes", "first step", "steps done again"


@dataclass
class Failure:
    """One failure, and what it cost."""

    kind: str
    at_step: int
    seconds: dict[str, float] = field(default_factory=dict)  # by part, in order
    cpu_seconds: float = 0.0  # of all processes, until the first step

    @property
    def restart_seconds(self) -> float:
        """Until the first step of the next attempt, which may be one that was done before."""
        return sum(value for part, value in self.seconds.items() if part != AGAIN)

    @property
    def total_seconds(self) -> float:
        """Until the next new step."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Moment:
    """Where a run stood when a failure struck."""

    time: float
    step: int
    attempt: int
    decisions: int
    cpu: dict[int, float]

    @classmethod
    def now(cls, run: Path, tasks: Tasks) -> "Moment":
        cpu = {pid: cpu_seconds([pid]) for pid in tasks.all_pids()}
        return cls(time.time(), last_step(run), last_attempt(run), len(read_history(run)), cpu)

    def cpu_of(self, pids: Sequence[int]) -> float:
        return sum(self.cpu.get(pid, 0.0) for pid in pids)


def parts(run: Path, before: Moment, restarted: float | None) -> dict[str, float]:
    """The seconds from the failure to the next new step, by part."""
    start = next(
        each
        for each in read_json(run / RECORD_FILE)["starts"]
        if each["attempt"] > before.attempt
    )
    spent: dict[str, float] = start["startup_seconds"]
    began = float(start["time"]) - sum(spent.values())
    decided = [float(line["time"]) for line in read_history(run)[before.decisions :]]
    noticed = decided[0] if decided else restarted or before.time
    lines = [
        line for line in read_log_lines(run / METRICS_FILE) if line["attempt"] > before.attempt
    ]
    new = next(line for line in lines if line["step"] > before.step)
    return {
        DETECT: noticed - before.time,
        PROCESSES: began - noticed,
        **{part: spent[part] for part in PARTS},
        FIRST_STEP: float(lines[0]["time"]) - float(start["time"]),
        AGAIN: float(new["time"]) - float(lines[0]["time"]),
    }


def last_step(run: Path) -> int:
    line = last_metrics(run)
    return int(line["step"]) if line else -1


def last_attempt(run: Path) -> int:
    line = last_metrics(run)
    return int(line["attempt"]) if line else 0
