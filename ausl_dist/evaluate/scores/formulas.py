"""Scores of action units, accumulated from sums where the formula allows it.

    predictions, labels [N, K], labels < 0 unknown
        ──▶ RegressionSums / DetectionCounts  (add up over batches, ranks, subjects)
                                                          │
                                                          ▼
                                              ICC MAE MSE PCC / F1 accuracy …   one value per action
                                              unit

A sum object is one float64 array `values` [fields, ..., K]: two of them add with `+`, ranks add
theirs with `over_ranks()`, and a bootstrap over subjects is a weighted sum of the per-subject
slices. Only AUC and average precision need all predictions: they rank them.

Conventions, all stated because the field does not agree on them: F1 with nothing to find and
nothing found is 0 (scikit-learn); ICC and PCC of a constant predictor are 0; predictions are
not rounded before ICC; AUC and average precision are NaN where a class is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """Additive statistics: `values` [fields, ..., K] float64."""

    values: Array
    FIELDS: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def _collect(
        cls,
        terms: list[NDArray[Any]],
        known: NDArray[np.bool_],
        group: NDArray[np.integer] | None,
        num_groups: int,
    ) -> Self:
        rows = np.zeros(len(known), np.int64) if group is None else np.asarray(group, np.int64)
        count = 1 if group is None else num_groups
        values = np.empty((len(terms), count, known.shape[1]))
        for position, term in enumerate(terms):
            masked = np.where(known, term, 0).astype(np.float64)
            for unit in range(known.shape[1]):
                values[position, :, unit] = np.bincount(
                    rows, weights=masked[:, unit], minlength=count
                )
        return cls(values[:, 0] if group is None else values)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.values + other.values)

    def total(self) -> Self:
        """Over all groups: [fields, K]."""
        return type(self)(
            self.values.reshape(len(self.values), -1, self.values.shape[-1]).sum(1)
        )

    def over_ranks(self) -> Self:
        """The sum over all ranks of the process group, on each of them: a few kilobytes travel,
        whatever the number of frames.
        """
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        total = torch.from_numpy(self.values.copy()).to(device)
        torch.distributed.all_reduce(total)
        return type(self)(total.cpu().numpy())

    def weighted(self, weights: NDArray[np.floating]) -> Self:
        """Sums over groups with weights [R, G]: [fields, R, K].

        With counts of a resample as weights this is one bootstrap.
        """
        return type(self)(
            np.einsum("rg,fgk->frk", np.asarray(weights, np.float64), self.values)
        )

    def __getattr__(self, name: str) -> Array:
        if name in type(self).FIELDS:
            field: Array = self.values[type(self).FIELDS.index(name)]
            return field
        raise AttributeError(name)


class RegressionSums(Sums):
    """What ICC, MAE, MSE and PCC are made of."""

    FIELDS = ("n", "p", "y", "pp", "yy", "py", "absolute", "square")

    @classmethod
    def of(
        cls,
        prediction: NDArray[np.floating],
        label: NDArray[np.generic],
        group: NDArray[np.integer] | None = None,
        num_groups: int = 0,
    ) -> Self:
        """Sums over predictions [N, K] and labels [N, K], labels < 0 left out; with `group`
        [N], apart for each group.
        """
        p, y = _pair(prediction, label)
        return cls._collect(
            [np.ones_like(p), p, y, p * p, y * y, p * y, np.abs(p - y), (p - y) ** 2],
            y >= 0,
            group,
            num_groups,
        )

    def icc(self) -> Array:
        """ICC(3,1) of prediction and label: for two raters 2 cov / (var + var) (Shrout and
        Fleiss, Psychological Bulletin 1979).
        """
        var_p, var_y, cov = self._moments()
        return _ratio(2 * cov, var_p + var_y)

    def pcc(self) -> Array:
        """Pearson correlation."""
        var_p, var_y, cov = self._moments()
        return _ratio(cov, np.sqrt(var_p * var_y))

    def mae(self) -> Array:
        return _ratio(self.absolute, self.n, empty=np.nan)

    def mse(self) -> Array:
        return _ratio(self.square, self.n, empty=np.nan)

    def _moments(self) -> tuple[Array, Array, Array]:
        def centred(product: Array, a: Array, b: Array) -> Array:
            # A constant leaves only rounding behind, which must not be divided by rounding.
            rest = self.n * product - a * b
            return np.where(
                np.abs(rest) > 1e-10 * np.maximum(np.abs(self.n * product), 1e-30), rest, 0.0
            )

        return (
            centred(self.pp, self.p, self.p),
            centred(self.yy, self.y, self.y),
            centred(self.py, self.p, self.y),
        )


class DetectionCounts(Sums):
    """True and false positives and negatives."""

    FIELDS = ("tp", "fp", "fn", "tn")

    @classmethod
    def of(
        cls,
        decision: NDArray[np.bool_],
        label: NDArray[np.generic],
        group: NDArray[np.integer] | None = None,
        num_groups: int = 0,
    ) -> Self:
        """Counts of decisions [N, K] against labels [N, K]: 1 present, 0 absent, below 0
        unknown.
        """
        d, y = np.asarray(decision, bool), np.asarray(label)
        if d.shape != y.shape or d.ndim != 2:
            raise ValueError(
                f"decisions {d.shape} and labels {y.shape} must have one shape [frames, "
                "action units]"
            )
        if np.any(y > 1):
            raise ValueError(
                "detection labels are 0, 1 or negative (unknown); turn intensities into occurrence "
                "first (occurrence())"
            )
        on = y == 1
        return cls._collect([d & on, d & ~on, ~d & on, ~d & ~on], y >= 0, group, num_groups)

    def f1(self) -> Array:
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def accuracy(self) -> Array:
        return _ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn, empty=np.nan)

    def rate(self) -> Array:
        """Share of positives among the known labels."""
        return _ratio(self.tp + self.fn, self.tp + self.fp + self.fn + self.tn, empty=np.nan)

    def skew_normalised_f1(self) -> Array:
        """F1 as if both classes were equally frequent (Jeni, Cohn and De la Torre, ACII 2013)."""
        true_rate, false_rate = (
            _ratio(self.tp, self.tp + self.fn),
            _ratio(self.fp, self.fp + self.tn),
        )
        return _ratio(2 * true_rate, 1 + true_rate + false_rate)


def occurrence(intensity: NDArray[np.generic], positive_from: int) -> NDArray[np.int8]:
    """Occurrence labels from intensities: 1 from `positive_from` on (2 on DISFA), -1 kept for
    unknown.
    """
    known = np.asarray(intensity) >= 0
    return np.where(known, np.asarray(intensity) >= positive_from, -1).astype(np.int8)


def icc_3_1(ratings: NDArray[np.floating]) -> float:
    """ICC(3,1), consistency, of ratings [targets, raters] for any number of raters: (BMS - EMS)
    / (BMS + (k-1) EMS).
    """
    ratings = np.asarray(ratings, np.float64)
    n, k = ratings.shape
    grand = ratings.mean()
    between = k * np.sum((ratings.mean(1) - grand) ** 2)
    raters = n * np.sum((ratings.mean(0) - grand) ** 2)
    bms = between / (n - 1)
    ems = (np.sum((ratings - grand) ** 2) - between - raters) / ((n - 1) * (k - 1))
    return float((bms - ems) / (bms + (k - 1) * ems))


def auc(probability: NDArray[np.floating], label: NDArray[np.generic]) -> Array:
    """Area under the ROC curve per action unit, ties counted half; NaN where a class is
    missing.
    """
    return _per_unit(_auc_of_one, probability, label)


def average_precision(probability: NDArray[np.floating], label: NDArray[np.generic]) -> Array:
    """Average precision per action unit (the step-wise sum, no interpolation); NaN where a
    class is missing.
    """
    return _per_unit(_average_precision_of_one, probability, label)


def best_thresholds(
    probability: NDArray[np.floating],
    label: NDArray[np.generic],
    candidates: NDArray[np.floating] | None = None,
) -> Array:
    """Threshold of the highest F1 per action unit; the lowest on a tie, 0.5 where there is no
    positive to choose by.

    For held-out *training* subjects only: choosing on the test fold is how published scores got
    inflated.
    """
    grid = np.linspace(0.01, 0.99, 99) if candidates is None else np.asarray(candidates)
    scores = np.stack(
        [
            DetectionCounts.of(np.asarray(probability) >= threshold, label).f1()
            for threshold in grid
        ]
    )
    return np.where(scores.max(0) > 0, grid[scores.argmax(0)], 0.5)


def always_on_f1(rate: NDArray[np.floating]) -> Array:
    """F1 of predicting every frame positive, from the positive rate: 2 r / (1 + r)."""
    rate = np.asarray(rate, np.float64)
    return 2 * rate / (1 + rate)


def coin_f1(rate: NDArray[np.floating]) -> Array:
    """Expected F1 of a fair coin: r / (r + 1/2)."""
    rate = np.asarray(rate, np.float64)
    return rate / (rate + 0.5)


def mean_over_units(values: Array) -> float:
    """Unweighted mean over the action units that have the score."""
    values = np.asarray(values, np.float64)
    return float(np.nanmean(values)) if np.any(np.isfinite(values)) else float("nan")


def _auc_of_one(p: Array, on: NDArray[np.bool_]) -> float:
    positives, negatives = int(on.sum()), int((~on).sum())
    if not positives or not negatives:
        return float("nan")
    # Mann and Whitney: ranks shared among ties.
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[on].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _average_precision_of_one(p: Array, on: NDArray[np.bool_]) -> float:
    positives = int(on.sum())
    if not positives or positives == len(on):
        return float("nan")
    order = np.argsort(-p, kind="stable")
    found = np.cumsum(on[order])
    # Only where the value changes is there a threshold that separates.
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    precision, recall = found[ends] / (ends + 1), found[ends] / positives
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _per_unit(
    score: Callable[[Array, NDArray[np.bool_]], float],
    probability: NDArray[np.floating],
    label: NDArray[np.generic],
) -> Array:
    p, y = _pair(probability, label)
    values = []
    for unit in range(p.shape[1]):
        known = y[:, unit] >= 0
        values.append(score(p[known, unit], y[known, unit] == 1))
    return np.array(values, np.float64)


def _pair(prediction: NDArray[np.floating], label: NDArray[np.generic]) -> tuple[Array, Array]:
    p, y = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    if p.shape != y.shape or p.ndim != 2:
        raise ValueError(
            f"predictions {p.shape} and labels {y.shape} must have one shape [frames, action units]"
        )
    if not np.all(np.isfinite(p)):
        raise ValueError("predictions hold NaN or infinity: scores of them would mean nothing")
    return p, y


def _ratio(above: Array, below: Array, empty: float = 0.0) -> Array:
    return np.divide(
        above,
        below,
        out=np.full(np.broadcast(above, below).shape, empty),
        where=np.asarray(below) != 0,
    )
