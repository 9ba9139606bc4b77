"""Small networks on frozen features: an MLP per frame, and a recurrent model over time whose
loss is on labelled frames only.

    training table ──▶ epochs counted on held-out training subjects, trained again on all
        ──▶ NetworkProbe (training.py)

The model over time is the second stage of Sanchez et al. (ACCV 2020): a spatio-temporal encoder
reads all frames, labelled or not, and the loss is taken where a label is, with as little as 2 %
of the frames labelled (`keep_labels`). Here the features below it stay frozen; `finetune.py`
trains them too.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import Decided
from ausl_dist.evaluate.predictors.base import Task
from ausl_dist.evaluate.predictors.training import (
    Inputs,
    Trainee,
    TrainingSchedule,
    predict,
    train,
)
from ausl_dist.randomness import random_stream


@dataclass(frozen=True)
class NetworkSettings:
    """A network and its training."""

    kind: Literal["mlp", "temporal"] = "mlp"
    hidden: int = 256
    dropout: float = 0.2
    window: int = 64  # adjacent frames that the model over time reads together
    max_epochs: int = 30
    batch_frames: int = 2048
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    folds: int = 3  # one of them, of the training subjects, is held out to count epochs
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            min(self.hidden, self.window, self.max_epochs, self.batch_frames) < 1
            or self.folds < 2
        ):
            raise ValueError(
                "hidden, window, max_epochs and batch_frames must be at least 1, folds at least 2"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")

    @property
    def course(self) -> TrainingSchedule:
        window = self.window if self.kind == "temporal" else 1
        return TrainingSchedule(
            window, self.batch_frames, self.max_epochs, self.folds, self.seed
        )


class Network(nn.Module):
    """Features B T D to raw outputs B T K: an MLP, with a recurrent layer over time where
    `recurrent`.
    """

    def __init__(
        self, dim: int, units: int, *, hidden: int, dropout: float, recurrent: bool
    ) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout))
        self.over_time = (
            nn.GRU(hidden, hidden // 2, batch_first=True, bidirectional=True)
            if recurrent
            else None
        )
        self.out = nn.Linear(hidden // 2 * 2 if recurrent else hidden, units)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.hidden(features)
        if self.over_time is not None:
            hidden, _ = self.over_time(hidden)
        out: Tensor = self.out(hidden)
        return out


@dataclass(frozen=True)
class NetworkProbe:
    """A trained network, all decisions made."""

    task: Task
    action_units: tuple[int, ...]
    threshold: NDArray[np.float64]
    decided: Decided = field(repr=False)
    network: nn.Module = field(repr=False)
    mean: NDArray[np.float32] = field(repr=False)
    scale: NDArray[np.float32] = field(repr=False)
    settings: NetworkSettings = field(default_factory=NetworkSettings)

    def predict(self, table: FeatureTable) -> NDArray[np.float32]:
        """Intensity clipped to 0-5, or probability, [N, K]."""
        inputs = _standardised(table, self.mean, self.scale)
        return predict(
            self.network, table, np.arange(len(table)), self.task, self.settings.course, inputs
        )


def fit_network(table: FeatureTable, task: Task, settings: NetworkSettings) -> NetworkProbe:
    """Train on a training table; rows without a label are read by the model over time, and cost
    nothing.
    """
    mean, scale = table.features.mean(0), np.maximum(table.features.std(0), 1e-6)

    def build(steps: int) -> Trainee:
        dim, units = table.features.shape[1], len(table.action_units)
        network = Network(
            dim,
            units,
            hidden=settings.hidden,
            dropout=settings.dropout,
            recurrent=settings.kind == "temporal",
        )
        return Trainee(
            network,
            torch.optim.AdamW(
                network.parameters(),
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
            ),
        )

    trained = train(table, task, settings.course, build, _standardised(table, mean, scale))
    return NetworkProbe(
        task,
        table.action_units,
        trained.threshold,
        trained.decided(table, task, settings.kind),
        trained.model,
        mean,
        scale,
        settings,
    )


def _standardised(
    table: FeatureTable, mean: NDArray[np.float32], scale: NDArray[np.float32]
) -> Inputs:
    features = torch.from_numpy(((table.features - mean) / scale).astype(np.float32))
    return lambda rows, training: features[rows]


def keep_labels(table: FeatureTable, share: float, seed: int) -> FeatureTable:
    """The table with all but a share of its labelled frames made unlabelled: drawn uniformly
    without replacement, at least one kept.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of labels must lie in (0, 1], not {share}")
    labelled = np.flatnonzero((table.labels >= 0).any(1))
    kept = random_stream("labels", seed).choice(
        labelled, max(1, round(share * len(labelled))), replace=False
    )
    labels = np.full_like(table.labels, -1)
    labels[kept] = table.labels[kept]
    return replace(table, labels=labels)
