"""The table of what objectives learn says what few labels give, beside what all of them give."""

from dataclasses import replace

import numpy as np
import pytest

from ausl_dist.evaluate.folds.splits import folds
from tests.support.evaluation_tables import make_table
from tools.objective_bench.labels import print_label_curve


def test_features_that_tell_need_few_labels_and_noise_has_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = make_table(subjects=8)
    random = np.random.default_rng(9)
    noise = random.normal(size=good.features.shape).astype(np.float32)
    tables = {"good-0": good, "good-1": good, "noise-0": replace(good, features=noise)}
    rows = {"good": ["good-0", "good-1"], "noise": ["noise-0"]}
    split = folds("rendered", good.present_subjects(), count=4)
    print_label_curve(tables, rows, split, [0.1, 1.0])
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "| ICC(3,1) with this share of the labels | 10% | 100% |"
    few, all_of_them = (float(cell.split(" ±")[0]) for cell in lines[2].split("|")[2:4])
    assert 0.8 < few <= all_of_them
    assert lines[2].startswith("| good |")
    assert abs(float(lines[3].split("|")[3].split(" ±")[0])) < 0.1
