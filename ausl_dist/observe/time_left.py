"""The time that a run still takes, said so that it only falls.

    length of each step ──▶ mean pace x steps left ──▶ what was said before, or less

An estimate wavers with every save and stall; one that rises again is believed by nobody. What is
said therefore stays where the estimate is above it, and rises only when the pace has really
changed: when the median step is another one than before.
"""

from ausl_dist.observe.throughput import StepWindow

HORIZON_STEPS = 1000  # the mean forgets what lies further back
CHANGED = 1.25  # by this factor the median step differs where the pace is another one
STALL = 10.0  # a step of more than so many median steps says nothing about the others
LOOK_STEPS = 16  # between two looks at the median


class TimeLeft:
    """The time left of one rank's run; `window` holds its last steps."""

    def __init__(self, window: StepWindow) -> None:
        self._window = window
        self._steps = self._steps_left = 0
        self._mean = self._median = 0.0
        self.seconds: float | None = None  # None before the first step

    def add(self, step_seconds: float, steps_left: int) -> None:
        """Take in a step; it is in the window already."""
        self._steps += 1
        if self._steps <= 2:
            self._mean = step_seconds  # the first one warms up, and is forgotten
        else:
            usual = min(step_seconds, STALL * (self._median or step_seconds))
            self._mean += (usual - self._mean) / min(self._steps - 1, HORIZON_STEPS)
        went_back = steps_left > self._steps_left  # to an older checkpoint
        changed = self._steps == 2 or self._pace_changed() or went_back
        self._steps_left = steps_left
        estimate = self._mean * steps_left
        if self.seconds is None or changed or estimate < self.seconds:
            self.seconds = estimate

    def _pace_changed(self) -> bool:
        if self._steps % LOOK_STEPS:
            return False
        before, now = self._median, self._window.step_seconds
        if before and max(now, before) < CHANGED * min(now, before):
            return False
        self._median = now
        if before:
            self._mean, self._steps = now, LOOK_STEPS
        return bool(before)
