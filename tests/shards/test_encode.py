"""A clip that enters a shard decodes to what went in, everywhere, and equal frames are equal
bytes.
"""

import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ausl_dist.shards.clip import MAX_KEYFRAME_DISTANCE
from ausl_dist.shards.encode import CODECS, Codec, VideoMismatch, encode_video, verify_video
from tests.support.corpora import draw_clip


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return draw_clip(0, frames=40, size=96).frames


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fps", [25, 30, 29.97, 12.5])
def test_what_is_encoded_decodes_again_and_equal_frames_are_equal_bytes(
    frames: NDArray[np.uint8], codec: Codec, fps: float
) -> None:
    video = encode_video(frames, fps, codec)
    assert verify_video(video, frames) > 30
    assert video == encode_video(frames, fps, codec)


@pytest.mark.parametrize("codec", CODECS)
def test_a_decoder_can_start_every_16_frames(frames: NDArray[np.uint8], codec: Codec) -> None:
    with av.open(io.BytesIO(encode_video(frames, 25, codec)), "r") as container:
        keys = [frame.key_frame for frame in container.decode(video=0)]
    positions = [number for number, key in enumerate(keys) if key]
    assert positions[0] == 0
    assert max(np.diff([*positions, len(keys)])) <= MAX_KEYFRAME_DISTANCE


def test_pure_noise_and_a_single_black_frame_pass() -> None:
    for hard in (
        np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.uint8),
    ):
        verify_video(encode_video(hard, 25), hard)


@pytest.mark.parametrize("codec", ["vp9", "mjpeg"])
def test_dali_sees_the_colours_that_went_in(codec: Codec) -> None:
    import nvidia.dali.experimental.dynamic as ndd

    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [128, 128, 128]], np.uint8)
    frames = np.repeat(colours, 3, 0)[:, None, None, :].repeat(64, 1).repeat(64, 2)
    decoded = np.asarray(
        ndd.decoders.video(
            np.frombuffer(encode_video(frames, 25, codec), np.uint8), device="cpu"
        ).evaluate()
    )
    assert np.abs(decoded.astype(int) - frames).max() <= 6


def test_what_does_not_match_is_refused(frames: NDArray[np.uint8]) -> None:
    video = encode_video(frames, 25)
    swapped = frames.copy()
    swapped[[10, 30]] = 255 - swapped[[30, 10]]
    for wrong_video, wrong_frames in (
        (video, frames[:-1]),
        (video, np.concatenate([frames, frames[:1]])),
        (video, swapped),
        (video, frames[:, :80]),
        (video[: len(video) // 2], frames),
        (b"", frames),
        (b"no video", frames),
    ):
        with pytest.raises(VideoMismatch):
            verify_video(wrong_video, wrong_frames)


@pytest.mark.parametrize(
    "shape", [(0, 64, 64, 3), (4, 63, 64, 3), (4, 64, 64), (4, 8, 8, 3), (4, 64, 64, 4)]
)
def test_frames_that_cannot_be_encoded_are_refused_with_a_sentence(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(ValueError, match="encode: "):
        encode_video(np.zeros(shape, np.uint8), 25)
    with pytest.raises(ValueError, match="encode: "):
        encode_video(np.zeros((4, 64, 64, 3), np.float32), 25)  # type: ignore[arg-type]
