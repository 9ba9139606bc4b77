"""The motion of a head: a turn is taken off whatever the pose, an expression stays, and
mirrored faces give mirrored answers.
"""

import dataclasses

import numpy as np
import pytest
import torch

from ausl_dist.faces.landmarks import MIRROR
from ausl_dist.objectives.head_motion import MEAN_FACE, STILL, head_motion_removed
from ausl_dist.world.head import BuiltinHead
from ausl_dist.world.render import RenderedClip, World

# radians: yaw, pitch, roll
TURNS = (
    (0.08, 0.0, 0.0),
    (0.0, 0.08, 0.0),
    (0.0, 0.0, 0.08),
    (-0.05, 0.05, 0.04),
)


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return World(BuiltinHead(), size=128, seconds=0.2).clip(0, 0)


def posed(clip: RenderedClip, **motion: object) -> RenderedClip:
    """The clip with nothing that moves but what `motion` says, for all of its frames."""
    still = {
        name: np.zeros_like(getattr(clip.motion, name))
        for name in ("intensities", "angles", "shift", "gaze")
    }
    for name, value in motion.items():
        still[name][:] = value
    return RenderedClip(
        clip.world,
        clip.face,
        dataclasses.replace(clip.motion, **still),
        clip.scene,
        clip._grain,
    )


def true_flow(
    clip: RenderedClip, start: dict[str, object], end: dict[str, object]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow 1 2 H W from one state of a face to another, and the landmarks 1 68 2 of the first."""
    first, last = posed(clip, **start).motion, posed(clip, **end).motion
    names = ("intensities", "angles", "shift", "gaze")
    joined = {
        name: np.concatenate([getattr(first, name)[:1], getattr(last, name)[1:]])
        for name in names
    }
    both = RenderedClip(
        clip.world, clip.face, dataclasses.replace(first, **joined), clip.scene, clip._grain
    )
    return torch.from_numpy(both.flow(0, 4).motion.transpose(2, 0, 1).copy())[
        None
    ], torch.from_numpy(both.landmarks[:1])


@pytest.mark.parametrize("start", [0.0, 0.35, -0.35])
def test_the_turning_of_a_head_is_taken_off_and_not_only_its_shift(
    clip: RenderedClip, start: float
) -> None:
    for turn in TURNS:
        flow, points = true_flow(
            clip, {"angles": (start, 0, 0)}, {"angles": np.add((start, 0, 0), turn)}
        )
        # without the jaw, at whose points the background is seen
        at = points[0].round().long()[17:]
        before, left = (
            field[0, :, at[:, 1], at[:, 0]]
            for field in (flow, head_motion_removed(flow, points))
        )
        shift_off = before - before[:, [number - 17 for number in STILL]].mean(1, keepdim=True)
        assert left.norm(dim=0).mean() < 0.5 * shift_off.norm(dim=0).mean(), turn


@pytest.mark.parametrize(
    ("unit", "landmarks", "share"),
    [(12, (48, 54), 0.8), (4, (20, 23), 0.8), (9, (21, 22), 0.4), (26, (7, 9), 0.8)],
)
def test_what_an_expression_moves_stays(
    clip: RenderedClip, unit: int, landmarks: tuple[int, ...], share: float
) -> None:
    units = np.zeros(len(clip.world.head.action_units), np.float32)
    units[clip.world.head.action_units.index(unit)] = 5.0
    flow, points = true_flow(clip, {}, {"intensities": units})
    at = points[0, list(landmarks)].round().long()
    before, after = (
        field[0, :, at[:, 1], at[:, 0]].norm(dim=0).mean()
        for field in (flow, head_motion_removed(flow, points))
    )
    assert float(before) > 0.3
    assert float(after) > share * float(before)


def test_a_mirrored_face_gives_the_mirrored_field(clip: RenderedClip) -> None:
    flow, points = true_flow(clip, {}, {"angles": (0.08, 0.03, 0.02)})
    sign = torch.tensor([-1.0, 1.0])[:, None, None]
    mirrored = torch.stack([flow.shape[-1] - 1 - points[..., 0], points[..., 1]], -1)[:, MIRROR]
    expected = head_motion_removed(flow, points).flip(-1) * sign
    torch.testing.assert_close(
        head_motion_removed(flow.flip(-1) * sign, mirrored), expected, atol=1e-3, rtol=0
    )


def test_half_precision_around_it_changes_nothing(clip: RenderedClip) -> None:
    flow, points = true_flow(clip, {}, {"angles": (0.08, 0.03, 0.02)})
    with torch.autocast("cpu", torch.bfloat16):
        inside = head_motion_removed(flow, points)
    assert torch.equal(inside, head_motion_removed(flow, points))


def test_landmarks_that_lie_all_in_one_place_give_numbers() -> None:
    assert torch.isfinite(
        head_motion_removed(torch.randn(2, 2, 8, 8), torch.zeros(2, 68, 2))
    ).all()


def test_the_mean_face_is_that_of_the_builtin_head() -> None:
    world = World(BuiltinHead(), size=64)
    points = np.mean(
        [world.face(identity).points[world.head.mesh.landmarks] for identity in range(20)], 0
    )
    points /= np.linalg.norm(points[45] - points[36])
    face = np.array(MEAN_FACE)
    np.testing.assert_allclose(face - face.mean(0), points - points.mean(0), atol=0.06)
    np.testing.assert_array_equal(face, face[MIRROR] * (-1, 1, 1))
