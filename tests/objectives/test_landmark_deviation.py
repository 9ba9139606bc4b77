"""Landmark deviation learns each movement in its own spread, and only of clips with landmarks."""

import pytest
import torch

from ausl_dist.objectives.landmark_deviation import LandmarkDeviation
from tests.support.tiny import make_batch, make_model

TARGET = "ausl_dist.objectives.landmark_deviation.LandmarkDeviation"


def test_the_whitening_is_kept_only_of_steps_that_were_taken() -> None:
    model = make_model(landmark_deviation={"_target_": TARGET, "frames": 4})
    objective = model.objectives["landmark_deviation"]
    assert isinstance(objective, LandmarkDeviation)
    model(make_batch(model.plan, 2))
    model.after_step(False)
    assert float(objective.whiten.weight) == 0.0
    model(make_batch(model.plan, 2))
    model.after_step(True)
    assert float(objective.whiten.weight) == pytest.approx(0.01)
    assert (objective.whiten.mean.diagonal() > 0).all()


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="frames >= 1"):
        LandmarkDeviation(feature_dim=4, frames=0)


def test_one_frame_of_a_clip_is_enough() -> None:
    model = make_model(landmark_deviation={"_target_": TARGET, "frames": 1})
    assert torch.isfinite(model(make_batch(model.plan, 2)).loss)


def test_a_clip_without_landmarks_does_not_count() -> None:
    model = make_model(landmark_deviation={"_target_": TARGET, "frames": 4})
    batch = make_batch(model.plan, 2)
    for points in batch.landmarks.values():
        points[1] = torch.nan
    both = model(batch).loss
    assert torch.isfinite(both)
    assert float(model(batch.cut(0, 1)).loss.detach()) == pytest.approx(float(both.detach()))
