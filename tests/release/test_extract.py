"""From videos to a table on the command line, and how it shows that it goes on."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from ausl_dist import progress
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.progress import expected_frames, frames_shown
from tests.support.run_folders import checkpoint_of, make_run
from tools import extract


def run_extract(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["extract.py", *map(str, words)])
    return extract.main()


def test_a_log_gets_lines_and_a_last_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with frames_shown("[1/1] {odd}[name].mp4", 40) as show:
        show(16)
        show(38)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" frames")[0] for line in lines] == [
        f"[1/1] {{odd}}[name].mp4: {n} of about 40" for n in (16, 38, 38)
    ]
    assert all(line.endswith("frames/s") for line in lines)


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    with frames_shown("[1/1] [name].mp4", 40) as show:
        show(40)
    shown = capsys.readouterr().err
    assert "[1/1] [name].mp4" in shown
    assert "40/40" in shown


def test_videos_that_are_not_there_are_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"1 of 2 videos are not there: .*gone\.mp4"):
        run_extract(
            monkeypatch,
            tmp_path,
            tmp_path / "gone.mp4",
            "--backbone",
            tmp_path,
            "--out",
            tmp_path / "f.csv",
        )


def test_a_table_of_scores_and_features_of_videos_good_and_bad(
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_num_threads(1)
    run = make_run(tmp_path, action_units={"units": [1, 12]})
    write_bundle(
        run, tmp_path / "bundle", checkpoint=checkpoint_of(run), models=faces / "models"
    )
    monkeypatch.delenv("AUSL_MODELS", raising=False)
    # the bundle's own detection models are enough
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "letter.mp4").write_bytes(b"dear reader" * 100)
    video = (
        faces / "video" / "intel-iot-devkit__sample-videos__head-pose-face-detection-female.gif"
    )
    assert expected_frames(video, 25.0) == pytest.approx(46, abs=2)
    assert (
        run_extract(
            monkeypatch,
            tmp_path / "letter.mp4",
            video,
            "--backbone",
            tmp_path / "bundle",
            "--out",
            tmp_path / "f.csv",
        )
        == 1
    )
    with open(tmp_path / "f.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["video"] for row in rows} == {str(video)}
    assert list(rows[0])[:7] == [
        "video",
        "frame",
        "seconds",
        "track",
        "AU01_probability",
        "AU12_probability",
        "f0000",
    ]
    errors = capsys.readouterr().err
    assert f"skipped: {tmp_path / 'letter.mp4'}" in errors
    assert f"[2/2] {video}:" in errors
