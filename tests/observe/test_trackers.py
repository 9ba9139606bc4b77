"""Curves elsewhere must be the same curves, also after a restart; a missing package must be
said before the run has begun.
"""

import importlib.util
from pathlib import Path

import pytest

from ausl_dist.observe.settings import TrackerSettings
from ausl_dist.observe.state import RankIdentity
from ausl_dist.observe.trackers import flat_numbers, make_trackers
from tests.support.observing import observer, quiet_settings, record

IDENTITY = RankIdentity(run="demo", rank=0, world_size=2, node="node7", attempt=1)


def test_nested_numbers_get_names_and_what_is_no_number_is_left_out() -> None:
    line = {"step": 3, "attempt": 1, "time": 1.0, "loss": 0.5, "skipped": False}
    line |= {"logs": {"a/loss": 0.1, "b/loss": None}, "counts": {"corrupt": {"decode": 2}}}
    assert flat_numbers(line) == {
        "loss": 0.5,
        "skipped": 0.0,
        "logs/a/loss": 0.1,
        "counts/corrupt/decode": 2.0,
    }
    assert "loss" not in flat_numbers({"loss": float("nan")})


@pytest.mark.parametrize(
    "settings", [TrackerSettings(tensorboard=True), TrackerSettings(wandb_project="faces")]
)
def test_a_missing_package_is_an_error_that_says_what_to_type(
    settings: TrackerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ausl_dist\[(tensorboard|wandb)\]'"):
        make_trackers(settings, IDENTITY, tmp_path, 0)


def test_tensorboard_shows_repeated_steps_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = quiet_settings(trackers=TrackerSettings(every_steps=1, tensorboard=True))
    with observer(tmp_path, settings) as first:
        for step in range(4):
            first.step(record(step, loss=1.0))
    with observer(tmp_path, settings, start_step=2, attempt=2) as second:
        for step in range(2, 5):
            second.step(record(step, loss=2.0))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (0, 1.0),
        (1, 1.0),
        (2, 2.0),
        (3, 2.0),
        (4, 2.0),
    ]


@pytest.mark.timeout(120)
def test_wandb_keeps_one_run_for_all_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }.items():
        monkeypatch.setenv(name, value)
    settings = quiet_settings(trackers=TrackerSettings(every_steps=2, wandb_project="faces"))
    for attempt, steps in enumerate([range(4), range(2, 6)], 1):
        with observer(tmp_path, settings, start_step=steps[0], attempt=attempt) as watching:
            for step in steps:
                watching.step(record(step))
    run_id = (tmp_path / "wandb_id").read_text().strip()
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert {folder.name.rsplit("-", 1)[1] for folder in folders} == {run_id}
