"""A score that is off by a convention makes every table of the project wrong: each is held
against an independent one.
"""

import numpy as np
import pytest
import torch
from sklearn import metrics

from ausl_dist.evaluate.scores.formulas import (
    DetectionCounts,
    RegressionSums,
    always_on_f1,
    auc,
    average_precision,
    best_thresholds,
    coin_f1,
    icc_3_1,
    occurrence,
)
from tests.support.ranks import run_ranks

BP4D_RATES = (
    np.array([21.1, 17.0, 20.3, 46.1, 54.9, 59.4, 56.2, 46.6, 16.9, 34.4, 16.5, 15.2]) / 100
)
DISFA_RATES = np.array([5.0, 4.0, 15.0, 7.9, 4.2, 12.9, 27.8, 8.9]) / 100


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (400, 3)).astype(np.int8)
    labels[random.random((400, 3)) < 0.1] = -1
    return random.random((400, 3)).round(
        2
    ), labels  # rounded: ties are where AUC and AP go wrong


def test_detection_scores_agree_with_scikit_learn_under_a_mask(
    sample: tuple[np.ndarray, np.ndarray],
) -> None:
    probability, labels = sample
    counts = DetectionCounts.of(probability >= 0.5, labels)
    for unit in range(3):
        known = labels[:, unit] >= 0
        p, y = probability[known, unit], labels[known, unit]
        assert counts.f1()[unit] == pytest.approx(metrics.f1_score(y, p >= 0.5))
        assert counts.accuracy()[unit] == pytest.approx(metrics.accuracy_score(y, p >= 0.5))
        assert auc(probability, labels)[unit] == pytest.approx(metrics.roc_auc_score(y, p))
        assert average_precision(probability, labels)[unit] == pytest.approx(
            metrics.average_precision_score(y, p)
        )


def test_skew_normalised_f1_is_f1_with_the_negatives_weighted_to_balance(
    sample: tuple[np.ndarray, np.ndarray],
) -> None:
    probability, labels = sample
    known = labels[:, 0] >= 0
    y, decision = labels[known, 0], probability[known, 0] >= 0.3
    weight = np.where(y == 1, 1 / (y == 1).sum(), 1 / (y == 0).sum())
    wanted = metrics.f1_score(y, decision, sample_weight=weight)
    assert DetectionCounts.of(probability >= 0.3, labels).skew_normalised_f1()[
        0
    ] == pytest.approx(wanted)


def test_regression_scores_agree_with_numpy_and_the_general_icc(
    sample: tuple[np.ndarray, np.ndarray],
) -> None:
    random = np.random.default_rng(1)
    labels = random.integers(-1, 6, (300, 2))
    prediction = labels + random.normal(0, 1, (300, 2))
    sums = RegressionSums.of(prediction, labels)
    for unit in range(2):
        known = labels[:, unit] >= 0
        p, y = prediction[known, unit], labels[known, unit]
        assert sums.icc()[unit] == pytest.approx(icc_3_1(np.stack([p, y], 1)))
        assert sums.pcc()[unit] == pytest.approx(np.corrcoef(p, y)[0, 1])
        assert sums.mae()[unit] == pytest.approx(metrics.mean_absolute_error(y, p))
        assert sums.mse()[unit] == pytest.approx(metrics.mean_squared_error(y, p))


def test_icc_reproduces_the_worked_example_of_shrout_and_fleiss() -> None:
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    )
    assert icc_3_1(ratings) == pytest.approx(0.715, abs=5e-4)


def test_a_constant_predictor_gets_no_icc_and_no_correlation() -> None:
    labels = np.random.default_rng(2).integers(0, 6, (1000, 1))
    sums = RegressionSums.of(np.full((1000, 1), 0.1), labels)
    assert sums.icc()[0] == 0
    assert sums.pcc()[0] == 0


def test_sums_of_parts_and_of_ranks_equal_the_sum_of_the_whole(
    sample: tuple[np.ndarray, np.ndarray],
) -> None:
    probability, labels = sample
    whole = RegressionSums.of(probability, labels)
    parts = RegressionSums.of(probability[:123], labels[:123]) + RegressionSums.of(
        probability[123:], labels[123:]
    )
    np.testing.assert_allclose(parts.values, whole.values)
    group = np.arange(400) % 7
    grouped = RegressionSums.of(probability, labels, group, 7)
    np.testing.assert_allclose(grouped.total().values, whole.values)
    np.testing.assert_allclose(grouped.weighted(np.ones((2, 7))).icc()[1], whole.icc())


def distance_to_the_whole() -> list[float]:
    """On each rank: half of the frames go in, the sums of all come out."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    random = np.random.default_rng(7)
    prediction, labels = random.random((90, 2)), random.integers(-1, 2, (90, 2))
    own = slice(45 * rank, 45 * (rank + 1))
    parts = (
        RegressionSums.of(prediction[own], labels[own]),
        DetectionCounts.of(prediction[own] >= 0.5, labels[own]),
    )
    wanted = (
        RegressionSums.of(prediction, labels),
        DetectionCounts.of(prediction >= 0.5, labels),
    )
    return [
        float(np.abs(part.over_ranks().values - whole.values).max())
        for part, whole in zip(parts, wanted, strict=True)
    ]


def test_ranks_add_up_to_the_whole_without_gathering_predictions() -> None:
    assert np.max(run_ranks(distance_to_the_whole, 2)) < 1e-9


def test_always_on_scores_what_the_public_label_lists_give() -> None:
    assert 100 * always_on_f1(BP4D_RATES).mean() == pytest.approx(48.0, abs=0.05)
    assert 100 * always_on_f1(DISFA_RATES).mean() == pytest.approx(18.6, abs=0.05)
    labels = (np.random.default_rng(3).random((20_000, 12)) < BP4D_RATES).astype(np.int8)
    assert 100 * DetectionCounts.of(
        np.ones_like(labels, bool), labels
    ).f1().mean() == pytest.approx(48.0, abs=0.5)


def test_a_fair_coin_scores_what_its_formula_says() -> None:
    random = np.random.default_rng(4)
    labels = (random.random((200_000, 1)) < 0.2).astype(np.int8)
    assert DetectionCounts.of(random.random((200_000, 1)) < 0.5, labels).f1()[
        0
    ] == pytest.approx(coin_f1(np.array(0.2)), abs=0.01)


def test_unknown_stays_unknown_when_intensity_becomes_occurrence() -> None:
    assert occurrence(np.array([[-1, 0, 1, 2, 5]]), 2).tolist() == [[-1, 0, 0, 1, 1]]


def test_thresholds_are_those_of_the_highest_f1() -> None:
    labels = np.array([[0], [0], [1], [1]])
    threshold = best_thresholds(np.array([[0.1], [0.22], [0.25], [0.3]]), labels)[0]
    assert 0.22 < threshold <= 0.25
    assert best_thresholds(np.array([[0.1], [0.2]]), np.array([[0], [0]]))[0] == 0.5


def test_intensities_given_as_occurrence_are_refused() -> None:
    with pytest.raises(ValueError, match="occurrence"):
        DetectionCounts.of(np.ones((2, 1), bool), np.array([[0], [3]]))


def test_predictions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        RegressionSums.of(np.array([[np.nan]]), np.array([[1]]))
