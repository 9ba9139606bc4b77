"""Through one object a rank tells everything; a run that is killed and goes on reads as one."""

import io
import json
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from ausl_dist.observe.heartbeat import read_heartbeats
from ausl_dist.observe.history import read_events, read_metrics
from ausl_dist.observe.settings import ExporterSettings, ObserveSettings, ProfileSettings
from tests.support.observing import observer, quiet_settings, record


def wait_until(condition, seconds: float = 10.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def test_every_step_is_a_line_with_what_the_loop_said(tmp_path: Path) -> None:
    with observer(tmp_path, world_size=1) as watching:
        watching.step(record(0))
        watching.step(record(1, loss=float("nan"), skipped=True))
    first, second = read_metrics(tmp_path)
    assert (
        first["step"],
        first["attempt"],
        first["loss"],
        first["clips"],
        first["skipped"],
    ) == (
        0,
        1,
        0.5,
        8,
        False,
    )
    assert first["logs"]["ranking/loss"] == 0.5
    assert first["seconds"]["total"] == 0.2
    assert (second["loss"], second["skipped"]) == (None, True)


def test_only_rank_0_writes_the_lines_and_counts_all_ranks_clips(tmp_path: Path) -> None:
    for rank in range(2):
        with observer(tmp_path, rank=rank, world_size=2) as watching:
            watching.step(record(0))
    (line,) = read_metrics(tmp_path)
    assert line["clips"] == 16


def test_goodput_counts_the_time_between_two_attempts_and_the_steps_done_twice(
    tmp_path: Path,
) -> None:
    with observer(tmp_path) as first:
        for step in range(3):
            first.step(record(step))
    with observer(tmp_path, attempt=2, start_step=2) as second:
        second.step(record(2))
    lines = read_metrics(tmp_path)
    assert [line["useful_seconds"] for line in lines] == pytest.approx([0.18, 0.36, 0.54])
    assert len({line["first_start"] for line in lines}) == 1


def test_steps_that_a_run_goes_back_over_have_not_counted(tmp_path: Path) -> None:
    with observer(tmp_path) as watching:
        for step in range(4):
            watching.step(record(step))
        watching.event("rewind", step=3, to_step=2, reason="the loss rose")
        watching.step(record(2))
    assert [line["useful_seconds"] for line in read_metrics(tmp_path)] == pytest.approx(
        [0.18, 0.36, 0.54]
    )


def test_events_are_written_counted_and_said(tmp_path: Path) -> None:
    settings, stream = quiet_settings(console="plain"), io.StringIO()
    with observer(tmp_path, settings, stream=stream) as watching:
        watching.event("checkpoint", step=7, seconds=1.25, bytes=4096)
        watching.event("unheard_of", where="here")
        watching.step(record(7, skipped=True, loader_counts={}))
        said = stream.getvalue()
    assert [event["kind"] for event in read_events(tmp_path)] == [
        "started",
        "checkpoint",
        "unheard_of",
        "skipped",
        "ended",
    ]
    assert "saved step 7 in 1.2 s" in said
    assert "unheard_of: where here" in said


def test_a_skipped_step_on_which_all_ranks_agree_is_told_by_one(tmp_path: Path) -> None:
    for rank in range(2):
        with observer(tmp_path, rank=rank, world_size=2) as watching:
            watching.step(record(3, skipped=True, loader_counts={}))
    assert [event["rank"] for event in read_events(tmp_path) if event["kind"] == "skipped"] == [
        0
    ]


def test_an_exception_is_the_end_that_the_run_folder_tells_of(tmp_path: Path) -> None:
    def fail_after_a_step() -> None:
        with observer(tmp_path) as watching:
            watching.step(record(0))
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_after_a_step()
    (heartbeat,) = read_heartbeats(tmp_path)
    assert (heartbeat.standing, heartbeat.error, heartbeat.steps_done) == (
        "failed",
        "RuntimeError: boom",
        1,
    )
    assert read_events(tmp_path)[-1]["kind"] == "failed"


def test_unusable_clips_are_told_once_each(tmp_path: Path) -> None:
    with observer(tmp_path) as watching:
        watching.step(record(0, loader_counts={"missing_decode": 2}))
        wait_until(lambda: len(read_events(tmp_path)) >= 2)
        time.sleep(0.3)  # two more beats
        watching.step(record(1, loader_counts={"missing_decode": 5}))
    told = [(event["kind"], event.get("clips")) for event in read_events(tmp_path)]
    assert told == [("started", None), ("corrupt", 2), ("corrupt", 3), ("ended", None)]


def test_metrics_are_served_while_it_runs_and_name_a_phase_that_does_not_end(
    tmp_path: Path,
) -> None:
    settings = ObserveSettings(console="quiet")
    with observer(tmp_path, settings) as watching:
        watching.step(record(0))
        watching.enter("backward")
        assert watching.metrics_url is not None
        text = urllib.request.urlopen(watching.metrics_url, timeout=10).read().decode()
    assert "ausl_steps_total 1.0" in text
    assert 'ausl_phase_age_seconds{phase="backward"}' in text
    assert list((tmp_path / "targets").iterdir()) == []


def test_switched_off_only_the_lines_are_left(tmp_path: Path) -> None:
    threads = threading.active_count()
    with observer(tmp_path, ObserveSettings(enabled=False)) as watching:
        assert threading.active_count() == threads
        watching.enter("data")
        watching.step(record(0))
        watching.event("checkpoint", step=1)
        assert watching.metrics_url is None
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_profile_can_be_asked_for_by_touching_a_file(tmp_path: Path) -> None:
    with observer(tmp_path, quiet_settings(profile=ProfileSettings(steps=2))) as watching:
        (tmp_path / "profile").touch()
        wait_until(lambda: not (tmp_path / "profile").exists())
        for step in range(4):
            watching.step(record(step))
    assert "profile" in [event["kind"] for event in read_events(tmp_path)]
    assert len(list(tmp_path.glob("profiles/*/trace.json.gz"))) == 1


def test_a_text_file_for_a_node_exporter_is_kept_fresh_and_goes_at_the_end(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "textfiles"
    settings = quiet_settings(
        exporter=ExporterSettings(enabled=False, textfile_folder=str(folder))
    )
    with observer(tmp_path, settings) as watching:
        watching.step(record(0))
        wait_until(
            lambda: any(
                "ausl_steps_total" in path.read_text() and " 1.0" in path.read_text()
                for path in folder.glob("*.prom")
            )
        )
    assert list(folder.iterdir()) == []


def test_a_pushgateway_that_is_away_is_said_and_the_run_still_ends_well(tmp_path: Path) -> None:
    settings = quiet_settings(
        console="plain",
        exporter=ExporterSettings(enabled=False, pushgateway="http://127.0.0.1:9"),
    )
    stream = io.StringIO()
    watching = observer(tmp_path, settings, stream=stream)
    watching.close()
    watching.close()  # closing twice does nothing
    assert "push to the Pushgateway failed" in stream.getvalue()
    assert read_heartbeats(tmp_path)[0].standing == "ended"


def test_a_damaged_heartbeat_of_another_rank_is_said_once_and_does_not_stop_the_pulse(
    tmp_path: Path,
) -> None:
    settings, stream = quiet_settings(console="plain"), io.StringIO()
    with observer(tmp_path, settings, world_size=1, stream=stream):
        (tmp_path / "ranks").mkdir(exist_ok=True)
        (tmp_path / "ranks" / "rank-00001.json").write_text("{")
        wait_until(lambda: "other ranks' heartbeats failed" in stream.getvalue())
        before = read_times(tmp_path)
        wait_until(lambda: read_times(tmp_path) > before)
    assert stream.getvalue().count("other ranks' heartbeats failed") == 1


def read_times(run: Path) -> float:
    return float(json.loads((run / "ranks" / "rank-00000.json").read_text())["time"])
