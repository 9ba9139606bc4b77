"""Ranks of this machine: how they end together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import local
from launch.child import rank_environment
from launch.supervise import Place

ROOT = Path(__file__).parents[2]

# Stands for `python -m ausl_dist.train`: rank 1 does what the file `fate` says, rank 0 waits
# for it.
RANK = """
import os, signal, sys, time
run, rank = sys.argv[1], int(os.environ["RANK"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
fate = open(run + "/fate").read() if rank else ""
if fate == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if fate != "wait" and rank:
    sys.exit(int(fate))
def waits_for_the_others():
    time.sleep(60 if fate != "0" else 0)
open(f"{run}/pid-{rank}", "w").write(str(os.getpid()))
if not rank and open(run + "/fate").read() == "0":
    sys.exit(0)
waits_for_the_others()
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "standin" / "ausl_dist" / "train"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(RANK)
    monkeypatch.chdir(tmp_path / "standin")  # `python -m` looks here first
    monkeypatch.setattr(local, "GRACE_SECONDS", 1.0)
    (tmp_path / "logs").mkdir()
    return tmp_path


def test_the_job_ends_well_when_all_ranks_do(run: Path) -> None:
    (run / "fate").write_text("0")
    assert local.run_ranks(run, 2) == 0


def test_the_first_failure_is_the_jobs_and_the_others_leave_their_stacks(
    run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (run / "fate").write_text("die")
    started = time.monotonic()
    assert local.run_ranks(run, 2) == -signal.SIGKILL
    assert time.monotonic() - started < 20
    said = capfd.readouterr().err
    assert "rank 1 ended with code -9" in said
    assert "rank-1.log" in said
    assert "in waits_for_the_others" in said, (
        "rank 0's stacks go where its output goes: to the terminal"
    )


def test_ranks_do_not_outlive_a_launcher_that_is_killed(run: Path) -> None:
    (run / "fate").write_text("wait")
    code = (
        "import sys; from pathlib import Path; from launch import local; "
        "local.run_ranks(Path(sys.argv[1]), 2)"
    )
    # The stand-in must win over the package for the ranks, not for the launcher.
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}",
            str(run),
        ]
    )
    pids = [run / f"pid-{rank}" for rank in (0, 1)]
    while not all(path.exists() and path.read_text() for path in pids):
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    deadline = time.monotonic() + 10
    while any(alive(int(path.read_text())) for path in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_rank_knows_its_place_by_the_variables_of_a_cluster() -> None:
    variables = rank_environment(1, 1, 2, "127.0.0.1", 4000, "3")
    place = Place(
        job="7", restart=0, rank=1, local_rank=1, hosts=("localhost",), ranks_per_host=2
    )
    assert set(variables) == set(place.environment(0)) - {"GLOO_SOCKET_IFNAME"}
    assert (variables["RANK"], variables["WORLD_SIZE"]) == ("1", "2")
    assert variables["MASTER_PORT"] == "4000"
    assert os.environ.get("RANK") is None
