"""What landmarks say beyond head and identity, and that it is learnt in its own spread."""

import pytest
import torch

from ausl_dist.objectives.landmark_deviation import LandmarkDeviation, deviations
from tests.support.tiny import make_batch, make_model

TARGET = "ausl_dist.objectives.landmark_deviation.LandmarkDeviation"


def faces(clips: int = 2, frames: int = 6) -> torch.Tensor:
    one = 20 * torch.rand(clips, 1, 68, 2, generator=torch.Generator().manual_seed(0)) + 10
    return one.expand(-1, frames, -1, -1).clone()


def test_a_head_that_moves_turns_and_grows_leaves_nothing() -> None:
    still = faces()
    turn = torch.tensor([[1.1, 0.2], [-0.15, 0.9]])
    still[:, :3] = still[:, :1] @ turn + torch.arange(3.0).view(3, 1, 1)
    assert deviations(still).abs().max() < 2e-3


def test_a_mouth_that_opens_is_what_is_left_and_the_rest_stays() -> None:
    points = faces()
    points[:, 3, 57:59, 1] += 6.0  # two points of the lower lip, in one frame of six
    left = deviations(points)
    size = left[:, 3, 57:59, 1].min()
    assert size > 0.1
    assert left[:, 3, :48].abs().max() < size / 5
    # the others are below the mean by what this one is above it
    assert (left[:, 0, 57:59, 1] < 0).all()


def test_the_spread_is_kept_only_of_steps_that_were_taken() -> None:
    model = make_model(landmark_deviation={"_target_": TARGET, "frames": 4})
    objective = model.objectives["landmark_deviation"]
    assert isinstance(objective, LandmarkDeviation)
    model(make_batch(model.plan, 2))
    model.after_step(False)
    assert float(objective.weight) == 0.0
    model(make_batch(model.plan, 2))
    model.after_step(True)
    assert float(objective.weight) == pytest.approx(0.01)
    assert (objective.square > 0).all()


def test_a_mean_face_wants_frames() -> None:
    with pytest.raises(ValueError, match="frames >= 2"):
        LandmarkDeviation(feature_dim=4, frames=1)
