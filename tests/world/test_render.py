"""Frames, landmarks and flow of the rendered world are the truth that objectives are judged by."""

import dataclasses

import cv2
import numpy as np
import pytest

from ausl_dist.faces.landmarks import ANCHORS, TEMPLATE
from ausl_dist.world.head import BuiltinHead
from ausl_dist.world.motion import Motion
from ausl_dist.world.render import RenderedClip, World, flow


@pytest.fixture(scope="module")
def head() -> BuiltinHead:
    return BuiltinHead()


@pytest.fixture(scope="module")
def world(head: BuiltinHead) -> World:
    return World(head, size=128, seconds=0.8, seed=3)


@pytest.fixture(scope="module")
def clip(world: World) -> RenderedClip:
    return world.clip(1, 0)


def _posed(world: World, clip: RenderedClip, levels: np.ndarray) -> RenderedClip:
    """The clip's identity and scene with its head and eyes held still, and these intensities
    [T, K].
    """
    frames = len(levels)
    still = Motion(
        levels.astype(np.float32),
        *(np.zeros((frames, n), np.float32) for n in (3, 3, 2)),
        np.ones(frames, np.float32),
    )
    scene = dataclasses.replace(clip.scene, noise=0.0)
    return RenderedClip(world, clip.face, still, scene, np.zeros((frames, 2), np.int64))


def test_shapes_and_kinds(world: World, clip: RenderedClip) -> None:
    frame = clip.frame(0)
    assert frame.shape == (128, 128, 3)
    assert frame.dtype == np.uint8
    assert clip.landmarks.shape == (20, 68, 2)
    assert clip.intensities.shape == (20, len(world.head.action_units))
    assert 40 < frame.mean() < 220
    assert frame.std() > 20


def test_same_seed_same_bytes_other_seed_others(
    head: BuiltinHead, world: World, clip: RenderedClip
) -> None:
    again = World(BuiltinHead(), size=128, seconds=0.8, seed=3).clip(1, 0)
    np.testing.assert_array_equal(again.frame(7), clip.frame(7))
    np.testing.assert_array_equal(again.landmarks, clip.landmarks)
    for other in (
        World(head, size=128, seconds=0.8, seed=4).clip(1, 0),
        world.clip(2, 0),
        world.clip(1, 1),
    ):
        assert np.abs(other.frame(7).astype(int) - clip.frame(7)).mean() > 5


def test_landmarks_are_aligned_to_the_template(world: World) -> None:
    for identity in range(3):
        clip = world.clip(identity, 0)
        anchors = (clip.landmarks[:, ANCHORS] + 0.5) * 2 - 0.5  # of a crop of 256 pixels
        assert np.abs(anchors.mean(1) - TEMPLATE.mean(0)).max() < 6
        assert np.abs(anchors - TEMPLATE).max() < 25
        assert clip.landmarks.min() > 0
        assert clip.landmarks.max() < 127


def test_another_size_shows_the_same_picture(head: BuiltinHead, clip: RenderedClip) -> None:
    large = World(head, size=256, seconds=0.8, seed=3).clip(1, 0)
    np.testing.assert_allclose((large.landmarks + 0.5) / 2 - 0.5, clip.landmarks, atol=1e-3)
    small = cv2.resize(large.frame(0), (128, 128), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - clip.frame(0)).mean() < 5


def test_landmarks_lie_where_the_face_is(world: World, clip: RenderedClip) -> None:
    """The eyes are dark or bright against the cheeks, the brows darker than the forehead: at
    the landmarks, not beside them.
    """
    posed = _posed(world, clip, np.zeros((1, len(world.head.action_units))))
    picture = cv2.cvtColor(posed.frame(0), cv2.COLOR_RGB2GRAY).astype(float)
    marks = posed.landmarks[0]

    def contrast(points: np.ndarray) -> float:
        x, y = np.rint(points.mean(0)).astype(int)
        return float(picture[y - 3 : y + 4, x - 3 : x + 4].std())

    cheek = marks[[31, 48]].mean(0, keepdims=True) - np.array([12, 0])
    assert min(contrast(marks[36:42]), contrast(marks[42:48])) > 3 * contrast(cheek)


@pytest.mark.parametrize(
    ("unit", "part"),
    [
        (1, slice(21, 23)),
        (4, slice(20, 24)),
        (12, slice(48, 68)),
        (26, slice(48, 68)),
        (43, slice(36, 48)),
    ],
)
def test_an_action_unit_changes_its_own_part_of_the_picture(
    world: World, clip: RenderedClip, unit: int, part: slice
) -> None:
    levels = np.zeros((2, len(world.head.action_units)))
    levels[1, world.head.action_units.index(unit)] = 5
    posed = _posed(world, clip, levels)
    change = np.abs(posed.frame(1).astype(float) - posed.frame(0)).mean(2)
    marks = posed.landmarks[:, part].reshape(-1, 2)
    (left, top), (right, bottom) = (
        np.floor(marks.min(0)).astype(int) - 5,
        np.ceil(marks.max(0)).astype(int) + 6,
    )
    inside = np.zeros_like(change, bool)
    inside[top:bottom, left:right] = True
    assert change[inside].mean() > 5 * change[~inside].mean()
    assert change[inside].mean() > 4


def test_flow_is_the_motion_of_the_landmarks(world: World) -> None:
    for identity in range(3):
        clip = world.clip(identity, 1)
        truth = clip.landmarks[9] - clip.landmarks[5]
        motion = flow(clip, 5, 4)
        x, y = np.rint(clip.landmarks[5]).astype(int).T
        inner = np.r_[
            18:26, 27:36
            # not on a silhouette, nor on the edge of a lid or lip, where the next pixel moves
            # otherwise
        ]
        error = np.linalg.norm(motion.motion[y, x] - truth, axis=1)[inner]
        assert np.median(error) < 0.1
        assert error.max() < 0.5
        assert motion.visible[y, x][inner].mean() > 0.9


def test_warping_by_the_flow_gives_the_other_frame(world: World) -> None:
    """Measured on moving pixels of the face alone, and against leaving the frame as it is."""
    for identity in range(3):
        clip = world.clip(identity, 2)
        quiet = dataclasses.replace(clip.scene, noise=0.0, blur=0.0)
        clip = RenderedClip(
            world,
            clip.face,
            dataclasses.replace(clip.motion, light=np.ones(20, np.float32)),
            quiet,
            np.zeros((20, 2), np.int64),
        )
        here, there = clip.frame(4).astype(np.float32), clip.frame(9).astype(np.float32)
        true = clip.flow(4, 5)
        rows, columns = np.mgrid[:128, :128].astype(np.float32)
        warped = cv2.remap(
            there, columns + true.motion[:, :, 0], rows + true.motion[:, :, 1], cv2.INTER_LINEAR
        )
        moving = true.visible & (np.linalg.norm(true.motion, axis=2) > 1)
        assert moving.sum() > 100
        assert np.abs(warped - here)[moving].mean() < 0.5 * np.abs(there - here)[moving].mean()


def test_no_motion_no_flow(world: World, clip: RenderedClip) -> None:
    posed = _posed(world, clip, np.zeros((2, len(world.head.action_units))))
    still = posed.flow(0, 1)
    assert np.abs(still.motion).max() < 1e-3
    assert still.visible.mean() > 0.97


def test_flow_is_measured_to_the_other_frame_and_back(clip: RenderedClip) -> None:
    there, back = clip.flow(3, 2), clip.flow(5, -2)
    middle = slice(50, 75), slice(52, 76)
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    returned = cv2.remap(
        back.motion,
        columns + there.motion[:, :, 0],
        rows + there.motion[:, :, 1],
        cv2.INTER_LINEAR,
    )
    assert np.median(np.abs(there.motion + returned)[middle]) < 0.1


def test_frames_outside_the_clip_are_refused(clip: RenderedClip) -> None:
    with pytest.raises(IndexError, match="frame 22 of a clip of 20 frames"):
        clip.flow(18, 4)
    with pytest.raises(IndexError):
        clip.frame(-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 31}, "even"), ({"size": 129}, "even"), ({"seconds": 0.0}, "frames")],
)
def test_worlds_that_cannot_be(
    head: BuiltinHead, arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        World(head, **arguments)  # type: ignore[arg-type]
