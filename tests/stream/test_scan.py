"""A scan: every clip once, in order, whole, and the same whenever it is taken."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.batch import View
from ausl_dist.shards.index import scan_shard, write_index
from ausl_dist.stream.scan import scan
from tests.support.corpora import draw_clip, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(
        tmp_path_factory.mktemp("corpus"), clips=9, frames=10, size=64, action_units=True
    )


def test_a_scan_gives_every_clip_whole_and_in_order(corpus: Path) -> None:
    clips = list(scan(str(corpus), image_size=32))
    assert [clip.key for clip in clips] == [
        draw_clip(number, frames=1).key for number in range(9)
    ]
    for number, clip in enumerate(clips):
        drawn = draw_clip(number, frames=10, size=64)
        assert clip.frames.shape == (10, 3, 32, 32)
        assert clip.action_units is not None
        assert np.array_equal(clip.action_units, drawn.action_units)
        assert clip.meta.action_units == (1, 12, 26)
        assert clip.landmarks is not None
        assert clip.landmarks.shape == (10, 68, 2)


def test_a_scan_is_the_same_every_time(corpus: Path) -> None:
    view = View(crop=(0.5, 0.8), per_frame=True, flip=1.0, brightness=0.5, grey=1.0)
    one, other = (
        list(scan(str(corpus), image_size=32, view=view, threads=1)),
        list(scan(str(corpus), image_size=32, view=view, threads=3)),
    )
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(one, other, strict=True))
    assert one[0].frames[0].std(dim=0).mean() > 0.05, "no augmentation: colour stays"


def test_frames_can_be_thinned(corpus: Path) -> None:
    whole = next(scan(str(corpus), image_size=32))
    thin = next(scan(str(corpus), image_size=32, stride=4))
    assert thin.numbers.tolist() == [0, 4, 8]
    assert torch.equal(thin.frames, whole.frames[::4])
    assert next(
        scan(str(corpus), image_size=32, stride=2, frames_per_clip=3)
    ).numbers.tolist() == [
        0,
        2,
        4,
    ]


def test_a_clip_that_cannot_be_used_stops_a_scan(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, clips=3, frames=6)
    shard = corpus / "shard-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"moov", b"moop", 1))
    write_index(str(corpus), [scan_shard(shard, shard.name)])
    with pytest.raises(ValueError, match="clip drawn-0-000000: not a readable mp4"):
        list(scan(str(corpus), image_size=32))


def test_bad_numbers_are_refused(corpus: Path) -> None:
    with pytest.raises(ValueError, match="stride"):
        next(scan(str(corpus), image_size=32, stride=0))
