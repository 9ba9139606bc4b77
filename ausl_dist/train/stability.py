"""When training has gone wrong although no step of it was touched by a bad number: which steps
did it, and how to do without them.

    loss and verdict of each step ──▶ Stability.judge ──▶ Trouble(first, last, reason), or None
    Trouble ──▶ Rewind in record.json ──▶ back to the newest checkpoint at a step <= first; steps first
    ... last are left out for good

A loss is a spike when it lies above the median of a window of good losses by many robust
standard deviations (1.4826 times the median absolute deviation, which equals the standard
deviation of a normal distribution; Huber, Robust Statistics, 1981). Several spikes in a row, or
several steps in a row with a bad number, are trouble. All of it is a function of numbers that
are equal on all ranks and, being stored in each checkpoint, equal after a resume.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from ausl_dist.train.settings import RewindSettings

TO_STANDARD_DEVIATION = 1.4826
# of the median: losses that hardly differ must not make a spike of a little noise
MIN_RELATIVE_DEVIATION = 1e-3


class DivergedError(RuntimeError):
    """Training has gone wrong, and going back would not help."""


@dataclass(frozen=True)
class Trouble:
    """The steps that spoilt training, first and last, and what was seen of it."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True)
class Rewind:
    """One time that a run went back: `first` to `last` are left out since."""

    first: int
    last: int
    reason: str
    to_step: int
    attempt: int

    def abandons(self, checkpoint_step: int) -> bool:
        """Whether a checkpoint after so many steps holds steps that were abandoned."""
        return self.first < checkpoint_step <= self.last


def is_left_out(step: int, rewinds: Iterable[Rewind]) -> bool:
    return any(rewind.first <= step <= rewind.last for rewind in rewinds)


class Stability:
    """Judges the steps of a run one after the other; `state` gives what it needs to go on after
    a resume.
    """

    def __init__(
        self,
        settings: RewindSettings,
        max_bad_steps: int,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        state = state or {"losses": [], "bad": [], "spikes": []}
        self._settings = settings
        self._max_bad_steps = max_bad_steps
        self._losses: deque[float] = deque(state["losses"], maxlen=settings.window_steps)
        # the steps in a row up to now that had a bad number
        self._bad: list[int] = list(state["bad"])
        self._spikes: list[int] = list(state["spikes"])

    @property
    def suspicious(self) -> bool:
        """Whether the last step was bad or a spike: what is saved now may have to be abandoned."""
        return bool(self._bad or self._spikes)

    def judge(
        self, step: int, loss: float, bad: str | None, *, spikes_count: bool = True
    ) -> Trouble | None:
        """Take in a step; `bad` says why it was left out, if it was.

        Without `spikes_count` any finite loss is as good as another.
        """
        if bad is not None:
            self._bad.append(step)
            if len(self._bad) < self._max_bad_steps:
                return None
            return Trouble(
                self._bad[0], step, f"{len(self._bad)} steps in a row were left out ({bad})"
            )
        self._bad = []
        if not spikes_count or not self._is_spike(loss):
            self._spikes = []
            self._losses.append(loss)
            return None
        self._spikes.append(step)
        if len(self._spikes) < self._settings.spike_steps:
            return None
        return Trouble(
            self._spikes[0],
            step,
            f"the loss rose to {loss:.4g} from {median(self._losses):.4g} for {len(self._spikes)} "
            "steps",
        )

    def state(self) -> dict[str, Any]:
        """As JSON, which gives back every float as it was."""
        return {"losses": list(self._losses), "bad": self._bad, "spikes": self._spikes}

    def _is_spike(self, loss: float) -> bool:
        if len(self._losses) < self._settings.window_steps:
            return False
        middle = median(self._losses)
        deviation = TO_STANDARD_DEVIATION * median(
            abs(other - middle) for other in self._losses
        )
        return loss > middle + self._settings.spike_deviations * max(
            deviation, MIN_RELATIVE_DEVIATION * abs(middle)
        )
