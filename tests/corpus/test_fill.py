"""Shards of face crops made by others become a corpus by one command, which says what it filled
in.
"""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ausl_dist.corpus.adopt import adopt
from ausl_dist.corpus.fill import Filling
from ausl_dist.shards.encode import encode_video
from ausl_dist.shards.index import Index
from ausl_dist.shards.reader import StoredClip, read_clips
from tests.support.corpora import draw_clip
from tests.support.tars import write_tar
from tests.support.videos import write_video

ROOT = Path(__file__).parents[2]


def clips_of(url: Path) -> dict[str, StoredClip]:
    """The clips that the index shows, by source."""
    index = Index.load(str(url))
    found = [stored for row in index.shards for stored in read_clips(url / row.name)]
    assert len(found) == index.num_clips
    return {stored.meta.source: stored for stored in found}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the three ordinary kinds of shards look like, and one broken video."""
    folder = tmp_path_factory.mktemp("shards")
    ready = encode_video(draw_clip(0).frames, 25.0)
    late = write_video(folder / "a.mp4", draw_clip(1).frames, fps=50, options={"g": "250"})
    members: dict[str, bytes | str] = {
        "sub/vid0.json": '{"caption": "a smile", "speaker": "anna"}',
        "sub/vid0.mp4": ready,
        "vid1.mp4": late.read_bytes(),
        "vid1.txt": "no smile",
        "broken.mp4": b"no video",
    }
    late.unlink()
    for number, frame in enumerate(draw_clip(2).frames):
        members[f"faces/{number:04d}.cls"] = "7"
        jpeg = cv2.imencode(".jpg", np.ascontiguousarray(frame[:, :, ::-1]))[1]
        members[f"faces/{number:04d}.jpg"] = jpeg.tobytes()
    write_tar(folder / "00000.tar", members)
    return folder


def test_what_is_missing_is_filled_in_and_said(shards: Path) -> None:
    before = (shards / "00000.tar").read_bytes()
    finished = subprocess.run(
        [sys.executable, "-m", "tools.index_shards", str(shards), "--licence", "CC0"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr
    clips = clips_of(shards)
    assert set(clips) == {"sub/vid0.mp4", "vid1.mp4", "faces"}
    assert [clips[name].meta.frames for name in ("sub/vid0.mp4", "vid1.mp4", "faces")] == [
        20,
        10,
        20,
    ]
    first = clips["sub/vid0.mp4"].meta
    assert (first.licence, first.fps, first.identity) == ("CC0", 25.0, "sub/vid0.mp4#0")
    assert first.about == {"caption": "a smile", "speaker": "anna"}
    assert clips["faces"].meta.about == {"class": "7"}
    for said in (
        "filled   2 clips: encoded again",
        "filled   3 clips: detector and alignment are written as 'unknown'",
        "filled   3 clips: identity is the clip's own",
        "left out broken.mp4",
        "missing  landmarks: 0 of 3 clips have it",
    ):
        assert said in finished.stdout
    assert (shards / "00000.tar").read_bytes() == before


def test_a_video_that_is_a_clip_already_keeps_its_bytes_and_a_second_time_changes_nothing(
    shards: Path,
) -> None:
    found = adopt(str(shards), filling=Filling(identity_field="speaker"))
    clips = clips_of(shards)
    assert clips["sub/vid0.mp4"].meta.identity == "anna"
    assert clips["sub/vid0.mp4"].members["mp4"] == encode_video(draw_clip(0).frames, 25.0)
    assert clips["vid1.mp4"].key == "vid1"
    assert found.tally.clips == 3
    assert json.loads((shards / "corpus.json").read_text())["identities"] == 3
    names = sorted(path.name for path in shards.glob("*.tar"))
    made = (shards / "adopted-000000.tar").read_bytes()
    adopt(str(shards), filling=Filling(identity_field="speaker"))
    assert sorted(path.name for path in shards.glob("*.tar")) == names
    assert (shards / "adopted-000000.tar").read_bytes() == made


def test_folders_of_face_crops_become_a_corpus_by_one_command(tmp_path: Path) -> None:
    (tmp_path / "in" / "anna" / "01").mkdir(parents=True)
    (tmp_path / "in" / "ben").mkdir()
    write_video(tmp_path / "in" / "ben" / "a.avi", draw_clip(0).frames, codec="mpeg4")
    for number, frame in enumerate(draw_clip(1).frames):
        path = tmp_path / "in" / "anna" / "01" / f"{number:05d}.png"
        cv2.imwrite(str(path), np.ascontiguousarray(frame[:, :, ::-1]))
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--layout", "(?P<identity>[^/]+)/"]
    command = [sys.executable, "-m", "tools.index_shards", str(tmp_path / "in"), *arguments]
    first = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert first.returncode == 0, first.stderr
    metas = {name: stored.meta for name, stored in clips_of(out).items()}
    assert {name: meta.identity for name, meta in metas.items()} == {
        "anna/01": "anna",
        "ben/a.avi": "ben",
    }
    assert [meta.frames for meta in metas.values()] == [20, 20]
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert again.returncode == 2
    assert "holds a corpus already" in again.stderr


def test_shards_of_nothing_usable_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.mp4": b"no video", "a.txt": "x"})
    with pytest.raises(ValueError, match="not one of 1 samples"):
        adopt(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
