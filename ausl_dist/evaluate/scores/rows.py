"""From predictions to the scores of one row of a table, with intervals over subjects.

    Predictions (values and labels [N, K], subject of each frame)
        ──▶ scores per action unit, their mean, 95 % intervals

The interval resamples *subjects*, not frames: the frames of one face are almost copies of each
other, and an interval over frames would be many times too narrow. It needs no second look at
the frames, because every score but AUC and average precision is a function of sums per subject.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.predictors.base import Predictor, Task
from ausl_dist.evaluate.scores.formulas import (
    DetectionCounts,
    RegressionSums,
    always_on_f1,
    auc,
    average_precision,
    mean_over_units,
)
from ausl_dist.files import write_atomically
from ausl_dist.randomness import random_stream
from ausl_dist.units import column_of

RESAMPLES = 1000
_ROWS = ("values", "labels", "chosen", "subject", "clip", "frame")
MAIN_SCORE: dict[Task, str] = {"intensity": "icc", "occurrence": "f1"}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What a predictor said of the test fold: kept, so that any score can be computed again."""

    task: Task
    action_units: tuple[int, ...]
    values: NDArray[np.float32]  # N K, probability or intensity
    labels: NDArray[np.int8]  # N K, -1 unknown
    # N K, decisions at the threshold that was chosen before the test fold was opened
    chosen: NDArray[np.bool_]
    subject: NDArray[np.int32]  # N
    subjects: tuple[str, ...]
    clip: NDArray[np.int32]  # N
    clips: tuple[str, ...]
    frame: NDArray[np.int32]  # N

    @classmethod
    def of(cls, predictor: Predictor, table: FeatureTable) -> "Predictions":
        values = predictor.predict(table)
        chosen = values >= np.nan_to_num(predictor.threshold, nan=0.5)
        columns = (table.subject, table.subjects, table.clip, table.clips, table.frame)
        return cls(
            predictor.task, predictor.action_units, values, table.labels, chosen, *columns
        )

    @classmethod
    def join(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The predictions of several test folds as one, for pooled scores."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS
        }
        return replace(parts[0], **columns)

    def save(self, path: Path) -> None:
        """Write as CSV: subject, clip, frame, then value and label of each action unit."""
        names = [
            name
            for unit in self.action_units
            for name in (column_of(unit), f"{column_of(unit)}_label")
        ]
        lines = [",".join(["subject", "clip", "frame", *names])]
        for row in range(len(self.values)):
            pairs = [
                text
                for v, y in zip(self.values[row], self.labels[row], strict=True)
                for text in (f"{v:.6g}", str(y))
            ]
            lines.append(
                ",".join(
                    [
                        self.subjects[self.subject[row]],
                        self.clips[self.clip[row]],
                        str(self.frame[row]),
                        *pairs,
                    ]
                )
            )
        write_atomically(path, "\n".join(lines) + "\n")


@dataclass(frozen=True)
class Score:
    """One score: per action unit, its mean, and the 95 % interval of the mean over subjects
    (None with fewer than two subjects).
    """

    per_unit: Array  # K, NaN where the score does not exist
    mean: float
    interval: tuple[float, float] | None = None
    unit_intervals: Array | None = None  # K 2

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": _number(self.mean),
            "interval": None if self.interval is None else [_number(v) for v in self.interval],
            "per_unit": [_number(v) for v in self.per_unit],
            "unit_intervals": None
            if self.unit_intervals is None
            else [[_number(v) for v in pair] for pair in self.unit_intervals],
        }


def score(
    predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Score]:
    """Every score of the predictions' task, by name."""
    p = predictions
    groups = (p.subject, len(p.subjects))
    present = np.unique(p.subject)
    weights = subject_resamples(present, len(p.subjects), resamples, seed)
    if p.task == "intensity":
        sums = RegressionSums.of(p.values, p.labels, *groups)
        kinds: Mapping[str, Callable[[RegressionSums], Array]] = {
            "icc": RegressionSums.icc,
            "mae": RegressionSums.mae,
            "mse": RegressionSums.mse,
            "pcc": RegressionSums.pcc,
        }
        return {name: _with_interval(kind, sums, weights) for name, kind in kinds.items()}
    at_half = DetectionCounts.of(p.values >= 0.5, p.labels, *groups)
    at_chosen = DetectionCounts.of(p.chosen, p.labels, *groups)
    scores = {
        "f1": _with_interval(DetectionCounts.f1, at_half, weights),
        "f1_chosen": _with_interval(DetectionCounts.f1, at_chosen, weights),
        "f1_skew_normalised": _with_interval(
            DetectionCounts.skew_normalised_f1, at_half, weights
        ),
        "accuracy": _with_interval(DetectionCounts.accuracy, at_half, weights),
    }
    for name, values in (
        ("auc", auc(p.values, p.labels)),
        ("average_precision", average_precision(p.values, p.labels)),
    ):
        scores[name] = Score(values, mean_over_units(values))
    rate = at_half.total().rate()
    scores["f1_always_on"] = Score(always_on_f1(rate), mean_over_units(always_on_f1(rate)))
    return scores


def per_subject(predictions: Predictions) -> dict[str, float]:
    """The main score of each test subject alone, mean over action units: which faces the
    predictor fails on.
    """
    p = predictions
    groups = (p.subject, len(p.subjects))
    if p.task == "intensity":
        values = RegressionSums.of(p.values, p.labels, *groups).icc()
    else:
        values = DetectionCounts.of(p.values >= 0.5, p.labels, *groups).f1()
    return {p.subjects[index]: mean_over_units(values[index]) for index in np.unique(p.subject)}


def difference(
    a: Predictions, b: Predictions, *, resamples: int = RESAMPLES, seed: int = 0
) -> Score:
    """Main score of `a` minus that of `b` on the same frames, with the paired interval: same
    resampled subjects for both.
    """
    if a.task != b.task or a.subjects != b.subjects or not np.array_equal(a.labels, b.labels):
        raise ValueError(
            "a paired difference needs two predictions of the same task on the same frames"
        )
    weights = subject_resamples(np.unique(a.subject), len(a.subjects), resamples, seed)
    rows = [_main(p) for p in (a, b)]
    per_unit = rows[0][0](rows[0][1].total()) - rows[1][0](rows[1][1].total())
    if weights is None:
        return Score(per_unit, mean_over_units(per_unit))
    resampled = rows[0][0](rows[0][1].weighted(weights)) - rows[1][0](
        rows[1][1].weighted(weights)
    )
    return Score(per_unit, mean_over_units(per_unit), *_percentiles(resampled))


def subject_resamples(
    present: NDArray[np.integer], num_subjects: int, resamples: int, seed: int
) -> Array | None:
    """How often each subject is drawn in each resample, [R, S]; None with fewer than two
    subjects or no resamples.
    """
    if len(present) < 2 or resamples < 1:
        return None
    drawn = random_stream("bootstrap", seed, len(present)).multinomial(
        len(present), np.full(len(present), 1 / len(present)), resamples
    )
    weights = np.zeros((resamples, num_subjects))
    weights[:, present] = drawn
    return weights


def _main(p: Predictions) -> tuple[Callable[[Any], Array], RegressionSums | DetectionCounts]:
    groups = (p.subject, len(p.subjects))
    if p.task == "intensity":
        return RegressionSums.icc, RegressionSums.of(p.values, p.labels, *groups)
    return DetectionCounts.f1, DetectionCounts.of(p.values >= 0.5, p.labels, *groups)


def _with_interval(
    kind: Callable[[Any], Array], sums: RegressionSums | DetectionCounts, weights: Array | None
) -> Score:
    per_unit = kind(sums.total())
    if weights is None:
        return Score(per_unit, mean_over_units(per_unit))
    return Score(
        per_unit, mean_over_units(per_unit), *_percentiles(kind(sums.weighted(weights)))
    )


def _percentiles(resampled: Array) -> tuple[tuple[float, float], Array]:
    """95 % interval of the mean over units and of each unit, from resampled scores [R, K]."""
    defined = np.isfinite(resampled).any(0)
    bounds = np.full((resampled.shape[1], 2), np.nan)
    bounds[defined] = np.nanpercentile(resampled[:, defined], [2.5, 97.5], axis=0).T
    low, high = np.nanpercentile(np.nanmean(resampled[:, defined], axis=1), [2.5, 97.5])
    return (float(low), float(high)), bounds


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
