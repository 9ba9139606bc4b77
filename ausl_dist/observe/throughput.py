"""Rates over the last steps that one long step (a save, a compilation, a stalled read) does not
bend.

    in: the length, clips and seconds by phase of each step       out: clips/s, frames/s, shares
    of time

Rates are taken from the median step; shares from sums, because there the long steps are the
point.
"""

from collections import deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple


class TimedStep(NamedTuple):
    """What the window keeps of a step."""

    clips: int
    frames: int
    seconds: Mapping[str, float]
    waited: float  # seconds in collectives, for the other ranks
    blocked: Mapping[str, float]  # by stage, cumulative


class StepWindow:
    """The last `size` steps of one rank.

    Adding costs under a microsecond; everything else is computed when asked for.
    """

    def __init__(self, size: int) -> None:
        self._steps: deque[TimedStep] = deque(maxlen=size)

    def add(self, step: TimedStep) -> None:
        self._steps.append(step)

    @property
    def step_seconds(self) -> float:
        """Length of the median step; 0 before the first."""
        return self._median(lambda step: step.seconds.get("total", 0.0))

    @property
    def own_seconds(self) -> float:
        """Median of what a step costs this rank when waiting for the others is left out: what
        tells a slow rank from those it holds up.
        """
        return self._median(lambda step: max(step.seconds.get("total", 0.0) - step.waited, 0.0))

    @property
    def clips_per_second(self) -> float:
        return self._rate(lambda step: step.clips)

    @property
    def frames_per_second(self) -> float:
        return self._rate(lambda step: step.frames)

    def share(self, phase: str) -> float:
        """Share of the window's time that went into one phase, 0 to 1."""
        steps = self._snapshot()
        total = sum(step.seconds.get("total", 0.0) for step in steps)
        return sum(step.seconds.get(phase, 0.0) for step in steps) / total if total > 0 else 0.0

    @property
    def blocked(self) -> dict[str, float]:
        """Seconds that each data stage kept the next one waiting during the window, in the
        order of the stages.
        """
        steps = self._snapshot()
        first, last = (steps[0].blocked, steps[-1].blocked) if steps else ({}, {})
        return {stage: seconds - first.get(stage, 0.0) for stage, seconds in last.items()}

    def _snapshot(self) -> list[TimedStep]:
        return list(self._steps)  # one step of the interpreter: another thread may be adding

    def _median(self, value: Callable[[TimedStep], float]) -> float:
        steps = self._snapshot()
        return float(median(value(step) for step in steps)) if steps else 0.0

    def _rate(self, amount: Callable[[TimedStep], float]) -> float:
        seconds = self.step_seconds
        return self._median(amount) / seconds if seconds > 0 else 0.0


def culprit(blocked: Mapping[str, float]) -> str | None:
    """The stage that a wait for data comes from: the first, in the order of the stages, to
    block for half as long as the last one.

    A stage that waits makes all later ones wait, so that the first is to blame; None where
    nothing is blocked.
    """
    if not blocked or not any(blocked.values()):
        return None
    last = list(blocked.values())[-1]
    return next(
        stage for stage, seconds in blocked.items() if seconds > 0 and seconds >= 0.5 * last
    )
