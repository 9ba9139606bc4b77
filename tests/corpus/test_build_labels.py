"""Labels that a build is given reach the clips that they are of, or stop it before it begins."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.corpus.extract import Extractor
from ausl_dist.corpus.labels import LabelTables
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source
from ausl_dist.shards.clip import array_from_bytes
from ausl_dist.shards.reader import read_clips
from tests.support.building import REAL, command, run

pytestmark = pytest.mark.timeout(600)


def test_labels_follow_the_frames_through_a_change_of_rate(faces: Path, tmp_path: Path) -> None:
    path = faces / "video" / REAL[0]  # 47 frames at 30 frames/s
    table = tmp_path / "labels.csv"
    table.write_text(
        "frame,AU1,AU12\n"
        + "".join(f"{frame},{frame % 6},{frame // 10}\n" for frame in range(47))
    )
    clips: list[bytes] = []
    labels = LabelTables(table, ["labels.mp4"]).of("labels.mp4")
    extractor = Extractor(CorpusSettings(), faces / "models")
    extractor.extract(Source("v", str(path)), path, clips.append, labels=labels)
    (tmp_path / "s.tar").write_bytes(clips[0] + bytes(1024))
    (stored,) = read_clips(tmp_path / "s.tar")
    units = array_from_bytes(stored.members["au.npy"], np.int8, (39, 2))
    assert stored.meta.action_units == (1, 12)
    shown = [round(t * 30 / 25 + 1e-9) for t in range(39)]
    assert all(abs(int(units[t, 1]) - shown[t] / 10) < 1.2 for t in range(39))
    assert sum(int(units[t, 0]) == shown[t] % 6 for t in range(39)) >= 35


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("video,frame,AU1", "T1,0,1", "F001/T1.mp4 or F002/T1.mp4"),
        (
            "video,frame,AU1",
            "elsewhere.mp4,0,1",
            "'elsewhere.mp4'; the sources are called 'F001",
        ),
        ("vid,frame,AU1", "F001/T1.mp4,0,1", "'vid' is not known"),
    ],
)
def test_labels_that_meet_no_video_stop_the_build_before_it_begins(
    tmp_path: Path, header: str, row: str, says: str
) -> None:
    for subject in ("F001", "F002"):
        (tmp_path / "in" / subject).mkdir(parents=True)
        (tmp_path / "in" / subject / "T1.mp4").touch()
    table = tmp_path / "labels.csv"
    table.write_text(f"{header}\n{row}\n")
    finished = run(*command(tmp_path / "in", tmp_path / "out", "--labels", str(table)))
    assert finished.returncode == 2
    assert says in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists()


def test_labels_of_two_videos_of_one_name_reach_their_own_clips(
    faces: Path, tmp_path: Path
) -> None:
    for subject, value, name in (("F001", 1, REAL[0]), ("F002", 2, REAL[1])):
        (tmp_path / "in" / subject).mkdir(parents=True)
        shutil.copy(faces / "video" / name, tmp_path / "in" / subject / "T1.mkv")
        (tmp_path / "labels" / subject).mkdir(parents=True)
        rows = "".join(f"{frame},{value}\n" for frame in range(20))
        (tmp_path / "labels" / subject / "T1.csv").write_text(f"Frame,AU1\n{rows}")
    out, models = tmp_path / "out", str(faces / "models")
    more = ("--labels", str(tmp_path / "labels"), "--models", models)
    finished = run(*command(tmp_path / "in", out, *more))
    assert finished.returncode == 0, finished.stderr
    assert "labels for 2 of 2 sources\n" in finished.stdout
    known = {}
    for path in out.glob("*.tar"):
        for stored in read_clips(path):
            labels = array_from_bytes(stored.members["au.npy"], np.int8, (None, 1))
            known[stored.meta.source] = set(labels[labels >= 0].tolist())
    assert known == {"F001/T1.mkv": {1}, "F002/T1.mkv": {2}}
    again = run(*command(tmp_path / "in", tmp_path / "far", *more, "--first-frame", "0"))
    assert again.returncode == 0, again.stderr
    for table in (tmp_path / "labels").rglob("*.csv"):
        table.write_text("frame,AU1\n5000,1\n")
    none = run(*command(tmp_path / "in", tmp_path / "none", *more))
    assert none.returncode == 2
    assert "not one is labelled" in none.stderr
