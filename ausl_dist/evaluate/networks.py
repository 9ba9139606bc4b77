"""Small networks on frozen features: an MLP per frame, and a recurrent model over time whose loss is on labelled frames only.

    training table ──▶ windows of adjacent frames ──▶ epochs counted on held-out training subjects ──▶ trained again on all ──▶ NetworkProbe

The model over time is the second stage of Sanchez et al. (ACCV 2020): a spatio-temporal encoder reads all frames, labelled or not, and
the loss is taken where a label is, with as little as 2 % of the frames labelled (`keep_labels`). Unlike there, the features below it stay
frozen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ausl_dist.evaluate.features import FeatureTable
from ausl_dist.evaluate.predictor import MAX_INTENSITY, Task
from ausl_dist.evaluate.scores import DetectionCounts, RegressionSums, best_thresholds, mean_over_units
from ausl_dist.evaluate.sealed import Decided, Looked, inner_folds
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
        if min(self.hidden, self.window, self.max_epochs, self.batch_frames) < 1 or self.folds < 2:
            raise ValueError("hidden, window, max_epochs and batch_frames must be at least 1, folds at least 2")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")


class _Network(nn.Module):
    """Standardised features B T D to raw outputs B T K."""

    def __init__(self, dim: int, units: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(dim, settings.hidden), nn.GELU(), nn.Dropout(settings.dropout))
        recurrent = settings.kind == "temporal"
        self.over_time = nn.GRU(settings.hidden, settings.hidden // 2, batch_first=True, bidirectional=True) if recurrent else None
        self.out = nn.Linear(settings.hidden // 2 * 2 if recurrent else settings.hidden, units)

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
        return _predict(self.network, (table.features - self.mean) / self.scale, windows_of(table, self.settings), self.task)


def fit_network(table: FeatureTable, task: Task, settings: NetworkSettings) -> NetworkProbe:
    """Train on a training table; rows without a label are read by the model over time, and cost nothing."""
    mean, scale = table.features.mean(0), np.maximum(table.features.std(0), 1e-6)
    standard = replace(table, features=(table.features - mean) / scale)
    held_out = inner_folds(table, settings.folds, settings.seed) == 0
    epochs, threshold = _count_epochs(standard.take(~held_out), standard.take(held_out), task, settings)
    network = None
    for network in _train(standard, task, settings, epochs):  # noqa: B007 - the last one is wanted
        pass
    assert network is not None
    decided = Decided(Looked.at(table), {"task": task, "kind": settings.kind, "epochs": epochs, "threshold": threshold.tolist()})
    return NetworkProbe(task, table.action_units, threshold, decided, network.eval(), mean, scale, settings)


def keep_labels(table: FeatureTable, share: float, seed: int) -> FeatureTable:
    """The table with all but a share of its labelled frames made unlabelled: drawn uniformly without replacement, at least one kept."""
    if not 0 < share <= 1:
        raise ValueError(f"the share of labels must lie in (0, 1], not {share}")
    labelled = np.flatnonzero((table.labels >= 0).any(1))
    kept = random_stream("labels", seed).choice(labelled, max(1, round(share * len(labelled))), replace=False)
    labels = np.full_like(table.labels, -1)
    labels[kept] = table.labels[kept]
    return replace(table, labels=labels)


def windows_of(table: FeatureTable, settings: NetworkSettings) -> list[NDArray[np.int64]]:
    """Rows of each window: frames of one clip in order, at most `window` of them; for the MLP any rows will do."""
    order = np.lexsort((table.frame, table.clip))
    ends = np.flatnonzero(np.diff(table.clip[order])) + 1
    return [part[start : start + settings.window] for part in np.split(order, ends) for start in range(0, len(part), settings.window)]


def _count_epochs(
    train: FeatureTable, held_out: FeatureTable, task: Task, settings: NetworkSettings
) -> tuple[int, NDArray[np.float64]]:
    """The number of epochs with the best score on held-out training subjects, and the thresholds there."""
    best, epochs, threshold = -np.inf, 1, np.full(len(train.action_units), 0.5)
    windows = windows_of(held_out, settings)
    for epoch, network in enumerate(_train(train, task, settings, settings.max_epochs), 1):
        values = _predict(network, held_out.features, windows, task)
        intensity, labels = task == "intensity", held_out.labels
        score = RegressionSums.of(values, labels).icc() if intensity else DetectionCounts.of(values >= 0.5, labels).f1()
        if (mean := mean_over_units(score)) > best:
            best, epochs = mean, epoch
            if task == "occurrence":
                threshold = best_thresholds(values, held_out.labels)
    return epochs, threshold


def _train(table: FeatureTable, task: Task, settings: NetworkSettings, epochs: int) -> Iterator[_Network]:
    """Yield the network after each epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = _Network(table.features.shape[1], len(table.action_units), settings)
        optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        windows = [rows for rows in windows_of(table, settings) if (table.labels[rows] >= 0).any()]
        per_batch = max(1, settings.batch_frames // settings.window)
        features, labels = torch.from_numpy(table.features), torch.from_numpy(table.labels)
        for epoch in range(epochs):
            network.train()
            order = random_stream("epoch", settings.seed, epoch).permutation(len(windows))
            for start in range(0, len(order), per_batch):
                rows, real = _stack([windows[index] for index in order[start : start + per_batch]])
                target = torch.where(real[..., None], labels[rows], -1)
                optimizer.zero_grad()
                _loss(network(features[rows]), target, task).backward()
                optimizer.step()
            yield network


def _loss(raw: Tensor, target: Tensor, task: Task) -> Tensor:
    """Mean over known labels B T K: squared error of intensities in 0-1, or log loss."""
    known = target >= 0
    if task == "intensity":
        each = (raw - target.float() / MAX_INTENSITY) ** 2
    else:
        each = nn.functional.binary_cross_entropy_with_logits(raw, (target == 1).float(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


@torch.no_grad()
def _predict(network: nn.Module, features: NDArray[np.float32], windows: list[NDArray[np.int64]], task: Task) -> NDArray[np.float32]:
    network.eval()
    values: NDArray[np.float32] | None = None
    for rows in windows:
        raw = network(torch.from_numpy(features[rows])[None])[0]
        out = (raw * MAX_INTENSITY).clamp(0, MAX_INTENSITY) if task == "intensity" else torch.sigmoid(raw)
        if values is None:
            values = np.zeros((len(features), out.shape[1]), np.float32)
        values[rows] = out.numpy()
    assert values is not None
    return values


def _stack(windows: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Row numbers B T, short windows filled with their last row, and which of them are real."""
    length = max(map(len, windows))
    rows = np.stack([np.pad(window, (0, length - len(window)), mode="edge") for window in windows])
    real = np.stack([np.arange(length) < len(window) for window in windows])
    return torch.from_numpy(rows), torch.from_numpy(real)
