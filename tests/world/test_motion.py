"""Movement over time: what the labels say, and no clock for an objective to read off the head."""

import numpy as np
import pytest

from ausl_dist.randomness import random_stream
from ausl_dist.world.expressions import ACTION_UNITS
from ausl_dist.world.motion import COMBINATIONS, Motion, draw_motion

FRAMES = 50


@pytest.fixture(scope="module")
def motions() -> list[Motion]:
    return [
        draw_motion(ACTION_UNITS, FRAMES, 25.0, random_stream("test motion", number))
        for number in range(150)
    ]


def test_pure_in_its_stream() -> None:
    a, b, c = (
        draw_motion(ACTION_UNITS, FRAMES, 25.0, random_stream("test motion", seed))
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(a.intensities, b.intensities)
    np.testing.assert_array_equal(a.angles, b.angles)
    assert not np.array_equal(a.angles, c.angles)


def test_intensities_lie_between_0_and_5_and_change_smoothly(motions: list[Motion]) -> None:
    levels = np.stack([motion.intensities for motion in motions])
    assert levels.min() >= 0
    assert levels.max() <= 5
    assert np.abs(np.diff(levels, axis=1)).max() <= 3.2  # a blink takes 0.1 s


def test_every_unit_is_seen_strong_and_absent(motions: list[Motion]) -> None:
    levels = np.concatenate([motion.intensities for motion in motions])
    active = (np.rint(levels) >= 2).mean(0)
    assert (active > 0.015).all(), dict(zip(ACTION_UNITS, active, strict=True))
    assert (active < 0.5).all()
    assert levels.max(0).min() > 3.5


def test_6_comes_with_12_more_often_than_with_4(motions: list[Motion]) -> None:
    levels = np.concatenate([motion.intensities for motion in motions])
    together = np.corrcoef(levels.T)
    six, twelve, four = (ACTION_UNITS.index(unit) for unit in (6, 12, 4))
    assert together[six, twelve] > 0.3
    assert together[six, four] < 0.15


def test_pose_light_and_camera_come_and_go(motions: list[Motion]) -> None:
    # clips T 7
    moves = np.concatenate(
        [np.stack([np.column_stack([m.angles, m.shift, m.light]) for m in motions])], 1
    )
    moves = moves - moves.mean(1, keepdims=True)
    moves /= moves.std(1, keepdims=True) + 1e-9
    ends = np.abs(moves[:, [0, -1]]).mean()
    # first and last frame are no further out than others
    assert 0.8 < ends / np.abs(moves).mean() < 1.25
    time = np.linspace(-1, 1, FRAMES)
    drift = np.abs((moves * time[:, None]).mean(1)) / time.std()  # |correlation with time|
    assert drift.mean() < 0.3
    # The whole swing is passed both ways: the way back is as long as the way there.
    steps = np.diff(moves, axis=1)
    assert np.abs(steps.sum(1)).mean() < 0.15 * np.abs(steps).sum(1).mean()


def test_pose_is_independent_of_the_action_units(motions: list[Motion]) -> None:
    levels = np.stack([m.intensities.mean(0) for m in motions])
    angles = np.stack([m.angles.mean(0) for m in motions])
    across = np.corrcoef(levels.T, angles.T)[: len(ACTION_UNITS), len(ACTION_UNITS) :]
    assert np.abs(across).max() < 0.4


def test_a_head_with_few_units_gets_only_these() -> None:
    motion = draw_motion((12, 26), FRAMES, 25.0, random_stream("few", 0))
    assert motion.intensities.shape == (FRAMES, 2)
    assert all(units for units, _ in COMBINATIONS)


def test_a_single_frame_is_a_clip_too() -> None:
    assert draw_motion(ACTION_UNITS, 1, 25.0, random_stream("short", 0)).angles.shape == (1, 3)
