"""What features are worth where few frames are labelled: the same probes, with a share of the
training labels.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ausl_dist.evaluate.compare import CompareSettings, compare
from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.splits import Fold
from ausl_dist.evaluate.predictors.base import Predictor, Task
from ausl_dist.evaluate.predictors.networks import keep_labels
from ausl_dist.evaluate.predictors.probe import ProbeSettings, fit_linear


def print_label_curve(
    tables: Mapping[str, FeatureTable],
    rows: Mapping[str, Sequence[str]],
    folds: Sequence[Fold],
    shares: Sequence[float],
) -> None:
    """Print the intensity (ICC) at each share of the labels, a row for each title: the mean and
    spread over the tables that it names, each with labels drawn anew.
    """
    print(
        f"\n| ICC(3,1) with this share of the labels | {' | '.join(f'{s:.0%}' for s in shares)} |"
    )
    print("|---|" + "---|" * len(shares))
    for title, names in rows.items():
        cells = []
        for share in shares:
            found = [
                _intensity(tables[name], folds, share, seed) for seed, name in enumerate(names)
            ]
            cells.append(f"{np.mean(found):.3f} ± {np.std(found):.3f}")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def _intensity(table: FeatureTable, folds: Sequence[Fold], share: float, seed: int) -> float:
    def fit(train: FeatureTable, task: Task) -> Predictor:
        labelled = keep_labels(train, share, seed).only_labelled()
        return fit_linear(labelled, task, ProbeSettings())

    settings = CompareSettings(task="intensity", resamples=0)
    return (
        compare({"features": table}, settings, folds=folds, fit=fit).rows[0].scores["icc"].mean
    )
