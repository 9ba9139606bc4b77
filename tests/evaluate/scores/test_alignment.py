"""The alignment meter must move the picture the way it says, and see a score fall where
position matters.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.evaluate.compare import CompareSettings, compare
from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.scores.alignment import Disturbance, disturbed, measure
from ausl_dist.stream.scan import scan
from tests.support.corpora import make_corpus
from tests.support.evaluation_tables import make_table


@pytest.mark.parametrize(
    ("disturbance", "place"),
    [
        (Disturbance("shift right", 0.25), (16, 24)),
        (Disturbance("shift down", 0.25), (24, 16)),
        (Disturbance("scale", 0.5), (16, 16)),
        (Disturbance("turn", 90.0), (16, 16)),
    ],
)
def test_a_disturbance_moves_the_middle_where_it_says(
    disturbance: Disturbance, place: tuple[int, int], tmp_path: Path
) -> None:
    clip = next(scan(str(make_corpus(tmp_path, clips=1, frames=2, size=48)), image_size=32))
    picture = torch.zeros_like(clip.frames)
    picture[:, :, 14:18, 14:18] = 1
    (moved,) = disturbed([replace(clip, frames=picture)], disturbance)
    y, x = (
        moved.frames[0, 0].sum(dim).dot(torch.arange(32.0) + 0.5) / moved.frames[0, 0].sum()
        for dim in (1, 0)
    )
    assert (float(y), float(x)) == pytest.approx(place, abs=0.1)
    if disturbance.kind == "scale":
        # half the size, a quarter of the 16 pixels
        assert float(moved.frames[0, 0].sum()) == pytest.approx(4, abs=0.5)


def test_the_meter_reads_the_fall_of_the_score_of_the_same_probes() -> None:
    table = make_table(noise=0.1)
    settings = CompareSettings(resamples=0)
    comparison = compare({"a": table}, settings)

    def table_of(disturbance: Disturbance) -> FeatureTable:
        noise = (
            np.random.default_rng(0).normal(size=table.features.shape)
            * 30
            * abs(disturbance.amount)
        )
        return replace(
            table,
            features=(table.features + noise).astype(np.float32),
            fingerprint=table.fingerprint + np.uint64(10**9),
        )

    right, little, much = measure(
        comparison,
        settings,
        table_of,
        [Disturbance("shift right", amount) for amount in (0.02, 0.2)],
    )
    assert right["score"] == pytest.approx(
        comparison.rows[0].mean_of_folds("icc").mean, abs=1e-6
    )
    assert right["score"] > little["score"] > much["score"]
