"""The goodput bench must put each second of a restart into the part that took it."""

import json
from pathlib import Path

import pytest

from ausl_dist.json_lines import append_json_line
from ausl_dist.train.startup import PARTS
from tools.bench_goodput import costs
from tools.goodput_bench.cost import (
    AGAIN,
    DETECT,
    FIRST_STEP,
    PROCESSES,
    Failure,
    Moment,
    parts,
)

SPENT = dict.fromkeys(PARTS, 0.25)  # two seconds


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Killed at 100 s after step 5, noticed at 101, its processes there at 101.5, ready at
    103.5; steps from 4 on at 104, 105, 106.
    """
    starts = [
        {"attempt": 1, "time": 50.0, "startup_seconds": SPENT},
        {"attempt": 2, "time": 103.5, "startup_seconds": SPENT},
    ]
    (tmp_path / "record.json").write_text(json.dumps({"starts": starts}))
    (tmp_path / "supervision").mkdir()
    append_json_line(tmp_path / "supervision" / "history.jsonl", {"time": 101.0})
    for step in range(6):
        append_json_line(tmp_path / "metrics.jsonl", {"step": step, "attempt": 1, "time": 90.0})
    for number, step in enumerate((4, 5, 6)):
        line = {"step": step, "attempt": 2, "time": 104.0 + number}
        append_json_line(tmp_path / "metrics.jsonl", line)
    return tmp_path


def test_every_second_stands_in_one_part(run: Path) -> None:
    before = Moment(time=100.0, step=5, attempt=1, decisions=0, cpu={})
    failure = Failure("rank", 5, parts(run, before, None))
    assert failure.seconds == pytest.approx(
        {DETECT: 1.0, PROCESSES: 0.5, **SPENT, FIRST_STEP: 0.5, AGAIN: 2.0}
    )
    assert failure.restart_seconds == pytest.approx(4.0)
    assert failure.total_seconds == pytest.approx(6.0)
    assert costs([failure])[-1] == "| goodput at one in 45 minutes | 0.9978 |"


def test_of_a_job_started_anew_the_scheduler_is_who_notices(run: Path) -> None:
    before = Moment(time=100.0, step=5, attempt=1, decisions=1, cpu={})
    seconds = parts(run, before, restarted=100.25)
    assert (seconds[DETECT], seconds[PROCESSES]) == pytest.approx((0.25, 1.25))
