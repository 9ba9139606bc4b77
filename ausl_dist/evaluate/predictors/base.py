"""What every probe, constant and network is to the rest of the room: something that predicts,
with all its decisions made.
"""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import Decided

Task = Literal["intensity", "occurrence"]
MAX_INTENSITY = 5.0


class Predictor(Protocol):
    """Predicts action units from a table; `decided` says what its decisions were made from."""

    @property
    def task(self) -> Task: ...
    @property
    def action_units(self) -> tuple[int, ...]: ...
    @property
    def threshold(self) -> NDArray[np.float64]: ...  # K, on probabilities
    @property
    def decided(self) -> Decided: ...

    def predict(self, table: FeatureTable) -> NDArray[np.float32]:
        """Intensity in 0-5, or probability, [N, K]."""
        ...
