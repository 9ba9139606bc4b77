"""A process that stands by to become a rank when the one before it has failed: it has loaded its
code already, which otherwise is the longest part of a restart (see ausl_dist/train/standby.py).

    rank trains ──STANDBY_SECONDS──▶ spare started ──rank fails──▶ spare gets the next place
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from launch.child import TRAINER, start_rank

STANDBY_SECONDS = 60.0  # after the rank itself: until then it needs the cores for its own start


class Spare:
    """At most one process that stands by."""

    def __init__(self, run_folder: Path, *, module: str = TRAINER, wanted: bool = True) -> None:
        self._run_folder = run_folder
        self._wanted = wanted and module == TRAINER
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the process that still stands by."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stand_by(self, environment: Mapping[str, str], output: IO[bytes]) -> None:
        """Start the process, if there is none yet, with a rank's variables and its log."""
        if self._wanted and self._process is None:
            self._process = start_rank(self._run_folder, environment, output, stands_by=True)

    def become(self, environment: Mapping[str, str]) -> "subprocess.Popen[bytes] | None":
        """Make it the rank with these variables; None where no process stands by, or not any
        more: a signal to all processes of a job ends it.
        """
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(dict(environment)).encode() + b"\n")
            process.stdin.close()
        except BrokenPipeError:
            process.wait()
            return None
        return process
