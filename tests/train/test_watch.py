"""A run that hangs ends by itself, says where, and with its own exit code; a run that gets on
is left alone.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ausl_dist.train.exits import Exit
from ausl_dist.train.settings import WatchSettings
from ausl_dist.train.watch import Watch

HANGING = """
import sys, time
from pathlib import Path
from ausl_dist.train.settings import WatchSettings
from ausl_dist.train.watch import Watch

def waits_for_a_rank_that_is_gone():
    time.sleep(600)

settings = WatchSettings(startup_timeout_seconds=60, step_timeout_seconds=0.5)
with Watch(settings, Path(sys.argv[1]), rank=3) as watch:
    watch.step_done()
    watch.at("forward")
    waits_for_a_rank_that_is_gone()
"""


def test_a_hanging_step_ends_with_the_stacks_of_all_threads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ},
        check=False,
    )
    assert done.returncode == Exit.STALLED
    assert "in forward" in done.stderr
    stacks = (tmp_path / "logs" / "stalled-rank-00003.txt").read_text()
    assert "waits_for_a_rank_that_is_gone" in stacks


def test_steps_keep_it_quiet_and_closing_ends_it(tmp_path: Path) -> None:
    with Watch(
        WatchSettings(startup_timeout_seconds=60, step_timeout_seconds=5), tmp_path, rank=0
    ) as watch:
        for _ in range(5):
            time.sleep(0.05)
            watch.step_done()
    assert not (tmp_path / "logs").exists()


def test_exit_codes_do_not_collide_with_pythons_own() -> None:
    assert len({*Exit}) == len(Exit)
    assert not {int(code) for code in Exit} & {1, 2, 130, 137, 143}


@pytest.mark.parametrize("name", ["PREEMPTED", "STALLED", "FENCED", "DIVERGED"])
def test_launchers_find_the_codes_by_name(name: str) -> None:
    assert Exit[name] > 64
