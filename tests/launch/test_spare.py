"""A process that stands by becomes the next rank, and nobody is left behind by it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from launch.spare import Spare

# Stands for `python -m ausl_dist.train RUN --stand-by`.
RANK = """
import json, os, sys
print("loaded", sys.argv[2], flush=True)
line = sys.stdin.readline()
os.environ.update(json.loads(line) if line else {})
print("rank", os.environ["RANK"], "at", os.environ["MASTER_PORT"], flush=True)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "standin" / "ausl_dist" / "train"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(RANK)
    monkeypatch.chdir(tmp_path / "standin")  # `python -m` looks here first
    return tmp_path


@pytest.fixture
def log(run: Path) -> Iterator[IO[bytes]]:
    with open(run / "log", "ab") as file:
        yield file


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pid_of(spare: Spare) -> int:
    assert spare._process is not None
    return spare._process.pid


def test_it_becomes_the_rank_with_the_variables_of_its_new_place(
    run: Path, log: IO[bytes]
) -> None:
    with Spare(run) as spare:
        assert spare.become({}) is None
        spare.stand_by({"RANK": "1", "MASTER_PORT": "1000"}, log)
        until(lambda: "loaded --stand-by" in (run / "log").read_text())
        first = pid_of(spare)
        spare.stand_by({"RANK": "1", "MASTER_PORT": "1000"}, log)  # one is enough
        assert pid_of(spare) == first
        rank = spare.become({"RANK": "1", "MASTER_PORT": "2000"})
        assert rank is not None
        assert (rank.pid, rank.wait(60)) == (first, 0)
    assert (run / "log").read_text().splitlines()[-1] == "rank 1 at 2000"


def test_one_that_was_ended_meanwhile_is_not_given_a_place(run: Path, log: IO[bytes]) -> None:
    with Spare(run) as spare:
        spare.stand_by({"RANK": "1", "MASTER_PORT": "1000"}, log)
        until(lambda: "loaded" in (run / "log").read_text())
        os.kill(pid_of(spare), signal.SIGTERM)
        os.waitid(os.P_PID, pid_of(spare), os.WEXITED | os.WNOWAIT)
        assert spare.become({"RANK": "1", "MASTER_PORT": "2000"}) is None


def test_one_that_is_not_needed_ends_with_its_supervisor(run: Path, log: IO[bytes]) -> None:
    with Spare(run) as spare:
        spare.stand_by({"RANK": "1", "MASTER_PORT": "1000"}, log)
        pid = pid_of(spare)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_none_stands_by_where_none_is_wanted_or_something_else_is_run(
    run: Path, log: IO[bytes]
) -> None:
    for spare in (Spare(run, wanted=False), Spare(run, module="tests.support.standin_rank")):
        with spare:
            spare.stand_by({}, log)
            assert spare._process is None
