"""The job of the goodput bench: a supervisor for each rank, as Slurm would start them, and what
can befall it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ausl_dist.run_folder import LOGS_FOLDER
from launch.attempts import read_history
from launch.child import die_with_parent
from tools.kills.start import children as started_by

ROOT = Path(__file__).parents[2]
RANKS = 2
KINDS = ("rank", "hang", "node", "preemption")
WAIT_SECONDS = 600.0
POLL_SECONDS = 0.02


class Tasks:
    """The supervisors of one start of a job, one for each rank, and all that they start."""

    def __init__(self, run: Path, restart: int, standby_seconds: float | None) -> None:
        words = [
            str(run),
            str(restart),
            "none" if standby_seconds is None else str(standby_seconds),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(run / LOGS_FOLDER / "tasks.log", "ab") as log:
            self.processes = [
                subprocess.Popen(
                    [sys.executable, "-m", "tools.bench_goodput", "--task", str(rank), *words],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    preexec_fn=die_with_parent,
                )
                for rank in range(RANKS)
            ]

    def __enter__(self) -> "Tasks":
        return self

    def __exit__(self, *error: object) -> None:
        """End all of it, as the end of a job does."""
        for process in self.processes:
            process.kill()  # the kernel ends what it has started
        for process in self.processes:
            process.wait()

    @property
    def running(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    def rank(self, number: int) -> int:
        """The process that trains as this rank; one that stands by is younger."""
        return children(self.processes[number].pid)[0]

    def all_pids(self) -> list[int]:
        pids = [process.pid for process in self.processes]
        return [*pids, *(child for pid in pids for child in children(pid))]


def strike(kind: str, tasks: Tasks, run: Path) -> bool:
    """Make a failure; True where the whole job is to be started anew."""
    if kind in ("rank", "hang"):
        os.kill(tasks.rank(1), signal.SIGKILL if kind == "rank" else signal.SIGSTOP)
        return False
    if kind == "preemption":
        decided = len(read_history(run))
        for process in tasks.processes:
            process.send_signal(signal.SIGUSR2)
        wait_until(run, tasks, lambda: len(read_history(run)) > decided)
    return True


def until_a_spare_stands_by(tasks: Tasks) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while any(len(children(process.pid)) < 2 for process in tasks.processes):
        if time.monotonic() > deadline:
            raise TimeoutError("no spare process was started")
        time.sleep(POLL_SECONDS)
    spares = [children(process.pid)[-1] for process in tasks.processes]
    used, quiet_since = cpu_seconds(spares), time.monotonic()
    while time.monotonic() - quiet_since < 1.0:  # they have loaded when they compute no more
        time.sleep(0.2)
        now = cpu_seconds(spares)
        if now > used:
            used, quiet_since = now, time.monotonic()


def wait_until(run: Path, tasks: Tasks, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not until():
        ended = not tasks.running
        if (ended and not until()) or time.monotonic() > deadline:
            log = (run / LOGS_FOLDER / "tasks.log").read_text(errors="replace")
            raise RuntimeError(f"the run does not go on as it should:\n{log[-3000:]}")
        time.sleep(POLL_SECONDS)


def children(pid: int) -> list[int]:
    """The processes that another one has started, the oldest first."""
    return sorted(started_by(pid), key=_started)


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of processes; of one that is gone, none."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        ticks += int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _started(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
