"""What a rank last said must be readable after its death, and tell slow, waiting and ended
ranks apart.
"""

from pathlib import Path

import pytest

from ausl_dist.observe.heartbeat import (
    heartbeat_of,
    read_heartbeats,
    slowest_rank,
    write_heartbeat,
)
from tests.support.observing import Clock, record, state


def beat(run: Path, rank: int, attempt: int = 1, waited: float = 0.0) -> None:
    of_rank = state(rank=rank, attempt=attempt)
    of_rank.add(record(0), waited=waited)
    write_heartbeat(run, heartbeat_of(of_rank, "running", 5.0))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    of_rank = state(rank=3, clock=Clock(1000.0))
    of_rank.add(record(6))
    of_rank.enter("backward")
    written = heartbeat_of(of_rank, "failed", 5.0, error="RuntimeError: out of memory")
    write_heartbeat(tmp_path, written)
    assert read_heartbeats(tmp_path) == [written]
    assert (written.steps_done, written.phase, written.phase_since, written.who) == (
        7,
        "backward",
        1000.0,
        "rank 3 (node7)",
    )


def test_only_the_newest_attempt_is_read(tmp_path: Path) -> None:
    for rank in range(4):
        beat(tmp_path, rank, attempt=1)
    beat(tmp_path, 0, attempt=2)
    assert [(heartbeat.rank, heartbeat.attempt) for heartbeat in read_heartbeats(tmp_path)] == [
        (0, 2)
    ]


def test_the_slowest_is_who_waits_least(tmp_path: Path) -> None:
    beat(tmp_path, 0, waited=0.15)
    assert slowest_rank(read_heartbeats(tmp_path)) is None
    beat(tmp_path, 1, waited=0.01)
    slowest = slowest_rank(read_heartbeats(tmp_path))
    assert slowest is not None
    assert slowest.rank == 1


def test_silence_counts_from_when_the_next_heartbeat_was_due() -> None:
    of_rank = state(clock=Clock(1000.0))
    assert heartbeat_of(of_rank, "running", 5.0).silent_seconds(now=1003.0) == 0
    assert heartbeat_of(of_rank, "running", 5.0).silent_seconds(now=1065.0) == 60
    assert heartbeat_of(of_rank, "ended", 5.0).silent_seconds(now=2000.0) == 0


def test_a_file_that_is_no_heartbeat_is_named(tmp_path: Path) -> None:
    (tmp_path / "ranks").mkdir()
    (tmp_path / "ranks" / "rank-00000.json").write_text('{"rank": 0}')
    with pytest.raises(ValueError, match=r"rank-00000\.json is not a heartbeat"):
        read_heartbeats(tmp_path)
