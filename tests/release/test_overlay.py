"""An overlay must be the whole video, with marks where the face is."""

import sys
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.faces import read_frames
from tests.support.run_folders import checkpoint_of, make_run
from tests.support.videos import write_video
from tools import extract

FRAMES = 12


def run_extract(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["extract.py", *map(str, words)])
    return extract.main()


@pytest.mark.timeout(300)
def test_landmarks_crop_and_bars_are_drawn_on_every_frame(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, action_units={"units": [1, 12]})
    models = faces / "models"
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run), models=models)
    source = next(faces.glob("video/*cap12*.mp4"))
    first = [frame.pixels for frame in islice(read_frames(source, 25.0), FRAMES)]
    video, drawn = write_video(tmp_path / "short.mp4", np.stack(first)), tmp_path / "drawn.mp4"
    words = (video, "--backbone", tmp_path / "bundle", "--overlay", drawn)
    assert run_extract(monkeypatch, *words) == 0
    plain = [frame.pixels for frame in read_frames(video, 25.0)]
    with av.open(str(drawn)) as container:
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found) == len(plain)
    middle = len(plain) // 2
    height, width = found[middle].shape[:2]
    before, after = plain[middle][:height, :width].astype(int), found[middle].astype(int)
    changed = np.abs(after - before).sum(-1) > 150
    assert 100 < changed.sum() < 0.2 * changed.size
    green = (after[..., 1] > 150) & (after[..., 0] < 100) & (after[..., 2] < 100)
    assert green[height // 5 :, :].sum() > 50, "landmarks are not drawn"
    assert not list(tmp_path.glob(".drawn*"))


def test_an_overlay_is_of_one_video_and_is_called_mp4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--backbone", tmp_path)
    with pytest.raises(ValueError, match="one VIDEO"):
        run_extract(monkeypatch, "a", "b", *common, "--overlay", tmp_path / "o.mp4")
    with pytest.raises(ValueError, match="name it so"):
        run_extract(monkeypatch, "a", *common, "--overlay", tmp_path / "o.avi")
    with pytest.raises(ValueError, match="give --out"):
        run_extract(monkeypatch, "a", *common)


def test_an_overlay_is_not_written_over_its_own_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "a.mp4", np.zeros((4, 64, 64, 3), np.uint8))
    before = video.read_bytes()
    (tmp_path / "link.mp4").symlink_to(video)
    (tmp_path / "same.mp4").hardlink_to(video)
    for name in ("a.mp4", "link.mp4", "same.mp4", "../" + tmp_path.name + "/a.mp4"):
        with pytest.raises(ValueError, match="would be overwritten"):
            run_extract(monkeypatch, video, "--backbone", "b", "--overlay", tmp_path / name)
    assert video.read_bytes() == before
