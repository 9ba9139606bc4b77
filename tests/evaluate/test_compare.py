"""The table that says what a backbone is worth must tell signal from none, and print the
constant beside both.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.evaluate.compare import CompareSettings, compare
from ausl_dist.evaluate.report.tables import to_markdown, to_text, write_report
from ausl_dist.evaluate.scores.formulas import coin_f1
from tests.support.evaluation_tables import make_table


def test_signal_beats_noise_and_both_stand_beside_the_constant() -> None:
    good = make_table(subjects=10)
    bad = replace(
        good,
        features=np.random.default_rng(9).normal(size=good.features.shape).astype(np.float32),
    )
    result = compare({"pretrained": good, "random weights": bad})
    pretrained, random_weights, constant, guess = result.rows
    assert pretrained.scores["icc"].mean > 0.9
    assert abs(random_weights.scores["icc"].mean) < 0.1
    assert constant.scores["icc"].mean == 0
    assert abs(guess.scores["icc"].mean) < 0.1
    assert result.gains["random weights"].interval is not None
    assert result.gains["random weights"].interval[0] > 0.5
    text = to_text(result)
    assert "pretrained" in text
    assert "constant" in text
    assert "10 identities, 3 of them tested on" in text


def test_the_report_can_be_read_back_and_scores_recomputed_from_the_predictions(
    tmp_path: Path,
) -> None:
    result = compare(
        {"pretrained": make_table()}, CompareSettings(task="occurrence", resamples=50)
    )
    write_report(result, tmp_path, corpus={"name": "made up"})
    report = json.loads((tmp_path / "report.json").read_text())
    lines = (tmp_path / "predictions-pretrained.csv").read_text().splitlines()
    values = np.array([[float(cell) for cell in line.split(",")[3:]] for line in lines[1:]])
    decision, label = values[:, 0] >= 0.5, values[:, 1] == 1
    f1 = 2 * (decision & label).sum() / (decision.sum() + label.sum())
    assert report["rows"][0]["pooled"]["f1"]["per_unit"][0] == pytest.approx(f1, abs=1e-5)
    assert report["corpus"]["name"] == "made up"
    assert to_markdown(result).startswith("| F1 at 0.5 | AU4 | AU12 |")


def test_a_guess_scores_what_chance_gives() -> None:
    table = make_table(subjects=8, frames=3000, dim=2)
    rates = (table.labels >= 2).mean(0)
    guess = compare({"a": table}, CompareSettings(task="occurrence", resamples=0)).rows[-1]
    np.testing.assert_allclose(guess.scores["f1"].per_unit, coin_f1(rates), atol=0.02)
    intensity = compare({"a": table}, CompareSettings(resamples=0)).rows[-1]
    levels, labels = intensity.predictions.values, intensity.predictions.labels
    shares = [[(values == level).mean() for level in range(6)] for values in (levels, labels)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.02)


def test_tables_of_different_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="different frames"):
        compare({"a": make_table(seed=0), "b": make_table(seed=1)})


def test_a_unit_that_never_shows_is_left_out() -> None:
    table = make_table()
    labels = table.labels.copy()
    labels[:, 0] = 0
    assert compare({"a": replace(table, labels=labels)}).rows[0].predictions.action_units == (
        12,
    )


def test_mean_of_folds_and_pooled_are_both_given_and_every_subject_is_tested_once() -> None:
    table = make_table(noise=3)
    folds = [
        ("P1", ("S00", "S01", "S02")),
        ("P2", ("S03", "S04", "S05")),
        ("P3", ("S06", "S07")),
    ]
    row = compare({"a": table}, folds=folds).rows[0]
    mean = np.mean([result.scores["icc"].mean for result in row.folds])
    assert row.mean_of_folds("icc").mean == pytest.approx(mean)
    assert row.scores["icc"].mean != pytest.approx(mean, abs=1e-9)
    assert len(row.predictions.values) == len(table)
