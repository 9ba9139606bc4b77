"""Each kind of trouble must be named in words, by its cause and not by its consequences."""

import dataclasses
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ausl_dist.json_lines import append_json_line
from ausl_dist.observe.diagnosis import findings
from ausl_dist.observe.heartbeat import Heartbeat, heartbeat_of, write_heartbeat
from ausl_dist.observe.history import append_event
from ausl_dist.observe.report import build_report
from launch.status import look
from tests.support.observing import Clock, record, state

NOW = 1_800_000_000.0


def healthy(rank: int) -> Heartbeat:
    of_rank = state(rank=rank, clock=Clock(NOW - 1))
    for step in range(8):
        of_rank.add(record(step, loader_counts={"clips": 8, "retries": 0}), waited=0.02)
    of_rank.enter("step")
    return heartbeat_of(of_rank, "running", 5.0)


def diagnose(run: Path, *changes: dict[str, Any]) -> list[tuple[str, str]]:
    """Findings about a run of as many ranks as there are changes to healthy ones."""
    for rank, change in enumerate(changes):
        write_heartbeat(run, dataclasses.replace(healthy(rank), **change))
    return [(finding.kind, finding.text) for finding in findings(run, now=NOW)]


def test_a_healthy_run_and_one_that_has_not_begun_have_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path) == []
    assert diagnose(tmp_path, {}, {}) == []


def test_a_killed_rank_is_named_and_not_the_errors_of_those_it_left_behind(
    tmp_path: Path,
) -> None:
    error = "RuntimeError: Connection closed by peer"
    ((kind, text),) = diagnose(
        tmp_path, {"standing": "failed", "error": error}, {"time": NOW - 120}
    )
    assert kind == "rank down"
    assert (
        text == "rank 1 (node7) fell silent without an end at step 8, 2 min 00 s ago: killed, "
        "or the host is gone"
    )


def test_status_and_report_say_it_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: demo\n")
    (tmp_path / "cluster.yaml").write_text("scheduler: local\n")
    ((kind, text),) = diagnose(tmp_path, {}, {"time": NOW - 120})
    assert ("trouble", f"{kind}: {text}") in look(tmp_path, NOW).rows
    assert f"<b>{kind}</b>: {text}" in build_report(tmp_path, NOW)


def test_a_killed_process_on_this_host_is_known_at_once(tmp_path: Path) -> None:
    here = {"node": socket.gethostname()}
    assert diagnose(tmp_path, here | {"pid": os.getpid()}, {}) == []
    # beyond what the kernel gives out
    ((kind, text),) = diagnose(tmp_path, here | {"pid": 2**22 + 1}, {})
    assert kind == "rank down"
    assert text.startswith("rank 0")


def test_of_several_failed_ranks_the_first_is_told(tmp_path: Path) -> None:
    later = {"standing": "failed", "error": "RuntimeError: Connection closed by peer"}
    first = {"standing": "failed", "error": "OutOfMemoryError: 2 GiB", "time": NOW - 3}
    ((kind, text),) = diagnose(tmp_path, later, first)
    assert (kind, text) == (
        "failed",
        "rank 1 (node7) failed at step 8: OutOfMemoryError: 2 GiB; rank 0 (node7) followed",
    )


def test_a_store_that_stalls_is_the_cause_and_the_missing_steps_are_not_told(
    tmp_path: Path,
) -> None:
    no_step = {"last_step_at": NOW - 90}
    waiting = {"phase": "data", "phase_since": NOW - 90, "counts": {"retries": 7}}
    ((kind, text),) = diagnose(tmp_path, no_step, no_step | waiting)
    assert kind == "starved"
    assert (
        text == "rank 1 (node7): waiting for one batch of data for 1 min 30 s; "
        "7 reads from storage had to be repeated"
    )


def test_a_hang_tells_where_the_ranks_are(tmp_path: Path) -> None:
    no_step = {"last_step_at": NOW - 90}
    assert diagnose(tmp_path, no_step, no_step) == [
        (
            "stuck",
            "no step for 1 min 30 s: all ranks are inside the step, "
            "in computation or in a collective",
        )
    ]
    assert diagnose(tmp_path, no_step, no_step | {"phase": "save"}) == [
        ("stuck", "no step for 1 min 30 s: rank 1 (node7): in save")
    ]


def test_a_slow_rank_is_named_with_its_own_time_and_what_it_waits_for(tmp_path: Path) -> None:
    ((kind, text),) = diagnose(tmp_path, {}, {"own_seconds": 0.6})
    assert (kind, text) == (
        "slow rank",
        "rank 1 (node7) holds the others up: 0.60 s of its own a step, the others 0.18 s",
    )
    late_data = {
        "own_seconds": 0.6,
        "data_share": 0.7,
        "blocked": {"fetch": 5.0, "decode": 5.1, "augment": 5.2},
    }
    ((_, text),) = diagnose(tmp_path, {}, late_data)
    assert text.endswith("; it waits for data 70% of the time, for fetch")


def test_starving_names_the_stage_that_is_to_blame(tmp_path: Path) -> None:
    starving = {"data_share": 0.4, "blocked": {"fetch": 0.1, "decode": 5.0, "augment": 5.2}}
    ((kind, text),) = diagnose(tmp_path, starving, starving)
    assert (kind, text) == (
        "starved",
        "training waits for data 40% of the time, for decode (rank 0 (node7))",
    )


def test_a_collapse_a_skipped_step_and_unusable_clips_are_told_also_of_a_run_that_has_ended(
    tmp_path: Path,
) -> None:
    append_event(
        tmp_path,
        "rank-00000",
        {"time": NOW, "kind": "collapse", "objective": "ranking", "effective_rank": 1.04},
    )
    append_event(tmp_path, "rank-00000", {"time": NOW, "kind": "skipped", "step": 57})
    place = {"corpus": "main", "place": "shard-000002.tar[0:100]", "clip": 3}
    append_json_line(
        tmp_path / "ledger.jsonl", {"reason": "decode", "detail": "no keyframe", **place}
    )
    ended = {
        "standing": "ended",
        "collapsed": ["ranking"],
        "skipped": 2,
        "counts": {"corrupt": {"decode": 4}},
    }
    assert diagnose(tmp_path, ended) == [
        (
            "collapse",
            "objective ranking has collapsed: the effective rank of its features is 1.0",
        ),
        (
            "not finite",
            "2 steps left out because loss or gradient was not finite, the last one step 57",
        ),
        (
            "corrupt",
            "4 clips could not be used (decode); for instance main/shard-000002.tar[0:100], "
            "clip 3: no keyframe",
        ),
    ]


def test_a_run_that_does_not_save_and_a_full_disk_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_event(
        tmp_path, "rank-00000", {"time": NOW - 3 * 3600, "kind": "started", "attempt": 1}
    )
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: type("Usage", (), {"free": 1, "total": 100})()
    )
    assert [kind for kind, _ in diagnose(tmp_path, {})] == ["checkpoint old", "disk"]


def test_restarts_are_told_with_the_launchers_reason(tmp_path: Path) -> None:
    append_event(
        tmp_path,
        "launcher",
        {"time": NOW - 9, "kind": "attempt_ended", "attempt": 1, "why": "node7 failed"},
    )
    append_event(tmp_path, "rank-00000", {"time": NOW - 5, "kind": "started", "attempt": 2})
    assert diagnose(tmp_path, {"attempt": 2}) == [
        ("restarted", "the run was started again once, the last time because node7 failed")
    ]
