"""Motion that is stored beside clips is the motion there is, and readers that do not know it
are not disturbed.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ausl_dist.corpus.extract import Extractor
from ausl_dist.corpus.flow import motion
from ausl_dist.corpus.settings import CorpusSettings, FlowEstimator, FlowSettings
from ausl_dist.corpus.sources import Source
from ausl_dist.shards.clip import FLOW_STEPS_PER_PIXEL, ClipMeta, array_from_bytes
from ausl_dist.shards.reader import StoredClip, read_clips
from ausl_dist.shards.writer import clip_blocks
from ausl_dist.stream.fetch import unpack
from ausl_dist.stream.prepare import read_flow

pytestmark = pytest.mark.timeout(120)
NAME = "intel-iot-devkit__sample-videos__eat.mkv"


def sliding(count: int, x: float, y: float, *, blobs: int = 40) -> NDArray[np.uint8]:
    """T 256 256 3: a smooth pattern that moves by (x, y) pixels a frame."""
    coarse = np.random.default_rng(0).integers(0, 255, (blobs, blobs, 3), np.uint8)
    pattern = cv2.resize(coarse, (400, 400), interpolation=cv2.INTER_CUBIC)
    matrices = [
        np.array([[1, 0, x * t - 70], [0, 1, y * t - 70]], np.float64) for t in range(count)
    ]
    return np.stack(
        [
            np.asarray(cv2.warpAffine(pattern, matrix, (256, 256)), np.uint8)
            for matrix in matrices
        ]
    )


@pytest.mark.parametrize("estimator", ["dis_ultrafast", "dis_fast", "dis_medium"])
def test_motion_is_what_moved_between_the_frames_of_a_pair(estimator: FlowEstimator) -> None:
    found = motion(
        sliding(5, 0.75, -0.5), FlowSettings(gap_frames=2, estimator=estimator, cells=16)
    )
    assert found.shape == (3, 2, 16, 16)
    inner = found[:, :, 2:-2, 2:-2].astype(float) / FLOW_STEPS_PER_PIXEL
    assert np.abs(np.median(inner[:, 0]) - 1.5) <= 0.25
    assert np.abs(np.median(inner[:, 1]) + 1.0) <= 0.25


def test_motion_too_fast_for_a_byte_is_cut_off_and_not_turned_around() -> None:
    found = motion(sliding(2, 40, 0, blobs=8), FlowSettings(gap_frames=1, cells=16))
    assert np.median(found[0, 0]) == 127


def test_a_clip_carries_its_motion_to_training(faces: Path, tmp_path: Path) -> None:
    settings, clips = (
        CorpusSettings(flow=FlowSettings(gap_frames=5, estimator="dis_ultrafast")),
        list[bytes](),
    )
    path = faces / "video" / NAME
    Extractor(settings, faces / "models").extract(Source(NAME, str(path)), path, clips.append)
    (tmp_path / "shard.tar").write_bytes(clips[0] + bytes(1024))
    (stored,) = read_clips(tmp_path / "shard.tar")
    flow = array_from_bytes(
        stored.members["flow.npy"], np.int8, (stored.meta.frames - 5, 2, 32, 32)
    )
    assert 0 < np.abs(flow).mean() < 20
    assert stored.blocks == clips[0]
    (read,) = unpack(clips[0] + bytes(1024), 1)
    assert isinstance(read, StoredClip)
    assert set(read.members) == {"mp4", "json", "landmarks.npy", "flow.npy"}
    shares = read_flow(read, stored.meta, gap=5)
    assert np.isnan(shares[-5:]).all()
    np.testing.assert_allclose(shares[:-5] * 256 * FLOW_STEPS_PER_PIXEL, flow, atol=1e-3)
    with pytest.raises(ValueError, match="a gap of 4"):
        read_flow(read, stored.meta, gap=4)


@pytest.mark.parametrize(
    "flow",
    [
        np.zeros((4, 2, 8, 8), np.float32),
        np.zeros((5, 2, 8, 8), np.int8),
        np.zeros((4, 8, 8), np.int8),
    ],
)
def test_motion_that_does_not_fit_the_clip_is_refused(flow: NDArray[np.int8]) -> None:
    meta = ClipMeta("a.mp4", "a", "CC0", 25.0, 0.0, 5, "d", "a")
    with pytest.raises(ValueError, match="flow must be"):
        clip_blocks("a", meta, b"video", np.zeros((5, 68, 2), np.float16), None, flow)
