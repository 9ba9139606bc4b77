"""Single-image flow: targets are the true motion of the face, without the head's, and mirror as
they should.
"""

import dataclasses

import pytest
import torch

from ausl_dist.batch import Needs, View
from ausl_dist.objectives.head_motion import head_motion_removed
from ausl_dist.objectives.single_image_flow import SingleImageFlow, orientation
from ausl_dist.stream.motion import measured_flow
from tests.stream.test_motion import moved_picture
from tests.support.tiny import make_batch, make_model, measured


def landmarks() -> torch.Tensor:
    return torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) * 60 + 18


def test_a_shift_of_the_whole_picture_is_taken_off() -> None:
    flow = torch.from_numpy(measured_flow(*moved_picture(3, -2)))[None]
    left = head_motion_removed(flow, landmarks())[0, :, 16:-16, 16:-16]
    assert float(left.abs().median()) < 0.1


def test_opposite_flows_have_one_orientation() -> None:
    flow = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(orientation(flow), orientation(-flow))
    torch.testing.assert_close(orientation(flow).norm(dim=1), flow.norm(dim=1))


def test_either_direction_takes_the_better_sign_for_each_pair() -> None:
    objective = SingleImageFlow(feature_dim=8, direction="either")
    guess, mask = torch.randn(2, 2, 4, 4), torch.ones(2, 4, 4)
    assert float(objective._error(guess, -guess, mask).max()) == 0
    assert float(SingleImageFlow(feature_dim=8)._error(guess, -guess, mask).min()) > 0


def test_pairs_that_stand_still_or_leap_are_left_out() -> None:
    model = make_model(
        flow={"_target_": "ausl_dist.objectives.single_image_flow.SingleImageFlow", "gap": 1}
    )
    batch = make_batch(model.plan, 3)
    for view, frames in batch.frames.items():
        frames[0, 1] = frames[0, 0]
        batch.flow[view] = measured(frames, [0, 1])
    output = model(batch)
    output.loss.backward()
    assert float(output.logs["flow/usable"]) <= 2 / 3 + 1e-6
    assert bool(torch.isfinite(output.loss.detach()))


def test_crops_drawn_for_each_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="per_frame=false"):
        SingleImageFlow(feature_dim=8, view=View(per_frame=True))


def test_stored_motion_gives_the_loss_of_the_same_motion_measured() -> None:
    torch.manual_seed(0)
    model = make_model(
        single_image_flow={"_target_": "ausl_dist.objectives.single_image_flow.SingleImageFlow"}
    )
    objective = model.objectives["single_image_flow"]
    measured_batch = make_batch(model.plan, 4)
    view = objective.view
    before = model(measured_batch).loss
    objective.source = "stored"
    flow = measured_batch.flow[view]
    model.plan = Needs.union([objective.needs()])
    stored = dataclasses.replace(
        measured_batch,
        frames={view: measured_batch.frames[view][:, :1]},
        landmarks={view: measured_batch.landmarks[view][:, :1]},
    )
    assert model.plan.flow_gap == 18
    torch.testing.assert_close(model(stored).loss, before)
    unknown = dataclasses.replace(stored, flow={view: torch.full_like(flow, torch.nan)})
    assert float(model(unknown).loss.detach()) == 0
