"""Published scores are chosen on the test fold.

These tests plant the usual leaks and expect to be stopped.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ausl_dist.evaluate.folds.sealed import (
    Decided,
    LeakError,
    Looked,
    hold_out,
    inner_folds,
    share_of_subjects,
)
from ausl_dist.evaluate.predictors.probe import fit_linear
from ausl_dist.evaluate.scores.formulas import best_thresholds
from tests.support.evaluation_tables import make_table


def test_a_test_frame_in_training_under_another_name_is_caught() -> None:
    table = make_table()
    train, sealed = hold_out(table, ["S00", "S01"])
    stolen = table.take(np.flatnonzero(table.subject == 0)[:1])
    poisoned = replace(
        train, fingerprint=np.concatenate([train.fingerprint[:-1], stolen.fingerprint])
    )
    with pytest.raises(LeakError, match="1 test images"):
        sealed.open(fit_linear(poisoned, "intensity").decided)


def test_a_test_subject_in_training_is_caught() -> None:
    table = make_table()
    _, sealed = hold_out(table, ["S00", "S01"])
    with pytest.raises(LeakError, match="S00, S01"):
        sealed.open(fit_linear(table, "intensity").decided)


def test_a_threshold_tuned_on_the_test_fold_is_caught() -> None:
    table = make_table()
    train, sealed = hold_out(table, ["S00", "S01"])
    probe = fit_linear(train, "intensity")
    test = sealed.open(probe.decided)
    tuned = best_thresholds(probe.predict(test) / 5, (test.labels >= 2).astype(np.int8))
    with pytest.raises(LeakError, match="read already"):
        sealed.open(Decided(probe.decided.looked, {"threshold": tuned}))
    _, again = hold_out(table, ["S00", "S01"])
    with pytest.raises(LeakError, match="test subjects"):
        again.open(Decided(probe.decided.looked | Looked.at(test), {"threshold": tuned}))


def test_the_payload_cannot_be_reached_by_the_obvious_names() -> None:
    _, sealed = hold_out(make_table(), ["S00"])
    assert not any(
        isinstance(value, type(make_table()))
        for name, value in vars(sealed).items()
        if not name.startswith("_Sealed__")
    )


@given(
    st.sets(st.text("abcdef0123", min_size=1, max_size=6), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
    st.integers(0, 9),
)
def test_the_split_is_disjoint_never_empty_and_does_not_depend_on_order(
    names: set[str], share: float, seed: int
) -> None:
    subjects = sorted(names)
    test = share_of_subjects(subjects, share, seed)
    assert 0 < len(test) < len(subjects)
    assert set(test) <= names
    assert test == share_of_subjects(subjects[::-1], share, seed)


def test_one_subject_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="at least two"):
        share_of_subjects(["only"], 0.3)


def test_inner_folds_keep_subjects_whole() -> None:
    table = make_table(subjects=7)
    folds = inner_folds(table, 3, 0)
    assert set(folds) == {0, 1, 2}
    assert all(len(set(folds[table.subject == subject])) == 1 for subject in range(7))
