"""Training of networks for the probes and fine-tuning alike: epochs are counted on held-out
training subjects, never on the test.

    training table ──▶ some subjects held out ──▶ the best epoch and thresholds there
        ──▶ trained again on everybody, for so many epochs

What is trained, and what it reads for a row (features, or pictures), are functions of the
caller.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ausl_dist.evaluate.features.entrant import fastest_device
from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import Decided, Looked, inner_folds
from ausl_dist.evaluate.predictors.base import MAX_INTENSITY, Task
from ausl_dist.evaluate.scores.formulas import (
    DetectionCounts,
    RegressionSums,
    best_thresholds,
    mean_over_units,
)
from ausl_dist.model.joint import random_state_kept
from ausl_dist.randomness import random_stream

Rows = NDArray[np.int64]
# row numbers B T, whether for training -> what the model reads, B T ...
Inputs = Callable[[Tensor, bool], Tensor]


@dataclass(frozen=True)
class TrainingSchedule:
    """The frame of a training; the model reads `window` adjacent frames together, or single
    frames in any order.
    """

    window: int
    batch_frames: int
    max_epochs: int
    folds: int
    seed: int


@dataclass(frozen=True)
class Trainee:
    """A model from B T inputs to raw outputs B T K, and what changes it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None


Build = Callable[[int], Trainee]  # from the number of steps of all `max_epochs`


@dataclass(frozen=True)
class Trained:
    """The last model, and the decisions that led to it."""

    model: nn.Module
    epochs: int
    threshold: NDArray[np.float64]  # K

    def decided(self, table: FeatureTable, task: Task, kind: str) -> Decided:
        """What was decided on the training table, for the record."""
        decisions = {
            "task": task,
            "kind": kind,
            "epochs": self.epochs,
            "threshold": self.threshold.tolist(),
        }
        return Decided(Looked.at(table), decisions)


def train(
    table: FeatureTable, task: Task, course: TrainingSchedule, build: Build, inputs: Inputs
) -> Trained:
    """Count epochs, then train on the whole table; rows without a label are read by a model
    over time, and cost nothing.
    """
    held_out = inner_folds(table, course.folds, course.seed) == 0
    best, epochs, threshold = -np.inf, 1, np.full(len(table.action_units), 0.5)
    rest = np.flatnonzero(held_out)
    labels = table.labels[rest]
    for epoch, model in enumerate(
        _epochs(table, np.flatnonzero(~held_out), task, course, build, inputs), 1
    ):
        values = predict(model, table, rest, task, course, inputs)
        score = (
            RegressionSums.of(values, labels).icc()
            if task == "intensity"
            else DetectionCounts.of(values >= 0.5, labels).f1()
        )
        if (mean := mean_over_units(score)) > best:
            best, epochs = mean, epoch
            threshold = best_thresholds(values, labels) if task == "occurrence" else threshold
    for epoch, model in enumerate(
        _epochs(table, np.arange(len(table)), task, course, build, inputs), 1
    ):
        if epoch == epochs:
            return Trained(model.eval(), epochs, threshold)
    raise AssertionError("fewer epochs than were counted")


@torch.no_grad()
def predict(
    model: nn.Module,
    table: FeatureTable,
    rows: Rows,
    task: Task,
    course: TrainingSchedule,
    inputs: Inputs,
) -> NDArray[np.float32]:
    """Intensity clipped to 0-5, or probability, [len(rows), K], in the order of `rows`."""
    model.eval()
    values = np.zeros((len(table), len(table.action_units)), np.float32)
    for window in (
        _evenly(rows, course.batch_frames)
        if course.window == 1
        else windows_of(table, rows, course.window)
    ):
        raw = model(inputs(torch.from_numpy(window)[None], False))[0].float()
        out = (
            (raw * MAX_INTENSITY).clamp(0, MAX_INTENSITY)
            if task == "intensity"
            else torch.sigmoid(raw)
        )
        values[window] = out.cpu().numpy()
    return values[rows]


def windows_of(table: FeatureTable, rows: Rows, length: int) -> list[Rows]:
    """The rows as windows: frames of one clip in order, at most `length` of them."""
    order = rows[np.lexsort((table.frame[rows], table.clip[rows]))]
    ends = np.flatnonzero(np.diff(table.clip[order])) + 1
    return [
        part[start : start + length]
        for part in np.split(order, ends)
        for start in range(0, len(part), length)
    ]


def masked_loss(raw: Tensor, target: Tensor, task: Task) -> Tensor:
    """Mean over known labels B T K: squared error of intensities in 0-1, or log loss."""
    known = target >= 0
    if task == "intensity":
        each = (raw - target.float() / MAX_INTENSITY) ** 2
    else:
        each = nn.functional.binary_cross_entropy_with_logits(
            raw, (target == 1).float(), reduction="none"
        )
    return (each * known).sum() / known.sum().clamp(min=1)


def _epochs(
    table: FeatureTable,
    rows: Rows,
    task: Task,
    course: TrainingSchedule,
    build: Build,
    inputs: Inputs,
) -> Iterator[nn.Module]:
    """Yield the model after each epoch."""
    labels = torch.from_numpy(table.labels)
    steps = sum(1 for _ in _batches(table, rows, course, 0))
    with random_state_kept(fastest_device()):
        torch.manual_seed(course.seed)
        trainee = build(max(1, steps) * course.max_epochs)
        for epoch in range(course.max_epochs):
            trainee.model.train()
            for batch, real in _batches(table, rows, course, epoch):
                raw = trainee.model(inputs(batch, True)).float()
                target = torch.where(real[..., None], labels[batch], -1).to(raw.device)
                trainee.optimizer.zero_grad()
                masked_loss(raw, target, task).backward()
                trainee.optimizer.step()
                if trainee.schedule is not None:
                    trainee.schedule.step()
            yield trainee.model


def _batches(
    table: FeatureTable, rows: Rows, course: TrainingSchedule, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers B T and which of them are real; what has no label is passed over."""
    random = random_stream("epoch", course.seed, epoch)
    if course.window == 1:
        for part in _evenly(
            random.permutation(rows[(table.labels[rows] >= 0).any(1)]), course.batch_frames
        ):
            batch = torch.from_numpy(part)[:, None]
            yield batch, torch.ones_like(batch, dtype=torch.bool)
        return
    windows = [
        window
        for window in windows_of(table, rows, course.window)
        if (table.labels[window] >= 0).any()
    ]
    per_batch = max(1, course.batch_frames // course.window)
    shuffled = random.permutation(len(windows))
    for start in range(0, len(shuffled), per_batch):
        yield _stack([windows[index] for index in shuffled[start : start + per_batch]])


def _evenly(rows: Rows, most: int) -> list[Rows]:
    """Parts of nearly equal length: a last one of a single frame would have no batch
    statistics.
    """
    return [part for part in np.array_split(rows, max(1, -(-len(rows) // most))) if len(part)]


def _stack(windows: list[Rows]) -> tuple[Tensor, Tensor]:
    """Row numbers B T, short windows filled with their last row, and which of them are real."""
    length = max(map(len, windows))
    rows = np.stack(
        [np.pad(window, (0, length - len(window)), mode="edge") for window in windows]
    )
    real = np.stack([np.arange(length) < len(window) for window in windows])
    return torch.from_numpy(rows), torch.from_numpy(real)
