"""A history that was interrupted must read as one without gaps or doubles."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.json_lines import LineWriter
from ausl_dist.observe.history import (
    METRICS_FILE,
    append_event,
    last_metrics,
    read_events,
    read_metrics,
)


def write_steps(run: Path, steps: list[int], attempt: int = 0, **fields: float) -> None:
    writer = LineWriter(run / METRICS_FILE)
    for step in steps:
        writer.write({"step": step, "attempt": attempt, **fields})
    writer.close()


def test_steps_repeated_after_a_restart_are_read_once_and_from_the_later_attempt(
    tmp_path: Path,
) -> None:
    write_steps(tmp_path, [0, 1, 2, 3], attempt=0)
    write_steps(tmp_path, [2, 3, 4], attempt=1)
    assert [(line["step"], line["attempt"]) for line in read_metrics(tmp_path)] == [
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 1),
        (4, 1),
    ]


def test_an_older_process_that_lives_on_is_not_read(tmp_path: Path) -> None:
    write_steps(tmp_path, [0, 1, 2], attempt=0)
    write_steps(tmp_path, [1], attempt=1)
    write_steps(tmp_path, [3, 4], attempt=0)  # the node was thought dead and was not
    write_steps(tmp_path, [2], attempt=1)
    assert [(line["step"], line["attempt"]) for line in read_metrics(tmp_path)] == [
        (0, 0),
        (1, 1),
        (2, 1),
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 15)), min_size=1, max_size=6))
def test_whatever_the_restarts_each_step_is_read_once_in_order(
    attempts: list[tuple[int, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run, reached, truth = Path(folder), 0, {}
        for attempt, (checkpoint, count) in enumerate(attempts):
            start = min(checkpoint, reached)  # a resume never begins past what was done
            write_steps(run, list(range(start, start + count)), attempt)
            truth = {step: made for step, made in truth.items() if step < start}
            truth.update(dict.fromkeys(range(start, start + count), attempt))
            reached = start + count
        assert [(line["step"], line["attempt"]) for line in read_metrics(run)] == sorted(
            truth.items()
        )


def test_a_line_cut_short_by_a_kill_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    write_steps(tmp_path, [0, 1])
    path = tmp_path / METRICS_FILE
    path.write_bytes(path.read_bytes() + b'{"step": 2, "atte')
    write_steps(tmp_path, [2], attempt=1)
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2]


def test_a_thinned_reading_keeps_the_first_and_the_last_step(tmp_path: Path) -> None:
    write_steps(tmp_path, list(range(1000)))
    steps = [line["step"] for line in read_metrics(tmp_path, max_lines=10)]
    assert steps[0] == 0
    assert steps[-1] == 999
    assert len(steps) == 10
    assert steps == sorted(set(steps))


def test_numbers_that_are_not_finite_become_null_and_the_file_stays_json(
    tmp_path: Path,
) -> None:
    writer = LineWriter(tmp_path / METRICS_FILE)
    writer.write({"step": 0, "loss": math.nan, "logs": {"a/loss": math.inf, "b/loss": 1.0}})
    writer.close()
    line = json.loads((tmp_path / METRICS_FILE).read_text())
    assert line["loss"] is None
    assert line["logs"] == {"a/loss": None, "b/loss": 1.0}


def test_the_last_line_before_a_step_is_found_from_the_end(tmp_path: Path) -> None:
    assert last_metrics(tmp_path) is None
    write_steps(tmp_path, list(range(3000)), padding=1.0)
    newest, before = last_metrics(tmp_path), last_metrics(tmp_path, before_step=1234)
    assert newest is not None
    assert newest["step"] == 2999
    assert before is not None
    assert before["step"] == 1233
    assert last_metrics(tmp_path, before_step=0) is None


def test_events_of_all_writers_are_read_in_order_of_time(tmp_path: Path) -> None:
    append_event(tmp_path, "rank-00001", {"time": 3.0, "kind": "skipped"})
    append_event(tmp_path, "launcher", {"time": 1.0, "kind": "started"})
    append_event(tmp_path, "rank-00001", {"time": 2.0, "kind": "checkpoint"})
    assert [event["kind"] for event in read_events(tmp_path)] == [
        "started",
        "checkpoint",
        "skipped",
    ]


def test_a_full_disk_is_noticed_at_the_write_that_hits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LineWriter(tmp_path / METRICS_FILE)
    monkeypatch.setattr("os.write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="disk full"):
        writer.write({"step": 0})
    writer.close()
