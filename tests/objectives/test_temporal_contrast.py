"""Temporal contrast: both variants are the stated formulas, and the hard one holds temporal
ranking as a special case.
"""

import math

import numpy as np
import pytest
import torch

from ausl_dist.objectives.temporal_contrast import (
    STRONG,
    TemporalContrast,
    hard_margin_loss,
    soft_margin_loss,
)
from ausl_dist.objectives.temporal_ranking import ranking_loss
from ausl_dist.train.teacher import Teacher
from tests.support.tiny import make_batch, make_model

TARGET = "ausl_dist.objectives.temporal_contrast.TemporalContrast"


def test_soft_variant_is_its_formula() -> None:
    s = np.random.default_rng(0).uniform(-1, 1, (2, 5, 5))
    expected = np.zeros(2)
    for clip in range(2):
        for i in range(5):
            terms = [math.exp((s[clip, i, j] + 0.2 * abs(i - j) / 4) / 0.1) for j in range(5)]
            expected[clip] -= math.log(terms[i] / sum(terms)) / 5
    np.testing.assert_allclose(
        soft_margin_loss(torch.tensor(s), 0.1, 0.2).numpy(), expected, rtol=1e-10
    )


def test_hard_variant_is_its_formula() -> None:
    s = np.random.default_rng(1).uniform(-1, 1, (1, 5, 5))
    total = sum(
        max(0.0, s[0, i, far] - s[0, i, near] + 0.2 * (abs(i - far) - abs(i - near)) / 4)
        for i in range(5)
        for near in range(5)
        for far in range(5)
        if abs(i - near) < abs(i - far)
    )
    assert float(hard_margin_loss(torch.tensor(s), 0.2)) == pytest.approx(total / 5, rel=1e-10)


def test_equal_frames_without_margin_cost_the_log_of_their_number() -> None:
    assert float(soft_margin_loss(torch.ones(1, 8, 8), 0.1, 0.0)) == pytest.approx(
        math.log(8), abs=1e-5
    )


def test_margin_grows_with_distance_in_time() -> None:
    """A similarity to a far frame must cost more than the same similarity to a near one."""
    near, far = torch.eye(8)[None], torch.eye(8)[None]
    near[0, 0, 1] = far[0, 0, 7] = 0.9
    assert (
        float(soft_margin_loss(far, 0.1, 0.2)) > float(soft_margin_loss(near, 0.1, 0.2)) + 0.01
    )


def test_ranking_of_neighbours_from_the_first_frame_is_a_part_of_the_hard_variant() -> None:
    torch.manual_seed(0)
    frames = torch.nn.functional.normalize(torch.randn(1, 6, 16, dtype=torch.float64), dim=-1)
    similarity = frames @ frames.transpose(1, 2)
    margin = 0.03
    first = similarity[:, 0, 1:]
    # cosine margin: half of that of squared distance
    neighbours = (first[:, 1:] - first[:, :-1] + margin / 2).clamp(min=0).sum(1)
    ranked = ranking_loss((frames[:, :1] - frames[:, 1:]).square().sum(-1), margin)
    torch.testing.assert_close(2 * neighbours, ranked)


def test_the_student_sees_one_view_and_the_teacher_the_other() -> None:
    model = make_model(contrast={"_target_": TARGET, "frames": 4, "stride": 1})
    model.teacher = teacher = Teacher(model, torch.device("cpu"))
    batch = make_batch(model.plan, 2)
    model(batch).loss.backward()
    assert all(
        parameter.grad is None
        for module in teacher._modules.values()
        for parameter in module.parameters()
    )
    alone = make_model(
        contrast={"_target_": TARGET, "frames": 4, "stride": 1, "keys": "student"}
    )
    assert not alone.needs_teacher
    alone(batch).loss.backward()


def test_views_that_are_one_are_refused() -> None:
    with pytest.raises(ValueError, match="draw=1"):
        TemporalContrast(feature_dim=8, view=STRONG, key_view=STRONG)
