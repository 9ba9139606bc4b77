"""A few random kills of ranks and of whoever starts them, from an object store, change nothing."""

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ausl_dist.run_folder import CHECKPOINTS_FOLDER, METRICS_FILE, manifest_text
from tools.kills.trial import differences, outcome, run_trial


@pytest.mark.timeout(1800)
def test_killed_three_times_a_run_comes_to_the_very_same_end(tmp_path: Path) -> None:
    with mock.patch.dict(os.environ):  # it names its own store and objectives there
        trial = run_trial(tmp_path, kills=3, seed=2)
    assert trial.kills == 3
    assert trial.differing == []


def finished(run: Path, lines: list[dict[str, Any]]) -> Path:
    checkpoint = run / CHECKPOINTS_FOLDER / "step-00000002"
    checkpoint.mkdir(parents=True)
    (run / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (checkpoint / "manifest.json").write_text(manifest_text(2, {}))
    return run


def line(step: int, **changes: Any) -> dict[str, Any]:
    return {"step": step, "loss": 0.5, "gradient_norm": 1.0, "logs": {"r/clips": 7.0}} | changes


def test_a_trial_sees_whatever_came_out_differently(tmp_path: Path) -> None:
    wanted = outcome(finished(tmp_path / "a", [line(0), line(1)]))
    again = outcome(finished(tmp_path / "b", [line(0), line(1), line(1)]))
    assert differences(again, wanted) == []
    for number, other in enumerate(
        ({"loss": 0.6}, {"gradient_norm": 2.0}, {"logs": {"r/clips": 8.0}})
    ):
        run = finished(tmp_path / f"c{number}", [line(0), line(1, **other), line(1)])
        assert differences(outcome(run), wanted) == ["step 1"]
    assert differences(outcome(finished(tmp_path / "d", [line(0)])), wanted) == ["step 1"]
