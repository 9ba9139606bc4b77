"""What a face does beyond its own mean over the clip, told from who it is and how its head moves."""

import pytest
import torch
import torch.nn.functional as F

from ausl_dist.objectives.clip_mean import (
    RunningSpread,
    RunningWhitening,
    deviations,
    with_still_head,
)

SIDE = 48


def faces(clips: int = 2, frames: int = 6) -> torch.Tensor:
    one = 20 * torch.rand(clips, 1, 68, 2, generator=torch.Generator().manual_seed(0)) + 10
    return one.expand(-1, frames, -1, -1).clone()


def test_a_head_that_moves_turns_and_grows_leaves_nothing() -> None:
    still = faces()
    turn = torch.tensor([[1.1, 0.2], [-0.15, 0.9]])
    still[:, :3] = still[:, :1] @ turn + torch.arange(3.0).view(3, 1, 1)
    assert deviations(still, still.mean(1)).abs().max() < 2e-3


def test_a_mouth_that_opens_is_what_is_left_and_the_rest_stays() -> None:
    points = faces()
    points[:, 3, 57:59, 1] += 6.0  # two points of the lower lip, in one frame of six
    left = deviations(points, points.mean(1))
    size = left[:, 3, 57:59, 1].min()
    assert size > 0.1
    assert left[:, 3, :48].abs().max() < size / 5
    # the others are below the mean by what this one is above it
    assert (left[:, 0, 57:59, 1] < 0).all()


def test_a_mean_face_of_the_whole_clip_shows_what_stays_in_a_window() -> None:
    points = faces()
    whole = points[:, 0].clone()
    points[:, :, 57:59, 1] += 6.0  # the mouth is open in every frame of the window
    assert deviations(points, points.mean(1)).abs().max() < 2e-3
    assert deviations(points, whole)[:, :, 57:59, 1].min() > 0.1


def test_frames_under_a_moving_head_become_one_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = F.interpolate(
        torch.randn(1, 3, 8, 8, generator=generator), size=SIDE, mode="bicubic"
    )
    shifts = torch.tensor([[-2.5, 0.0], [0.0, 1.5], [2.5, -1.5]])
    motion = torch.eye(2).expand(3, 2, 2)
    grid = F.affine_grid(
        torch.cat([motion, -2 * shifts[..., None] / SIDE], -1), [3, 3, SIDE, SIDE], False
    )
    frames = F.grid_sample(picture.expand(3, -1, -1, -1), grid, align_corners=False)
    points = faces(1, 3) + shifts[None, :, None]
    moved = with_still_head(frames[None], points)[0, :, :, 8:-8, 8:-8]
    before = frames[:, :, 8:-8, 8:-8].var(0).mean()
    assert moved.var(0).mean() < before / 20
    assert (moved - picture[..., 8:-8, 8:-8]).abs().mean() < 0.1


def test_without_landmarks_nothing_breaks() -> None:
    frames = torch.randn(1, 3, 3, SIDE, SIDE)
    assert torch.isfinite(with_still_head(frames, torch.zeros(1, 3, 68, 2))).all()


def test_a_spread_is_kept_of_steps_that_were_taken_and_of_clips_that_count() -> None:
    spread = RunningSpread(2, memory=0.9)
    squares, mask = torch.tensor([[4.0, 1.0], [9e9, 9e9]]), torch.tensor([1.0, 0.0])
    torch.testing.assert_close(spread(squares, mask), torch.tensor([2.0, 1.0]))
    spread.after_step(False)
    assert float(spread.weight) == 0.0
    spread(squares, mask)
    spread.after_step(True)
    assert float(spread.weight) == pytest.approx(0.1)
    torch.testing.assert_close(spread(squares, 0 * mask), torch.tensor([2.0, 1.0]))


def test_what_hardly_moves_stays_small() -> None:
    spread = RunningSpread(2)(torch.tensor([[1.0, 0.0]]), torch.ones(1))
    assert spread[1] == pytest.approx(0.2 * 0.5)


def test_a_movement_of_many_points_counts_once_and_noise_stays_small() -> None:
    generator = torch.Generator().manual_seed(0)
    jaw, nostril, noise = torch.randn(3, 500, 4, 1, generator=generator)  # B T 1
    points = torch.cat([9 * jaw.expand(-1, -1, 6), nostril, 1e-3 * noise], -1)  # B T 8
    white = RunningWhitening(8, floor=1e-3, largest=9.0)(points, torch.ones(500))
    variance = white.flatten(0, 1).var(0)
    assert variance.mean() == pytest.approx(1.0, abs=0.1)
    # six points that move as one are one movement, as much as the one point beside them
    assert variance[:6].sum() == pytest.approx(float(variance[6]), rel=0.2)
    assert variance[7] < 0.05


def test_what_lies_far_off_is_cut() -> None:
    values = torch.randn(100, 4, 3, generator=torch.Generator().manual_seed(0))
    whiten = RunningWhitening(3, floor=0.01, largest=2.0)
    values[0, 0] = 1e3
    whiten(values[1:], torch.ones(99))
    whiten.after_step(True)
    assert whiten(values, torch.cat([torch.zeros(1), torch.ones(99)])).abs().max() < 2.1


def test_whitening_is_kept_of_steps_that_were_taken_and_of_clips_that_count() -> None:
    whiten = RunningWhitening(3, floor=0.1, largest=4.0)
    values = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    wild, mask = values.clone(), torch.tensor([1.0, 0.0])
    wild[1] = 1e6
    once = whiten(values, mask)[:1]
    torch.testing.assert_close(whiten(wild, mask)[:1], once)
    whiten.after_step(False)
    assert float(whiten.weight) == 0.0
    whiten(values, mask)
    whiten.after_step(True)
    assert float(whiten.weight) == pytest.approx(0.01)
    assert torch.isfinite(RunningWhitening(3, floor=0.1, largest=4.0)(values, 0 * mask)).all()


def test_a_memory_is_a_share() -> None:
    with pytest.raises(ValueError, match="memory"):
        RunningSpread(2, memory=1.0)
    with pytest.raises(ValueError, match="floor"):
        RunningWhitening(2, floor=0.0, largest=4.0)
