"""Single-image flow: targets are the true motion of the face, without the head's, and mirror as
they should.
"""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from ausl_dist.batch import Plan, View
from ausl_dist.objectives.head_motion import head_motion_removed
from ausl_dist.objectives.single_image_flow import SingleImageFlow, estimate_flow, orientation
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from tests.support.tiny import make_batch, make_model

SIZE = 96


def texture(seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(20, 235, (40, 40, 3)).astype(np.float32)
    return cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def normalised(frames: list[np.ndarray]) -> torch.Tensor:
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None] / 255
    return (pixels - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[
        :, None, None
    ]


def moved(x: int, y: int) -> torch.Tensor:
    """Two frames of a picture that moves by (x, y) pixels: 1 2 3 H W."""
    picture = texture()
    return normalised(
        [picture[32 - j : 32 - j + SIZE, 32 - i : 32 - i + SIZE] for i, j in ((0, 0), (x, y))]
    )


def landmarks() -> torch.Tensor:
    return torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) * 60 + 18


def test_a_translation_is_recovered() -> None:
    flow = estimate_flow(moved(3, -2))[0, :, 16:-16, 16:-16]
    assert torch.allclose(flow.flatten(1).median(1).values, torch.tensor([3.0, -2.0]), atol=0.1)


def test_no_motion_gives_a_target_of_zero() -> None:
    assert float(estimate_flow(moved(0, 0)).abs().max()) < 1e-3


def test_a_shift_of_the_whole_picture_is_taken_off() -> None:
    left = head_motion_removed(estimate_flow(moved(3, -2)), landmarks())[0, :, 16:-16, 16:-16]
    assert float(left.abs().median()) < 0.1


def test_a_mirrored_pair_gives_the_mirrored_field_with_u_negated() -> None:
    pair = moved(3, -2)
    flow, mirrored = estimate_flow(pair), estimate_flow(pair.flip(-1)).flip(-1)
    difference = (mirrored * torch.tensor([-1.0, 1.0])[:, None, None] - flow)[
        ..., 16:-16, 16:-16
    ].abs()
    assert float(difference.median()) < 0.05


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
        batch.frames[view] = frames
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
    measured = make_batch(model.plan, 4)
    view = objective.view
    before = model(measured).loss
    objective.source = "stored"
    flow = estimate_flow(measured.frames[view])
    model.plan = Plan.union([objective.needs()])
    stored = dataclasses.replace(
        measured,
        frames={view: measured.frames[view][:, :1]},
        landmarks={view: measured.landmarks[view][:, :1]},
        flow={view: flow[:, None]},
    )
    assert model.plan.flow_gap == 18
    torch.testing.assert_close(model(stored).loss, before)
    unknown = dataclasses.replace(stored, flow={view: torch.full_like(flow[:, None], torch.nan)})
    assert float(model(unknown).loss.detach()) == 0
