"""What `status` says of a run, from its folder alone."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from ausl_dist.json_lines import append_json_line
from ausl_dist.observe.heartbeat import Heartbeat, read_heartbeats, write_heartbeat
from ausl_dist.observe.thresholds import straggler
from ausl_dist.run_folder import checkpoint_folder, log_file, newest_whole_step
from launch.attempts import Attempt, append_history
from launch.status import look, show
from launch.verdict import Decision, Ended
from tests.support.run_folders import complete

NOW = 1_800_000_000.0
BEAT = Heartbeat(
    run="r",
    rank=0,
    world_size=2,
    node="a",
    attempt=1,
    pid=1,
    time=NOW - 2,
    standing="running",
    steps_done=400,
    total_steps=1000,
    last_step_at=NOW - 2,
    phase="step",
    phase_since=NOW - 2,
    interval_seconds=5.0,
    step_seconds=0.5,
    seconds_left=300.0,
    own_seconds=0.3,
    data_share=0.04,
    counts={"corrupt": {"decode": 3}},
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "cluster.yaml").write_text("scheduler: local\nranks: 2\n")
    return tmp_path


def rows(run: Path) -> dict[str, str]:
    return dict(look(run, NOW).rows)


def test_a_run_that_has_not_begun_is_told_as_such(run: Path) -> None:
    assert rows(run)["state"] == "not started"
    assert rows(run)["step"] == "none yet"


def test_a_run_that_starts_says_so_and_what_it_waits_for(run: Path) -> None:
    log = log_file(run, 0)
    log.parent.mkdir()
    log.touch()
    os.utime(log, (NOW - 40, NOW - 40))
    assert rows(run)["state"].startswith("starting for 40 s: its processes load the code")
    assert look(run, NOW).alive, "worth looking again"
    assert not look(run, NOW + 3600).alive
    assert "did not start" in dict(look(run, NOW + 3600).rows)["state"]
    write_heartbeat(
        run, dataclasses.replace(BEAT, steps_done=0, phase="data", phase_since=NOW - 9)
    )
    assert rows(run)["state"] == "starting: 1 ranks are there, rank 0 in data for 9 s"


def test_a_run_that_failed_at_its_start_says_why(run: Path) -> None:
    log = log_file(run, 0)
    log.parent.mkdir()
    log.write_text("loading\nerror: the corpus is not there\n")
    assert rows(run)["state"] == "failed before its first step: error: the corpus is not there"


def test_a_running_one_tells_step_rate_time_left_loss_and_corrupt_clips(run: Path) -> None:
    write_heartbeat(run, BEAT)
    append_json_line(run / "metrics.jsonl", {"step": 399, "loss": 0.25, "attempt": 1})
    said = rows(run)
    assert said["state"] == "running"
    assert said["step"] == "400 of 1,000"
    assert said["rate"] == "2.00 steps/s, 5 min 00 s left"
    assert said["loss"] == "0.2500"
    assert said["corrupt clips"] == "3 decode"
    assert look(run, NOW).alive


def test_the_slowest_rank_and_a_silent_one_are_named_with_their_hosts(run: Path) -> None:
    write_heartbeat(run, BEAT)
    write_heartbeat(
        run,
        dataclasses.replace(
            BEAT, rank=1, node="b", own_seconds=0.9, time=NOW - 305, phase="data"
        ),
    )
    assert rows(run)["slowest"].startswith("rank 1 (b)")
    assert rows(run)["silent"] == "rank 1 (b) for 5 min 00 s, in data"


def test_a_run_whose_ranks_were_killed_is_not_called_running(run: Path) -> None:
    write_heartbeat(run, dataclasses.replace(BEAT, time=NOW - 500))
    assert rows(run)["state"].startswith("killed")
    assert not look(run, NOW).alive


def test_restarts_and_their_reasons_are_told(run: Path) -> None:
    append_history(
        Attempt(run, "7-0-0"),
        Ended("failed", 5, 0, "killed by SIGKILL", "b"),
        Decision("again", "rank 1 on b failed"),
    )
    append_history(
        Attempt(run, "7-0-1"),
        Ended("failed", 5, 0, "x", "b"),
        Decision("requeue", "again", exclude=("b",)),
    )
    said = rows(run)
    assert said["restarts"] == "2, the last: again"
    assert said["kept out"] == "b"


def test_a_checkpoint_counts_only_when_it_is_whole(run: Path) -> None:
    for step in (10, 15, 17):
        folder = checkpoint_folder(run, step)
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{ }")
    complete(checkpoint_folder(run, 10))
    complete(checkpoint_folder(run, 15))
    (checkpoint_folder(run, 15) / "state.json").write_text("{")
    assert newest_whole_step(run) == 10
    assert rows(run)["checkpoint"].startswith("step 10")
    (checkpoint_folder(run, 10) / "state.json").write_text("[ ]")
    assert newest_whole_step(run) == 0


def test_a_straggler_is_a_rank_of_twice_the_usual_time_among_at_least_three(run: Path) -> None:
    write_heartbeat(run, BEAT)
    write_heartbeat(run, dataclasses.replace(BEAT, rank=1, node="b", own_seconds=0.9))
    assert straggler(read_heartbeats(run)) is None
    write_heartbeat(run, dataclasses.replace(BEAT, rank=2, node="c"))
    slow = straggler(read_heartbeats(run))
    assert slow is not None
    assert slow.node == "b"


def test_a_folder_that_is_no_run_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a run folder"):
        look(tmp_path, NOW)


def test_a_history_line_cut_by_a_kill_is_passed_over(run: Path) -> None:
    append_history(
        Attempt(run, "7-0-0"), Ended("failed", 5, 0, "x", "b"), Decision("again", "why")
    )
    with open(run / "supervision" / "history.jsonl", "a") as file:
        file.write(json.dumps({"time": 1})[:-4])
    assert rows(run)["restarts"] == "1, the last: why"


@pytest.mark.parametrize(
    "text",
    ["a: [1", "? [1]\n: 2", "[" * 100_000, "- 1", "", "ranks: 1", "a: !!python/object:x {}"],
)
def test_a_cluster_file_that_is_none_of_ours_is_refused(run: Path, text: str) -> None:
    (run / "cluster.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"cluster\.yaml"):
        look(run, NOW)


def test_files_of_a_run_that_are_devices_or_pipes_are_refused(run: Path) -> None:
    (run / "ranks").mkdir()
    os.mkfifo(run / "ranks" / "rank-00000.json")
    with pytest.raises(ValueError, match="device or a pipe"):
        look(run, NOW)
    (run / "cluster.yaml").unlink()
    (run / "cluster.yaml").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="device or a pipe"):
        look(run, NOW)


@pytest.mark.parametrize("change", [{"last_step_at": "x"}, {"counts": {"corrupt": 1}}])
def test_what_a_rank_cannot_have_said_is_refused(run: Path, change: dict[str, object]) -> None:
    write_heartbeat(run, dataclasses.replace(BEAT, **change))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="this version writes"):
        look(run, NOW)


def test_words_in_brackets_are_shown_as_they_are(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = dataclasses.replace(BEAT, standing="failed", error="no [/data] and no [red]")
    write_heartbeat(run, failed)
    show(run, watch=False)
    assert "no [/data] and no [red]" in capsys.readouterr().out
