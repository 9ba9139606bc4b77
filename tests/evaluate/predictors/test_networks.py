"""Networks on frozen features: they must learn what is there, look only where labels are, and
count epochs without the test.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ausl_dist.evaluate.compare import compare
from ausl_dist.evaluate.predictors.networks import NetworkSettings, fit_network, keep_labels
from ausl_dist.evaluate.predictors.training import windows_of
from ausl_dist.evaluate.scores.formulas import RegressionSums, mean_over_units, occurrence
from tests.support.evaluation_tables import make_table

FAST = NetworkSettings(
    hidden=32, max_epochs=12, batch_frames=128, learning_rate=5e-3, window=16
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["mlp", "temporal"])
def test_a_network_learns_intensities_of_people_it_has_not_seen(kind: str) -> None:
    settings = replace(FAST, kind=kind)  # type: ignore[arg-type]
    result = compare(
        {"a": make_table()}, fit=lambda table, task: fit_network(table, task, settings)
    )
    assert result.rows[0].scores["icc"].mean > 0.8


def test_occurrence_gets_probabilities_and_a_threshold_from_training_subjects() -> None:
    table = make_table(subjects=6)
    table = replace(table, labels=occurrence(table.labels, 2))
    probe = fit_network(table, "occurrence", FAST)
    values = probe.predict(table)
    assert values.min() >= 0
    assert values.max() <= 1
    assert ((probe.threshold > 0) & (probe.threshold < 1)).all()


def test_two_per_cent_of_the_labels_is_two_per_cent_and_always_the_same_ones() -> None:
    table = make_table(subjects=10, frames=100)
    kept = keep_labels(table, 0.02, seed=0)
    assert (kept.labels >= 0).any(1).sum() == 20
    np.testing.assert_array_equal(keep_labels(table, 0.02, seed=0).labels, kept.labels)
    assert not np.array_equal(keep_labels(table, 0.02, seed=1).labels, kept.labels)
    with pytest.raises(ValueError, match="share of labels"):
        keep_labels(table, 0, seed=0)


def test_labels_that_were_taken_away_have_no_influence() -> None:
    table = make_table(subjects=6)
    kept = keep_labels(table, 0.2, seed=0)
    lying = np.where((kept.labels >= 0), kept.labels, -1).astype(np.int8)
    one, two = (
        fit_network(replace(kept, labels=labels), "intensity", FAST)
        for labels in (kept.labels, lying)
    )
    np.testing.assert_array_equal(one.predict(table), two.predict(table))


def test_the_model_over_time_uses_unlabelled_frames_around_labelled_ones() -> None:
    # Each frame shows a noisy feature of a slow signal: neighbours know more than the frame
    # alone.
    random = np.random.default_rng(0)
    table = make_table(subjects=12, frames=48)
    level = np.repeat(random.integers(0, 6, (12 * 4, 2)), 12, axis=0)
    features = np.repeat(level, 6, axis=1) + 4 * random.normal(size=(len(table), 12))
    table = replace(table, labels=level.astype(np.int8), features=features.astype(np.float32))
    scores = {}
    for kind in ("mlp", "temporal"):
        settings = replace(FAST, kind=kind, max_epochs=25)  # type: ignore[arg-type]
        probe = fit_network(
            keep_labels(table.take(table.subject < 9), 0.3, 0), "intensity", settings
        )
        test = table.take(table.subject >= 9)
        scores[kind] = mean_over_units(
            RegressionSums.of(probe.predict(test), test.labels).icc()
        )
    assert scores["temporal"] > scores["mlp"] + 0.02


def test_windows_never_join_two_clips() -> None:
    table = make_table(subjects=3, frames=40)
    windows = windows_of(table, np.arange(len(table)), 16)
    assert sorted(np.concatenate(windows).tolist()) == list(range(120))
    for rows in windows:
        assert len(set(table.clip[rows])) == 1
        assert np.all(np.diff(table.frame[rows]) == 1)
