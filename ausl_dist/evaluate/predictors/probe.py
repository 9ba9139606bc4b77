"""Linear probes on frozen features: ridge regression for intensity, logistic regression for
occurrence.

    training table ──▶ inner folds of training subjects choose the penalty per action unit
        (and the threshold) ──▶ fit on all ──▶ Probe

A probe knows what it looked at (`decided`), which the sealed test fold demands to see before it
opens. Both fits standardise the features by the training frames, leave the intercept free, and
mask unknown labels per action unit. Penalties are per frame: a penalty means the same on a
thousand frames and on a million.

Speed: ridge and its whole selection need one pass, because the held-out error is a function of
the folds' second moments; logistic runs L-BFGS over all action units at once on whitened
features, where the curvature bound of Böhning (1992) is diagonal.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import Decided, Looked, inner_folds
from ausl_dist.evaluate.predictors.base import MAX_INTENSITY, Task
from ausl_dist.evaluate.scores.formulas import best_thresholds

CHUNK_ROWS = 16_384
# logistic: the penalty is chosen on at most so many frames, evenly thinned
SELECTION_ROWS = 50_000
ITERATIONS = 60

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ProbeSettings:
    """How a linear probe is fitted and its penalty chosen."""

    # per frame, on standardised features
    penalties: tuple[float, ...] = (
        1e-5,
        1e-4,
        1e-3,
        1e-2,
        1e-1,
        1.0,
    )
    folds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"penalties must be positive numbers, not {self.penalties}")
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, not {self.folds}")


@dataclass(frozen=True)
class Probe:
    """A fitted linear map from features to action units, all decisions made."""

    task: Task
    action_units: tuple[int, ...]
    weight: Array  # D K, in the space of raw features
    bias: Array  # K
    threshold: Array  # K, on probabilities; chosen on held-out training subjects
    decided: Decided = field(repr=False)

    def predict(self, table: FeatureTable) -> NDArray[np.float32]:
        """Intensity clipped to 0-5, or probability, [N, K]."""
        parts = [
            part.astype(np.float64) @ self.weight + self.bias
            for part in _chunks(table.features)
        ]
        raw = np.concatenate(parts) if parts else np.zeros((0, len(self.bias)))
        values = np.clip(raw, 0, MAX_INTENSITY) if self.task == "intensity" else _sigmoid(raw)
        return values.astype(np.float32)


def fit_linear(table: FeatureTable, task: Task, settings: ProbeSettings | None = None) -> Probe:
    """Fit the probe of `task` on a training table; occurrence labels must be 0, 1 or -1.

    Raises ValueError where a unit has no label.
    """
    settings = settings or ProbeSettings()
    empty = [
        unit
        for column, unit in enumerate(table.action_units)
        if not (table.labels[:, column] >= 0).any()
    ]
    if empty:
        raise ValueError(
            f"no training frame is labelled for AU {empty}; leave them out (units=...)"
        )
    folds = inner_folds(table, settings.folds, settings.seed)
    fit = _fit_ridge if task == "intensity" else _fit_logistic
    weight, bias, penalty, threshold = fit(table, folds, settings)
    decisions: dict[str, Any] = {
        "task": task,
        "penalty": penalty.tolist(),
        "folds": settings.folds,
    }
    if task == "occurrence":
        decisions["threshold"] = threshold.tolist()
    return Probe(
        task, table.action_units, weight, bias, threshold, Decided(Looked.at(table), decisions)
    )


def fit_constant(table: FeatureTable, task: Task) -> Probe:
    """The baseline that looks at no image: the training mean for intensity, 'always on' for
    occurrence.
    """
    known = table.labels >= 0
    mean = np.where(known, table.labels, 0).sum(0) / np.maximum(known.sum(0), 1)
    bias = mean if task == "intensity" else np.full(len(mean), 20.0)
    decided = Decided(
        Looked.at(table),
        {"task": task, "constant": "training mean" if task == "intensity" else "always on"},
    )
    return Probe(
        task,
        table.action_units,
        np.zeros((table.features.shape[1], len(mean))),
        bias,
        np.full(len(mean), 0.5),
        decided,
    )


# --- ridge


@dataclass
class _Moments:
    """Second moments of features [D] and labels [K] of one group of units with one mask; they
    add up over folds.
    """

    n: float
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: Array

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )

    @classmethod
    def of(cls, features: NDArray[np.float32], labels: NDArray[np.int8]) -> "_Moments":
        dim, units = features.shape[1], labels.shape[1]
        total = cls(
            0,
            np.zeros(dim),
            np.zeros(units),
            np.zeros((dim, dim)),
            np.zeros((dim, units)),
            np.zeros(units),
        )
        for part, label in zip(_chunks(features), _chunks(labels), strict=True):
            x, y = part.astype(np.float64), label.astype(np.float64)
            total += cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y, (y * y).sum(0))
        return total


def _fit_ridge(
    table: FeatureTable, folds: NDArray[np.int32], settings: ProbeSettings
) -> tuple[Array, Array, Array, Array]:
    dim, units = table.features.shape[1], len(table.action_units)
    weight, bias, penalty = np.zeros((dim, units)), np.zeros(units), np.zeros(units)
    for columns in _columns_by_mask(table.labels):
        known = table.labels[:, columns[0]] >= 0
        present = [
            fold for fold in range(int(folds.max()) + 1) if (known & (folds == fold)).any()
        ]
        moments = [
            _Moments.of(table.features[rows], table.labels[rows][:, columns])
            for rows in (known & (folds == f) for f in present)
        ]
        error = np.zeros((len(settings.penalties), len(columns)))
        for held_out in range(len(moments)) if len(moments) > 1 else ():
            rest = [moment for index, moment in enumerate(moments) if index != held_out]
            solutions = _ridge_path(sum(rest[1:], rest[0]), settings.penalties)
            error += [_squared_error(moments[held_out], w, b) for w, b in solutions]
        choice = error.argmin(0)
        solutions = _ridge_path(sum(moments[1:], moments[0]), settings.penalties)
        for position, column in enumerate(columns):
            w, b = solutions[choice[position]]
            weight[:, column], bias[column], penalty[column] = (
                w[:, position],
                b[position],
                settings.penalties[choice[position]],
            )
    return weight, bias, penalty, np.full(units, np.nan)


def _ridge_path(moments: _Moments, penalties: tuple[float, ...]) -> list[tuple[Array, Array]]:
    """Weights and intercepts for every penalty from one eigendecomposition."""
    mean_x, mean_y = moments.x / moments.n, moments.y / moments.n
    covariance = moments.xx / moments.n - np.outer(mean_x, mean_x)
    cross = moments.xy / moments.n - np.outer(mean_x, mean_y)
    scale = _scale(covariance)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    rotated = vectors.T @ (cross / scale[:, None])
    path = []
    for penalty in penalties:
        w = vectors @ (rotated / (np.maximum(values, 0) + penalty)[:, None]) / scale[:, None]
        path.append((w, mean_y - mean_x @ w))
    return path


def _squared_error(m: _Moments, w: Array, b: Array) -> Array:
    """Sum over the frames behind `m` of (y - x w - b)^2, from moments alone; [K]."""
    squares = np.einsum("dk,de,ek->k", w, m.xx, w, optimize=True)
    total: Array = (
        m.yy
        - 2 * np.einsum("dk,dk->k", w, m.xy)
        - 2 * b * m.y
        + squares
        + 2 * b * (m.x @ w)
        + m.n * b * b
    )
    return total


# --- logistic


def _fit_logistic(
    table: FeatureTable, folds: NDArray[np.int32], settings: ProbeSettings
) -> tuple[Array, Array, Array, Array]:
    if table.labels.max() > 1:
        raise ValueError(
            "occurrence labels are 0, 1 or -1: turn intensities into occurrence first "
            "(scores.occurrence)"
        )
    mean, whitening, stretch = _whitening(table.features)
    z = np.concatenate([(part - mean) @ whitening for part in _chunks(table.features)]).astype(
        np.float32
    )
    penalty, threshold = _select_logistic(z, stretch, table.labels, folds, settings)
    u, bias = _minimise(z, stretch, table.labels, penalty)
    weight = whitening @ u
    return weight, bias - mean @ weight, penalty, threshold


def _select_logistic(
    z: NDArray[np.float32],
    stretch: Array,
    labels: NDArray[np.int8],
    folds: NDArray[np.int32],
    settings: ProbeSettings,
) -> tuple[Array, Array]:
    """Penalty [K] by held-out log loss and threshold [K] by held-out F1, both over the inner
    folds.
    """
    rows = np.arange(0, len(z), max(1, -(-len(z) // SELECTION_ROWS)))
    z, labels, folds = z[rows], labels[rows], folds[rows]
    logits = np.zeros((len(settings.penalties), *labels.shape))
    for fold in np.unique(folds):
        inside, start = folds != fold, None
        # strong to weak: each solution starts the next
        for position in reversed(range(len(settings.penalties))):
            start = _minimise(
                z[inside],
                stretch,
                labels[inside],
                np.full(labels.shape[1], settings.penalties[position]),
                start,
            )
            logits[position][~inside] = z[~inside] @ start[0] + start[1]
    known = labels >= 0
    # log(1 + exp(-s)) with s the logit signed by the label
    loss = (np.where(known, np.logaddexp(0, -np.where(labels == 1, 1, -1) * logits), 0)).sum(1)
    choice = loss.argmin(0)
    chosen = np.take_along_axis(logits, choice[None, None, :], 0)[0]
    return np.array(settings.penalties)[choice], best_thresholds(_sigmoid(chosen), labels)


def _minimise(
    z: NDArray[np.float32],
    stretch: Array,
    labels: NDArray[np.int8],
    penalty: Array,
    start: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Weights [D, K] on whitened features and intercepts [K] of least mean log loss + penalty /
    2 * |w|^2 in the standardised space.
    """
    data, known = torch.from_numpy(z), torch.from_numpy(labels >= 0).float()
    target = torch.from_numpy((labels == 1).astype(np.float32))
    share = known / known.sum(0).clamp(min=1)
    # D K: the penalty in whitened coordinates
    ridge = torch.from_numpy(np.outer(stretch, penalty)).float()
    # Böhning's bound of the curvature, diagonal here; dividing by it makes all directions alike
    root = torch.sqrt(0.25 + ridge)
    weight = (
        torch.zeros_like(root) if start is None else torch.from_numpy(start[0]).float() * root
    )
    bias = torch.zeros(labels.shape[1]) if start is None else torch.from_numpy(start[1]).float()
    weight.requires_grad_(), bias.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        history_size=12,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def loss() -> float:
        optimizer.zero_grad()
        w = weight / root
        log_loss = torch.nn.functional.binary_cross_entropy_with_logits(
            data @ w + bias, target, reduction="none"
        )
        value = (log_loss * share).sum() + 0.5 * (ridge * w * w).sum()
        value.backward()
        return value.item()

    optimizer.step(loss)
    return (weight / root).detach().double().numpy(), bias.detach().double().numpy()


def _whitening(features: NDArray[np.float32]) -> tuple[Array, Array, Array]:
    """Mean [D], matrix [D, D] that whitens centred features, and how much it stretches a unit
    of each direction [D].
    """
    moments = _Moments.of(features, np.zeros((len(features), 0), np.int8))
    mean = moments.x / moments.n
    covariance = moments.xx / moments.n - np.outer(mean, mean)
    scale = _scale(covariance)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    inverse = 1 / np.sqrt(np.maximum(values, 1e-6 * max(float(values.max()), 1e-12)))
    return mean, (vectors / scale[:, None]) * inverse, inverse**2


# --- shared


def _scale(covariance: Array) -> Array:
    """Standard deviation of each feature; 1 for one that never changes."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    return np.where(deviation > 1e-8, deviation, 1.0)


def _columns_by_mask(labels: NDArray[np.int8]) -> list[list[int]]:
    """Units grouped by equal masks: they share second moments."""
    groups: dict[bytes, list[int]] = {}
    for column in range(labels.shape[1]):
        groups.setdefault(np.packbits(labels[:, column] >= 0).tobytes(), []).append(column)
    return list(groups.values())


def _chunks(rows: NDArray[Any]) -> list[NDArray[Any]]:
    return [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]


def _sigmoid(values: NDArray[np.floating]) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64))))
