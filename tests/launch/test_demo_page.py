"""The demo's page: clips come back from the table of predictions, and frames stand beside what
was said of them.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from launch.demo_page import read_tracks, write_page
from tests.support.corpora import make_corpus


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run folder as the demo leaves it after judging, and the corpus it was judged on."""
    folder = tmp_path_factory.mktemp("demo")
    corpus = str(make_corpus(folder, clips=3, frames=12, size=64, action_units=True))
    run = folder / "run"
    evaluation = run / "evaluation" / "rendered"
    evaluation.mkdir(parents=True)
    lines = [
        json.dumps(
            {"step": step, "loss": 1.0, "logs": {"landmark_deviation/loss": 1 / (step + 1)}}
        )
        for step in range(3)
    ]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    score = {"icc": {"mean": 0.3, "per_unit": [0.3, None]}}
    report = {
        "main_score": "icc",
        "action_units": [1, 12],
        "rows": [{"name": "pretrained", "pooled": score}],
    }
    (evaluation / "report.json").write_text(json.dumps(report))
    rows = ["subject,clip,frame,AU01,AU01_label,AU12,AU12_label"]
    rows += [
        f"p,drawn-0-00000{clip},{frame},{frame / 3},{frame % 4},0,0"
        for clip in (1, 2)
        for frame in (0, 3, 6, 9)
    ]
    (evaluation / "predictions-pretrained.csv").write_text("\n".join(rows) + "\n")
    return run, corpus


def test_tracks_are_the_clips_of_the_table(judged: tuple[Path, str]) -> None:
    run, _ = judged
    tracks = read_tracks(run / "evaluation" / "rendered" / "predictions-pretrained.csv")
    assert [track.clip for track in tracks] == ["drawn-0-000001", "drawn-0-000002"]
    assert tracks[0].units == ("AU01", "AU12")
    np.testing.assert_array_equal(tracks[0].numbers, [0, 3, 6, 9])
    np.testing.assert_array_equal(tracks[0].true[:, 0], [0, 3, 2, 1])
    assert tracks[0].strongest(1).units == ("AU01",)


def test_the_page_shows_curve_table_and_frames(judged: tuple[Path, str]) -> None:
    text = write_page(*judged).read_text()
    assert text.count("data:image/jpeg") >= 14  # seven frames of two clips
    assert "landmark_deviation" in text
    assert "<td>pretrained</td>" in text
