"""A thread that ends a run which makes no progress, and says where every thread stood.

    loop: watch.at("forward") ... watch.step_done()        nothing for too long
        ──▶ stacks to RUN_FOLDER/logs ──▶ exit code STALLED

A rank whose peer hangs cannot be interrupted inside a collective, so the process ends from
here, without cleaning up: checkpoints are whole at any moment.
"""

import faulthandler
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ausl_dist.run_folder import LOGS_FOLDER
from ausl_dist.train.exits import Exit
from ausl_dist.train.settings import WatchSettings


class Watch:
    """Ends the process with `Exit.STALLED` when no step is done for as long as the settings
    allow.
    """

    def __init__(self, settings: WatchSettings, run_folder: Path, rank: int) -> None:
        self._settings = settings
        self._path = run_folder / LOGS_FOLDER / f"stalled-rank-{rank:05d}.txt"
        self._rank = rank
        self._where = "start-up"
        self._last = time.monotonic()
        self._allowed_seconds = settings.startup_timeout_seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()

    def at(self, where: str) -> None:
        """Note what the loop does now, for the report."""
        self._where = where

    def step_done(self) -> None:
        """The run has made progress; from now on the time allowed is that of a step."""
        self._last = time.monotonic()
        self._allowed_seconds = self._settings.step_timeout_seconds

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._allowed_seconds / 4)):
            silent_seconds = time.monotonic() - self._last
            if silent_seconds > self._allowed_seconds:
                self._end(silent_seconds)

    def _end(self, silent_seconds: float) -> None:
        message = (
            f"rank {self._rank}: no step for {silent_seconds:.0f} s, in {self._where}; "
            f"stacks of all threads in {self._path}\n"
        )
        sys.stderr.write(message)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "w", encoding="utf-8") as file:
            file.write(message)
            file.flush()
            faulthandler.dump_traceback(file)
        sys.stderr.flush()
        os._exit(Exit.STALLED)
