"""Crops stand where the template says and do not tremble."""

import cv2
import numpy as np
import pytest

from ausl_dist.faces.align import AlignedFace, TrackAligner, align_tracks, warp
from ausl_dist.faces.landmarks import (
    ANCHORS,
    CROP_SIZE,
    TEMPLATE,
    alignment_to_template,
    apply_affine,
)
from ausl_dist.faces.settings import FaceSettings
from ausl_dist.faces.track import FaceTracker, Sighting
from tests.support.faces_drawn import BASE, Script, face_at


def align(faces: list) -> list[AlignedFace]:  # type: ignore[type-arg]
    script = Script([[face] for face in faces])
    aligner = TrackAligner()
    found: list[AlignedFace] = []
    for frame in script.frames(width=480, height=480):
        found += aligner.push(frame, Sighting(0, frame.index, faces[frame.index], 0.9, 0))
    return [*found, *aligner.finish()]


def test_every_frame_comes_back_once_in_order() -> None:
    for count in (1, 2, 3, 8, 9, 10, 17, 40):
        result = align([face_at(200, 200)] * count)
        assert [face.frame for face in result] == list(range(count))


@pytest.mark.parametrize(("size", "angle"), [(60, 0.0), (150, 0.4), (300, -1.2), (200, 3.0)])
def test_a_still_face_lands_on_the_template(size: float, angle: float) -> None:
    result = align([face_at(240, 240, size, angle=angle)] * 20)
    wanted = apply_affine(alignment_to_template(BASE), BASE)
    for face in result:
        np.testing.assert_allclose(face.landmarks, wanted, atol=0.05)
        np.testing.assert_allclose(face.landmarks[ANCHORS].mean(0), TEMPLATE.mean(0), atol=0.05)


def test_tremble_of_the_landmarks_does_not_shake_the_crop() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (100, 68, 2))
    steady = align([face_at(240, 240, 100, noise=sample) for sample in noise])
    # Where a fixed point of the head comes to lie, from smoothed and from single-frame
    # transforms.
    smooth = np.stack([face.landmarks[30] - noise[face.frame, 30] * 1.5 for face in steady])
    head = face_at(240, 240, 100).landmarks
    single = np.stack(
        [apply_affine(alignment_to_template(face.face.landmarks), head)[30] for face in steady]
    )

    def shake(points: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.sqrt((np.diff(points[10:-10], 2, axis=0) ** 2).sum(1).mean()))

    assert shake(smooth) < shake(single) / 3


def test_a_turning_head_is_followed_without_lag() -> None:
    faces = [
        face_at(240 + 80 * np.sin(t / 10), 240, 100, angle=0.3 * np.sin(t / 15))
        for t in range(80)
    ]
    for face in align(faces)[8:-8]:
        assert np.abs(face.landmarks[ANCHORS].mean(0) - TEMPLATE.mean(0)).max() < 1.0


def test_an_angle_that_passes_half_a_turn_is_not_averaged_to_nothing() -> None:
    faces = [face_at(240, 240, 100, angle=3.0 + 0.01 * t) for t in range(40)]
    for face in align(faces):
        assert (
            np.abs(
                face.landmarks[ANCHORS] - align([face_at(240, 240, 100)])[0].landmarks[ANCHORS]
            ).max()
            < 1.5
        )


def test_what_lies_outside_the_picture_is_black_and_counted() -> None:
    (face,) = align([face_at(10, 240, 200)])
    assert 0.3 < face.outside < 0.7
    assert face.crop[:, 0].max() == 0


@pytest.mark.parametrize("scale", [0.2, 0.4, 0.9, 1.0, 2.5])
def test_the_warp_puts_points_where_the_matrix_says_at_every_scale(scale: float) -> None:
    picture = np.zeros((800, 800, 3), np.uint8)
    cv2.circle(picture, (400, 420), round(12 / scale), (255, 255, 255), -1)
    matrix = np.array([[scale, 0, 128 - scale * 400], [0, scale, 128 - scale * 400]])
    crop = warp(picture, matrix)
    assert crop.shape == (CROP_SIZE, CROP_SIZE, 3)
    rows, columns = np.nonzero(crop[:, :, 0] > 127)
    np.testing.assert_allclose([columns.mean(), rows.mean()], [128, 128 + scale * 20], atol=0.3)


@pytest.mark.parametrize("scale", [0.16, 0.24, 0.26, 0.49, 0.51, 0.89, 0.91])
def test_the_ways_to_shrink_agree_where_they_meet(scale: float) -> None:
    coarse = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    picture = np.asarray(
        cv2.resize(coarse, (2400, 2400), interpolation=cv2.INTER_CUBIC), np.uint8
    )
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    near, far = (
        np.column_stack([s * turn, [128, 128] - s * turn @ [1200, 1150]])
        for s in (scale, scale * 1.001)
    )
    assert np.abs(warp(picture, near).astype(int) - warp(picture, far))[8:-8, 8:-8].max() <= 3


def test_a_crop_of_nothing_is_black() -> None:
    assert (
        warp(
            np.full((300, 300, 3), 255, np.uint8), np.array([[0.1, 0, -5000], [0, 0.1, 0]])
        ).max()
        == 0
    )


@pytest.mark.parametrize("scale", [0.22, 0.26, 0.4, 0.45])
def test_fine_texture_of_a_large_face_does_not_alias(scale: float) -> None:
    picture = np.zeros((1200, 1200, 3), np.uint8)
    picture[:, ::2] = 255  # stripes far finer than a crop pixel
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    naive = cv2.warpAffine(picture, matrix, (CROP_SIZE, CROP_SIZE), flags=cv2.INTER_LINEAR)
    assert warp(picture, matrix)[20:-20, 20:-20].std() < naive[20:-20, 20:-20].std() / 4


def test_tracks_end_with_all_their_frames_given() -> None:
    script = Script(
        [[face_at(200, 200)] + ([face_at(450, 200)] if t < 30 else []) for t in range(50)]
    )
    tracker = FaceTracker(script.detector, script, FaceSettings(), 25.0)  # type: ignore[arg-type]
    frames: dict[int, list[int]] = {0: [], 1: []}
    ended = []
    for item in align_tracks(script.frames(), tracker):
        if isinstance(item, int):
            ended.append(item)
        else:
            assert item.track not in ended
            frames[item.track].append(item.frame)
    assert frames == {0: list(range(50)), 1: list(range(30))}
    assert ended == [1, 0]
