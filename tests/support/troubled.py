"""An objective that gets into trouble when told to: what the fault tests put into a real run.

It reads one word from a control file before each step: `slow` (rank 1 takes its time), `nan`,
`collapse`; anything else is no trouble.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch

from ausl_dist.objectives.base import BatchView, Loss, rank
from ausl_dist.objectives.temporal_ranking import TemporalRanking

SLOW_SECONDS = 0.5


class Troubled(TemporalRanking):
    """Temporal ranking, with a word for trouble in the file `control`."""

    def __init__(self, *, control: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.control = Path(control)

    def forward(self, seen: BatchView) -> Loss:
        trouble = self.control.read_text().strip() if self.control.exists() else ""
        if trouble == "slow" and rank() == 1:
            time.sleep(SLOW_SECONDS)
        loss = super().forward(seen)
        if trouble == "nan":
            return dataclasses.replace(loss, value=loss.value * math.nan)
        if trouble == "collapse":
            assert loss.embedding is not None
            return dataclasses.replace(loss, embedding=torch.ones_like(loss.embedding))
        return loss
