"""Shards are plain WebDataset tars that any reader opens, and that can be compared by checksum."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.faces.landmarks import template_id
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.encode import encode_video
from ausl_dist.shards.reader import read_clips
from ausl_dist.shards.writer import MAX_KEY, ShardWriter, clip_blocks, key_of
from tests.support.corpora import draw_clip


def meta_of(frames: int, units: tuple[int, ...] = ()) -> ClipMeta:
    return ClipMeta(
        "a/b.mp4",
        "someone",
        "CC0",
        25.0,
        1.5,
        frames,
        "rendered",
        template_id(),
        {"sharpness": 0.1},
        units,
    )


def write(folder: Path, clips: int = 6, max_bytes: int = 40_000) -> list[Path]:
    writer = ShardWriter(folder, max_bytes)
    for number in range(clips):
        drawn = draw_clip(number, frames=20)
        writer.add(
            drawn.key,
            meta_of(20, (1, 12, 26)),
            encode_video(drawn.frames, 25),
            drawn.landmarks,
            drawn.action_units,
        )
    return writer.close()


def test_equal_clips_give_equal_shards(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert len(first) > 1
    assert [path.name for path in first] == [
        f"shard-{number:06d}.tar" for number in range(len(first))
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(path.stat().st_size <= 40_000 for path in first)


def test_plain_webdataset_reads_every_clip_whole(tmp_path: Path) -> None:
    import webdataset as wds

    shards = write(tmp_path)
    samples = list(wds.WebDataset([str(path) for path in shards], shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [
        f"drawn-0-{number:06d}" for number in range(6)
    ]
    assert all(
        {"mp4", "json", "landmarks.npy", "au.npy"} <= sample.keys() for sample in samples
    )
    assert ClipMeta.from_bytes(samples[0]["json"]) == meta_of(20, (1, 12, 26))


def test_dali_reads_the_shards_too(tmp_path: Path) -> None:
    from nvidia.dali import fn, pipeline_def

    shards = write(tmp_path, clips=4)

    @pipeline_def(batch_size=4, num_threads=1, device_id=None)
    def pipeline():  # type: ignore[no-untyped-def]
        video, meta = fn.readers.webdataset(
            paths=[str(path) for path in shards], ext=["mp4", "json"]
        )
        return video, meta, fn.decoders.video(video, device="cpu")

    built = pipeline()
    built.build()
    video, meta, frames = built.run()
    assert bytes(np.asarray(video[0])) == next(read_clips(shards[0])).members["mp4"]
    assert ClipMeta.from_bytes(bytes(np.asarray(meta[0]))).frames == 20
    assert np.asarray(frames[0]).shape == (20, 64, 64, 3)


def test_tar_tools_find_nothing_private_or_changing_in_a_shard(tmp_path: Path) -> None:
    with tarfile.open(write(tmp_path)[0]) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.mtime, member.uname, member.mode) == (
                0,
                0,
                0,
                "",
                0o644,
            )


def test_an_unfinished_shard_has_no_name(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    drawn = draw_clip(0)
    writer.add(drawn.key, meta_of(20), encode_video(drawn.frames, 25), drawn.landmarks)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    writer.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".tar"]


def test_clips_come_back_as_they_went_in(tmp_path: Path) -> None:
    drawn = draw_clip(3)
    blocks = clip_blocks(
        drawn.key, meta_of(20), encode_video(drawn.frames, 25), drawn.landmarks
    )
    writer = ShardWriter(tmp_path)
    writer.add_blocks(blocks)
    (stored,) = read_clips(writer.close()[0])
    assert stored.blocks == blocks
    assert stored.meta == meta_of(20)


@pytest.mark.parametrize("cut", [1, 300, 512, 600, 5000])
def test_a_shard_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, clips=1)[0]
    path.write_bytes(path.read_bytes()[: -1024 - cut])
    with pytest.raises(ValueError, match=path.name):
        list(read_clips(path))


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "ä", "x" * (MAX_KEY + 1)])
def test_keys_that_readers_would_split_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        clip_blocks(key, meta_of(20), b"v", np.zeros((20, 68, 2), np.float16))


def test_arrays_that_do_not_fit_the_metadata_are_refused() -> None:
    points = np.zeros((20, 68, 2), np.float16)
    with pytest.raises(ValueError, match="landmarks"):
        clip_blocks("k", meta_of(21), b"v", points)
    with pytest.raises(ValueError, match="landmarks"):
        clip_blocks("k", meta_of(20), b"v", points.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="action units"):
        clip_blocks("k", meta_of(20, (1,)), b"v", points)
    with pytest.raises(ValueError, match="action units"):
        clip_blocks("k", meta_of(20, (1,)), b"v", points, np.zeros((20, 2), np.int8))
    with pytest.raises(ValueError, match="action units"):
        clip_blocks("k", meta_of(20), b"v", points, np.zeros((20, 2), np.int8))


def test_keys_are_legal_and_distinct_whatever_sources_are_called() -> None:
    names = [
        "a.mp4",
        "a.mkv",
        "ä/ö.mp4",
        "x" * 500,
        "",
        "../../etc/passwd",
        "a b\n.mp4",
        "A.mp4",
    ]
    keys = [f"{key_of(name)}-p99-99999999" for name in names]
    assert len(set(keys)) == len(keys)
    assert all(len(key) <= MAX_KEY and key.isascii() and "." not in key for key in keys)
