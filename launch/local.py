"""Run a job on this machine: one process per rank, with the environment that a cluster would
give it.

1. each rank is `python -m ausl_dist.train RUN` with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR
   and MASTER_PORT set;
2. rank 0 keeps the terminal, every rank writes RUN/logs/rank-N.log;
3. SIGINT and SIGTERM are passed on: the ranks save together and end;
4. when one rank fails the others are ended within GRACE_SECONDS, with the stacks of their
   threads in their logs, and the first failure is the job's.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from ausl_dist.run_folder import log_file
from ausl_dist.train.exits import Exit
from launch.child import abort, rank_environment, start_rank
from launch.ports import free_ports

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 20.0
DUMP_SECONDS = 2.0
POLL_SECONDS = 0.2
GOOD_ENDS = (None, Exit.DONE, Exit.PREEMPTED)  # None: not ended


def run_ranks(folder: Path, ranks: int) -> int:
    """Run the job in `folder` with `ranks` processes until all have ended; returns 0 or the
    first failure's exit code.
    """
    (port,) = free_ports(1)
    threads = str(max(1, (os.cpu_count() or 1) // ranks))
    with ExitStack() as stack:
        processes = []
        for rank in range(ranks):
            log = stack.enter_context(open(log_file(folder, rank), "ab"))
            environment = rank_environment(rank, rank, ranks, LOOPBACK, port, threads)
            # Rank 0 keeps the terminal for its live view; the others only write their log.
            output = None if rank == 0 else log
            processes.append(start_rank(folder, environment, output, own_session=True))
        stack.callback(_kill_all, processes)
        return _wait(processes, folder)


def _wait(processes: list[subprocess.Popen[bytes]], folder: Path) -> int:
    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    previous = {
        number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        deadline, first_failure = float("inf"), 0
        # every one is polled, so that every return code is known
        while None in [process.poll() for process in processes]:
            failed = [
                (rank, process.returncode)
                for rank, process in enumerate(processes)
                if process.returncode not in GOOD_ENDS
            ]
            if failed and not first_failure:
                rank, first_failure = failed[0]
                deadline = time.monotonic() + GRACE_SECONDS
                print(
                    f"rank {rank} ended with code {first_failure}; its log: "
                    f"{folder / 'logs' / f'rank-{rank}.log'}",
                    file=sys.stderr,
                )
            if time.monotonic() > deadline:
                _end_hung(processes)
            time.sleep(POLL_SECONDS)
        code = first_failure or next(
            (process.returncode for process in processes if process.returncode), 0
        )
        if code == Exit.PREEMPTED:
            print(f"saved; it goes on by: python -m launch resume {folder}", file=sys.stderr)
        return code
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end_hung(processes: list[subprocess.Popen[bytes]]) -> None:
    """End ranks that wait for one that is gone; the abort makes them write where each of their
    threads stands.
    """
    for process in processes:
        if process.poll() is None:
            abort(process)
    time.sleep(DUMP_SECONDS)
    _kill_all(processes)


def _kill_all(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
    for process in processes:
        process.wait()
