"""What a pretrained backbone is worth on a labelled corpus: beside the same backbone with
random weights, a constant and a guess.

    corpus ──features of each backbone──▶ split by identity ──▶ probe per backbone and fold
        ──▶ sealed test fold ──▶ Comparison

Every row has the same frames, the same split and the same selection; only the weights differ. A
score that does not beat the rows below it says nothing about pretraining.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import hold_out, share_of_subjects
from ausl_dist.evaluate.folds.splits import Fold
from ausl_dist.evaluate.predictors.base import Predictor, Task
from ausl_dist.evaluate.predictors.guess import fit_guess
from ausl_dist.evaluate.predictors.probe import ProbeSettings, fit_constant, fit_linear
from ausl_dist.evaluate.scores.formulas import mean_over_units, occurrence
from ausl_dist.evaluate.scores.rows import MAIN_SCORE, Predictions, Score, difference, score

CONSTANT, GUESS = "constant", "guess"
Fit = Callable[[FeatureTable, Task], Predictor]


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and how; the same for all rows."""

    task: Task = "intensity"
    # occurrence from intensities: positive from this level on; 1 where labels are occurrence
    # already
    positive_from: int = 2
    action_units: tuple[int, ...] = ()  # empty: every unit that some frame shows
    test_share: float = 0.3  # of the identities, where there are no published folds
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share must lie between 0 and 1, not {self.test_share}")
        if not 1 <= self.positive_from <= 5:
            raise ValueError(
                f"positive_from is an intensity of 1 to 5, not {self.positive_from}"
            )


@dataclass(frozen=True)
class FoldResult:
    """One predictor on one test fold."""

    fold: str
    predictor: Predictor
    predictions: Predictions
    scores: dict[str, Score]


@dataclass(frozen=True)
class ComparisonRow:
    """One predictor over all folds."""

    name: str
    folds: tuple[FoldResult, ...]
    predictions: Predictions  # of all test folds together
    scores: dict[str, Score]  # pooled over all frames

    def mean_of_folds(self, score: str) -> Score:
        """The score as papers give it: the mean over folds of the score of each fold."""
        per_unit = np.stack([result.scores[score].per_unit for result in self.folds])
        defined = np.isfinite(per_unit).any(0)
        means = np.full(per_unit.shape[1], np.nan)
        means[defined] = np.nanmean(per_unit[:, defined], axis=0)
        return Score(means, mean_over_units(means))


@dataclass(frozen=True)
class Comparison:
    """The rows, in the order given, the constant and the guess last; `gains` is the first row's
    main score minus each other's, pooled.
    """

    task: Task
    rows: tuple[ComparisonRow, ...]
    folds: tuple[Fold, ...]
    subjects: tuple[str, ...]
    gains: dict[str, Score]

    @property
    def main(self) -> str:
        return MAIN_SCORE[self.task]


def compare(
    tables: Mapping[str, FeatureTable],
    settings: CompareSettings | None = None,
    *,
    folds: Sequence[Fold] | None = None,
    fit: Fit | Mapping[str, Fit] | None = None,
) -> Comparison:
    """Fit a predictor on every table in every fold, on the same subjects, and add the constant
    and the guess.

    `tables` maps names to features of the same frames by different backbones. `folds` are names
    and test subjects, by default one fold by the hash of the identities; `fit` is the linear
    probe by default, or one for each name. Raises LeakError when the split shares images.
    """
    settings = settings or CompareSettings()
    fits = (
        fit
        if isinstance(fit, Mapping)
        else dict.fromkeys(
            tables, fit or (lambda table, task: fit_linear(table, task, settings.probe))
        )
    )
    prepared = {
        name: labelled_for(table, settings, settings.action_units)
        for name, table in tables.items()
    }
    first = next(iter(prepared.values()))
    if any(not _same_frames(first, table) for table in prepared.values()):
        raise ValueError(
            "the tables hold different frames: extract all of them from the same corpus with the "
            "same stride"
        )
    subjects = first.present_subjects()
    folds = folds or [
        ("held out", share_of_subjects(subjects, settings.test_share, settings.seed))
    ]
    rows = [_row(name, table, folds, settings, fits[name]) for name, table in prepared.items()]
    rows += [
        _row(name, first, folds, settings, baseline)
        for name, baseline in ((CONSTANT, fit_constant), (GUESS, fit_guess))
    ]
    best, *others = rows
    resampling = {"resamples": settings.resamples, "seed": settings.seed}
    gains = {
        row.name: difference(best.predictions, row.predictions, **resampling) for row in others
    }
    return Comparison(settings.task, tuple(rows), tuple(folds), subjects, gains)


def _row(
    name: str, table: FeatureTable, folds: Sequence[Fold], settings: CompareSettings, fit: Fit
) -> ComparisonRow:
    results = []
    for fold, test_subjects in folds:
        train, sealed = hold_out(table, test_subjects)
        predictor = fit(train, settings.task)
        predictions = Predictions.of(predictor, sealed.open(predictor.decided))
        results.append(
            FoldResult(fold, predictor, predictions, score(predictions, resamples=0))
        )
    joined = Predictions.join([result.predictions for result in results])
    return ComparisonRow(
        name,
        tuple(results),
        joined,
        score(joined, resamples=settings.resamples, seed=settings.seed),
    )


def labelled_for(
    table: FeatureTable, settings: CompareSettings, action_units: Sequence[int]
) -> FeatureTable:
    """Labels as the task needs them, of these units, or of all that some frame shows: a score
    of any other says nothing.
    """
    if settings.task == "occurrence":
        table = replace(table, labels=occurrence(table.labels, settings.positive_from))
    shown = [
        unit
        for column, unit in enumerate(table.action_units)
        if (table.labels[:, column] > 0).any()
    ]
    return table.only_units(action_units or shown)


def _same_frames(a: FeatureTable, b: FeatureTable) -> bool:
    return (
        a.clips == b.clips
        and np.array_equal(a.clip, b.clip)
        and np.array_equal(a.frame, b.frame)
        and np.array_equal(a.labels, b.labels)
    )
