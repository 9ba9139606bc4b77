"""A scheduler may signal twice: the second signal must not turn a clean end into a death by
signal.
"""

import subprocess
import sys

from ausl_dist.train.exits import Exit

ASKED_TWICE = """
import os, signal, sys
from ausl_dist.train.exits import Exit
from ausl_dist.train.stop import StopRequest

class LastThing:
    def __del__(self):  # runs while the interpreter goes down, after it has given up its own handlers
        kill(process, second)

kill, process, second = os.kill, os.getpid(), signal.SIGTERM
stop = StopRequest()
kill(process, signal.SIGUSR2)
assert stop.signal_name == "SIGUSR2"
sys.kept_to_the_end = LastThing()
if "ignore" in sys.argv:
    stop.ignore_from_now()
sys.exit(Exit.PREEMPTED)
"""


def exit_code(*words: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", ASKED_TWICE, *words], timeout=100, check=False
    ).returncode


def test_a_second_signal_while_the_process_goes_down_leaves_its_exit_code() -> None:
    assert exit_code("ignore") == Exit.PREEMPTED
