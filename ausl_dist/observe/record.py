"""What the training loop hands over after each step: plain numbers, already on the host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MISSING = "missing_"  # what the names of the loader's counts of unusable clips begin with
RETRIES = "retries_"  # and those of repeated reads, by reason


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of one rank.

    `seconds` splits the step by what the loop was doing (data, forward, backward, reduce,
    optimizer, teacher, save); its length is `total`. `logs` are named `OBJECTIVE/what`; the
    names that have a metric of their own are in `metrics.py`, any other is exported as a logged
    value. Numbers that are not finite are welcome: they are what one looks for.
    """

    step: int  # the global batch just trained on, counted from 0: `Batch.step`
    clips: int  # of this rank
    frames: int  # of this rank
    loss: float
    logs: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    skipped: bool = False  # the optimizer left this batch out, because something was not finite
    # seconds by stage, cumulative: `Loader.blocked_seconds`
    loader_blocked: Mapping[str, float] = field(default_factory=dict)
    loader_counts: Mapping[str, int] = field(
        default_factory=dict
    )  # cumulative: `Loader.counts`
    # steps in each queue at the end of the step: `Loader.queues`
    loader_queues: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        """The loader's counts, those by reason gathered: missing_decode=3 becomes
        corrupt={"decode": 3}, retries_* retried.
        """
        counts: dict[str, Any] = {"corrupt": {}, "retried": {}}
        for name, count in self.loader_counts.items():
            if name.startswith(MISSING):
                counts["corrupt"][name.removeprefix(MISSING)] = count
            elif name.startswith(RETRIES):
                counts["retried"][name.removeprefix(RETRIES)] = count
            else:
                counts[name] = count
        return counts
