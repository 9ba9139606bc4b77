"""When to kill: moments of a run that can be seen in its folder from outside.

start    while processes, ranks, model, checkpoint and data come up
step     anywhere in a step
save     while a checkpoint is written, or has just been
end      after the last step: in the last save, or on the way out
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

from ausl_dist.json_lines import read_log_lines
from ausl_dist.run_folder import CHECKPOINTS_FOLDER, METRICS_FILE
from ausl_dist.train import fence
from tools.kills.start import POLL_SECONDS, Start

MOMENTS = ("start", "step", "save", "end")
WAIT_SECONDS = 1200.0  # on a machine with much other work


class Moments:
    """The moments of one attempt at a run, counted from when this is made."""

    def __init__(self, run: Path, start: Start, steps: int, chance: random.Random) -> None:
        self._run, self._start, self._steps, self._chance = run, start, steps, chance
        self._before = len(logged_steps(run))
        self._attempts = fence.newest(run)

    def reached(self, moment: str) -> bool:
        """Wait for the moment, and a little more; False where the job has ended before."""
        is_there, spread_seconds = self._condition(moment)
        deadline = time.monotonic() + WAIT_SECONDS
        while self._start.running and not is_there():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._run} did not reach the moment `{moment}`")
            time.sleep(POLL_SECONDS)
        time.sleep(self._chance.uniform(0, spread_seconds))
        return self._start.running

    def _condition(self, moment: str) -> tuple[Callable[[], bool], float]:
        """What must be so, and how many seconds afterwards the kill may fall at the latest."""
        if moment == "start":
            return self._chance.choice(
                [
                    (lambda: True, 1.0),
                    (lambda: bool(self._start.ranks()), 2.0),
                    (lambda: fence.newest(self._run) > self._attempts, 2.0),
                ]
            )
        if moment == "step":
            left = self._steps - 1 - (logged_steps(self._run) or [-1])[-1]
            after = self._chance.randint(1, max(1, left - 1))
            return lambda: len(self._new_steps()) >= after, 0.2
        if moment == "save":
            return self._saves, 0.1
        return lambda: self._steps - 1 in self._new_steps(), 1.0

    def _new_steps(self) -> list[int]:
        return logged_steps(self._run)[self._before :]

    def _saves(self) -> bool:
        staging = any((self._run / CHECKPOINTS_FOLDER).glob(".staging-*"))
        return staging and bool(self._new_steps())


def logged_steps(run: Path) -> list[int]:
    """The steps that were done, in the order in which they were, some of them twice."""
    return [line["step"] for line in read_log_lines(run / METRICS_FILE)]
