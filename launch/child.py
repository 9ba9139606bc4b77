"""A rank's process, seen from the one that starts it: its command and environment, the same on
one machine and on a cluster.

It dies with its parent, and leaves its stacks when it has to be ended.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

TRAINER = "ausl_dist.train"

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
LIBC = ctypes.CDLL(None)  # loaded here: little is safe between fork and exec
# Python then writes the stacks of all threads on SIGABRT
STACKS_ON_ABORT = {"PYTHONFAULTHANDLER": "1"}


def rank_environment(
    rank: int, local_rank: int, ranks: int, address: str, port: int, threads: str
) -> dict[str, str]:
    """The variables by which a rank knows its place, and where all of them meet; `threads` is
    for each rank, where the user's OMP_NUM_THREADS says nothing else.
    """
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        **STACKS_ON_ABORT,
    }


def start_rank(
    run_folder: Path,
    environment: Mapping[str, str],
    output: IO[bytes] | None,
    *,
    module: str = TRAINER,
    own_session: bool = False,
    stands_by: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a rank of the run in `run_folder`; it writes to `output`, or where this process
    does. One that stands by waits for its place on a pipe.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module, str(run_folder), *["--stand-by"] * stands_by],
        stdin=subprocess.PIPE if stands_by else None,
        env={**os.environ, **environment},
        stdout=output,
        stderr=output,
        start_new_session=own_session,
        preexec_fn=die_with_parent,
    )


def die_with_parent() -> None:
    """For Popen's preexec_fn: the kernel kills the child when its parent dies, however it dies."""
    LIBC.prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def abort(child: "subprocess.Popen[bytes]") -> None:
    """Ask a child that hangs, or is stopped, for its stacks; it ends by this, unless it hangs
    inside the kernel.
    """
    child.send_signal(signal.SIGABRT)
    child.send_signal(signal.SIGCONT)  # a stopped process takes signals only when it goes on
