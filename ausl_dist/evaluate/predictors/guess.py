"""The baseline that guesses: what a score is worth when nothing is known but the training
labels.

    occurrence ──▶ a fair coin per frame and action unit          intensity
        ──▶ a draw from the training labels of the action unit

Beside the constant (`probe.fit_constant`) it shows what base rates alone are worth: F1 of a
coin is r / (r + 1/2) for a rate r.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import Decided, Looked
from ausl_dist.evaluate.predictors.base import Task
from ausl_dist.randomness import random_stream

LEVELS = 6  # intensities 0 to 5


@dataclass(frozen=True)
class Guess:
    """A predictor that looks at no image; equal frames get equal guesses."""

    task: Task
    action_units: tuple[int, ...]
    threshold: NDArray[np.float64]  # K, always 0.5
    frequency: NDArray[np.float64] = field(repr=False)  # LEVELS K, of the training intensities
    decided: Decided = field(repr=False)
    seed: int = 0

    def predict(self, table: FeatureTable) -> NDArray[np.float32]:
        """Intensity in 0-5, or probability, [N, K]."""
        drawn = random_stream("guess", self.seed).random((len(table), len(self.action_units)))
        if self.task == "intensity":
            drawn = (drawn[:, None] >= self.frequency.cumsum(0)[None, :-1]).sum(1)
        return drawn.astype(np.float32)


def fit_guess(table: FeatureTable, task: Task, seed: int = 0) -> Guess:
    """The guess for a training table; a unit without labels is guessed 0."""
    counts = np.stack([(table.labels == level).sum(0) for level in range(LEVELS)]).astype(
        np.float64
    )
    counts[0] += counts.sum(0) == 0
    decided = Decided(
        Looked.at(table),
        {
            "task": task,
            "guess": "a fair coin" if task == "occurrence" else "training frequencies",
        },
    )
    return Guess(
        task,
        table.action_units,
        np.full(len(table.action_units), 0.5),
        counts / counts.sum(0),
        decided,
        seed,
    )
