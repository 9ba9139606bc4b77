"""A probe that fits wrongly, or chooses by the test, gives a backbone a worth that it has not."""

import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from ausl_dist.evaluate.predictors.probe import ProbeSettings, fit_constant, fit_linear
from ausl_dist.evaluate.scores.formulas import occurrence
from ausl_dist.evaluate.scores.rows import Predictions, score
from tests.support.evaluation_tables import make_table

ONE = ProbeSettings(penalties=(0.01,))


def test_ridge_with_a_given_penalty_is_scikit_learns() -> None:
    table = make_table()
    probe = fit_linear(table, "intensity", ONE)
    scale = table.features.std(0)
    reference = Ridge(alpha=0.01 * len(table)).fit(table.features / scale, table.labels)
    raw = table.features.astype(np.float64) @ probe.weight + probe.bias
    np.testing.assert_allclose(raw, reference.predict(table.features / scale), atol=1e-4)


def test_logistic_with_a_given_penalty_is_scikit_learns() -> None:
    table = make_table(noise=3)
    table = replace(table, labels=occurrence(table.labels, 2))
    probe = fit_linear(table, "occurrence", ONE)
    z = (table.features - table.features.mean(0)) / table.features.std(0)
    for unit in range(2):
        reference = LogisticRegression(C=1 / (0.01 * len(table)), tol=1e-8, max_iter=500).fit(
            z, table.labels[:, unit]
        )
        np.testing.assert_allclose(
            probe.predict(table)[:, unit], reference.predict_proba(z)[:, 1], atol=2e-3
        )


def test_unknown_labels_leave_the_fit_of_the_known_ones_alone() -> None:
    table = make_table(unknown=0.3)
    known = table.labels[:, 1] >= 0
    alone = replace(table.take(known), labels=table.labels[known][:, 1:], action_units=(12,))
    both, one = (fit_linear(part, "intensity", ONE).weight for part in (table, alone))
    np.testing.assert_allclose(both[:, 1], one[:, 0], atol=1e-6)


def test_selection_prefers_a_strong_penalty_where_features_say_nothing() -> None:
    settings = ProbeSettings(penalties=(1e-6, 1e3))
    nothing = make_table(signal=False, frames=8, dim=40)
    assert fit_linear(nothing, "intensity", settings).decided.decisions["penalty"] == [1e3, 1e3]
    assert fit_linear(make_table(), "intensity", settings).decided.decisions["penalty"] == [
        1e-6,
        1e-6,
    ]


def test_selection_error_from_moments_is_the_error_on_the_held_out_frames() -> None:
    from ausl_dist.evaluate.predictors.probe import _Moments, _ridge_path, _squared_error

    table = make_table()
    train, rest = table.take(table.subject < 5), table.take(table.subject >= 5)
    (w, b), *_ = _ridge_path(_Moments.of(train.features, train.labels), (0.1,))
    residual = rest.labels - (rest.features @ w + b)
    np.testing.assert_allclose(
        _squared_error(_Moments.of(rest.features, rest.labels), w, b),
        (residual**2).sum(0),
        rtol=1e-6,
    )


def test_constant_scores_no_icc_and_always_on_scores_its_formula() -> None:
    table = make_table()
    assert score(Predictions.of(fit_constant(table, "intensity"), table))["icc"].mean == 0
    table = replace(table, labels=occurrence(table.labels, 2))
    scores = score(Predictions.of(fit_constant(table, "occurrence"), table))
    assert scores["f1"].mean == pytest.approx(scores["f1_always_on"].mean)


def test_units_without_a_label_are_named() -> None:
    table = make_table()
    labels = table.labels.copy()
    labels[:, 0] = -1
    with pytest.raises(ValueError, match="AU \\[4\\]"):
        fit_linear(replace(table, labels=labels), "intensity")


def test_the_interval_is_over_subjects_not_frames() -> None:
    # Ten times the frames of the same faces must not narrow the interval.
    table = make_table(noise=4)
    probe = fit_linear(table, "intensity")
    once, often = (
        Predictions.of(probe, part)
        for part in (table, table.take(np.tile(np.arange(len(table)), 10)))
    )
    widths = [np.diff(score(p)["icc"].interval)[0] for p in (once, often)]
    assert widths[1] == pytest.approx(widths[0], rel=0.01)


def test_a_probe_of_a_whole_data_set_takes_seconds() -> None:
    # a fifth of BP4D's frames, half of the width
    table = make_table(subjects=30, frames=1000, dim=256)
    started = time.monotonic()
    fit_linear(table, "intensity")
    assert time.monotonic() - started < 20
