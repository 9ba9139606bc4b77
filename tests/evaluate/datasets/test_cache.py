"""A cache of crops is that of the very videos it was made of, and made once."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ausl_dist.evaluate.datasets import cache
from ausl_dist.evaluate.datasets.base import Recording
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.encode import encode_video
from ausl_dist.shards.index import Index
from ausl_dist.shards.writer import ShardWriter, clip_blocks
from tests.support.corpora import draw_clip
from tests.support.videos import moving_frames, write_video


@pytest.fixture
def crops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recordings that were cropped: drawn faces stand for what a video shows."""
    made: list[str] = []
    drawn = draw_clip(0, frames=4, size=32)
    meta = ClipMeta("s", "i", "l", 25.0, 0.0, 4, "d", "a")
    clip = clip_blocks(drawn.key, meta, encode_video(drawn.frames, 25), drawn.landmarks)

    def crop(recording: Recording, cropper: object, writer: ShardWriter) -> dict[str, Any]:
        made.append(recording.name)
        writer.add_blocks(clip)
        time.sleep(0.2)
        return {"source": recording.name}

    monkeypatch.setattr(cache, "Cropper", lambda models: None)
    monkeypatch.setattr(cache, "_crop", crop)
    return made


def recording(video: Path) -> Recording:
    pictures = np.arange(4, dtype=np.int32)
    return Recording(
        "someone", video.stem, (1,), np.zeros((4, 1), np.int8), video=video, pictures=pictures
    )


def test_a_replaced_video_is_cropped_again(tmp_path: Path, crops: list[str]) -> None:
    video = write_video(tmp_path / "a.mp4", moving_frames(4))
    first = cache.cached_corpus("d", [recording(video)], tmp_path / "cache")
    assert cache.cached_corpus("d", [recording(video)], tmp_path / "cache") == first
    assert crops == ["a"]
    whole, times = video.read_bytes(), (video.stat().st_atime_ns, video.stat().st_mtime_ns)
    write_video(video, moving_frames(8))
    os.utime(video, ns=times)  # as a copy that keeps the time has it: another size is enough
    second = cache.cached_corpus("d", [recording(video)], tmp_path / "cache")
    video.write_bytes(whole)
    os.utime(video, ns=(times[0], times[1] + 1))  # and so is another time
    third = cache.cached_corpus("d", [recording(video)], tmp_path / "cache")
    assert len({first, second, third}) == len(crops) == 3


def test_of_two_evaluations_at_once_one_crops(tmp_path: Path, crops: list[str]) -> None:
    video, found = write_video(tmp_path / "a.mp4", moving_frames(4)), list[str]()

    def evaluate() -> None:
        found.append(cache.cached_corpus("d", [recording(video)], tmp_path / "cache"))

    threads = [threading.Thread(target=evaluate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crops == ["a"]
    assert len(found) == 3
    assert Index.load(found[0]).num_clips == 1
