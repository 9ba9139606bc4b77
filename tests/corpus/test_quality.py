"""Measures mean what their table says, and the signature tells the same footage from the same
face.
"""

import dataclasses
import io

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ausl_dist.corpus.quality import first_problem, measure, signature
from ausl_dist.corpus.settings import QualitySettings
from ausl_dist.faces.align import AlignedFace
from ausl_dist.shards.encode import encode_video
from tests.support.corpora import draw_clip
from tests.support.faces_drawn import aligned


def faces_of(frames: NDArray[np.uint8], **values: float) -> list[AlignedFace]:
    # drawn faces are smooth, real skin is not
    grain = np.random.default_rng(0).normal(0, 6, frames.shape[1:3])[..., None]
    return [
        aligned(t, crop=np.clip(frame + grain, 0, 255).astype(np.uint8), **values)
        for t, frame in enumerate(frames)
    ]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def moving() -> list[AlignedFace]:
    return faces_of(draw_clip(5, frames=50, size=256).frames)


def with_crops(faces: list[AlignedFace], change: object) -> list[AlignedFace]:
    return [
        dataclasses.replace(face, crop=np.asarray(change(face.crop), np.uint8))
        for face in faces
    ]  # type: ignore[operator]


def problem(faces: list[AlignedFace]) -> str | None:
    return first_problem(measure(faces, 25.0), QualitySettings())


def test_a_good_clip_has_no_problem(moving: list[AlignedFace]) -> None:
    assert problem(moving) is None
    assert all(np.isfinite(value) for value in measure(moving, 25.0).values())


def test_a_photograph_is_still_even_when_it_is_noisy_video(moving: list[AlignedFace]) -> None:
    noise = np.random.default_rng(1)
    photo = [moving[0].crop] * 50
    assert (
        problem(
            [
                dataclasses.replace(face, crop=crop)
                for face, crop in zip(moving, photo, strict=True)
            ]
        )
        == "still_image"
    )
    noisy = [
        np.clip(crop + noise.normal(0, 1, crop.shape), 0, 255).astype(np.uint8)
        for crop in photo
    ]
    encoded = encode_video(np.stack(noisy), 25, "h264")
    with av.open(io.BytesIO(encoded), "r") as container:
        decoded = [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for frame in container.decode(video=0)
        ]
    assert (
        problem(
            [
                dataclasses.replace(face, crop=crop)
                for face, crop in zip(moving, decoded, strict=True)
            ]
        )
        == "still_image"
    )


def test_frames_shown_twice_do_not_make_a_clip_still(moving: list[AlignedFace]) -> None:
    doubled = [dataclasses.replace(moving[t // 2], frame=t) for t in range(100)]
    assert measure(doubled, 12.5)["motion"] == pytest.approx(measure(moving, 25.0)["motion"])


def test_blur_is_seen_and_a_small_source_is_not_taken_for_blur(
    moving: list[AlignedFace],
) -> None:
    assert (
        problem(with_crops(moving, lambda crop: cv2.GaussianBlur(crop, (0, 0), 6))) == "blurred"
    )
    # The same face filmed from three times the distance, in focus: enlarged by the crop.
    small = with_crops(
        moving,
        lambda crop: cv2.resize(
            cv2.resize(crop, (85, 85), interpolation=cv2.INTER_AREA), (256, 256)
        ),
    )
    far = [
        dataclasses.replace(a, face=b.face)
        for a, b in zip(small, [aligned(t, eye_pixels=30) for t in range(50)], strict=True)
    ]
    assert problem(far) is None


@pytest.mark.parametrize(
    "change", [lambda crop: crop * 0.05, lambda crop: np.minimum(crop * 1.0 + 200, 255)]
)
def test_darkness_and_glare_are_seen(moving: list[AlignedFace], change: object) -> None:
    assert problem(with_crops(moving, change)) == "exposure"


def test_pose_and_doubt_are_seen(moving: list[AlignedFace]) -> None:
    turned = [
        dataclasses.replace(face, face=dataclasses.replace(face.face, yaw=-75.0))
        for face in moving
    ]
    assert problem(turned) == "pose"
    glance = [
        dataclasses.replace(
            face, face=dataclasses.replace(face.face, yaw=75.0 if t < 4 else 0.0)
        )
        for t, face in enumerate(moving)
    ]
    assert problem(glance) is None, "a short turn of the head is no bad pose"
    doubtful = [
        dataclasses.replace(face, face=dataclasses.replace(face.face, presence=0.55))
        for face in moving
    ]
    assert problem(doubtful) == "uncertain_face"


def distance(a: bytes, b: bytes) -> int:
    return sum(bin(x ^ y).count("1") for x, y in zip(a, b, strict=True))


def test_footage_that_was_encoded_again_has_nearly_the_same_signature(
    moving: list[AlignedFace],
) -> None:
    small = np.stack(
        [cv2.resize(face.crop, (128, 128), interpolation=cv2.INTER_AREA) for face in moving]
    )
    with av.open(io.BytesIO(encode_video(small, 25, "h264")), "r") as container:
        again = [
            cv2.resize(frame.to_ndarray(format="rgb24"), (256, 256))
            for frame in container.decode(video=0)
        ]
    copy = [
        dataclasses.replace(face, crop=np.asarray(crop, np.uint8))
        for face, crop in zip(moving, again, strict=True)
    ]
    assert distance(signature(moving), signature(copy)) <= QualitySettings().duplicate_bits
    brighter = with_crops(moving, lambda crop: np.minimum(crop * 1.2, 255))
    assert distance(signature(moving), signature(brighter)) <= QualitySettings().duplicate_bits


def test_one_face_at_other_moments_has_another_signature(moving: list[AlignedFace]) -> None:
    longer = faces_of(draw_clip(5, frames=150, size=256).frames)
    for start in (12, 47, 83):  # the drawing sways with a period of 31 frames
        assert (
            distance(signature(moving), signature(longer[start : start + 50]))
            > QualitySettings().duplicate_bits
        )
