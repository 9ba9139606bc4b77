"""Scores of the backbone while it is trained: who starts the evaluation, and what its results
are used for.

    checkpoint in place ──▶ python -m ausl_dist.evaluate.online, at the lowest priority
        ──▶ RUN_FOLDER/online.jsonl ──▶ metrics, keep_best

One line for each evaluated checkpoint: {"step": 1000, "probe_icc": 0.31, "knn_icc": 0.24, ...};
`_f1` instead of `_icc` where the corpus is labelled with occurrence. It is a process of its own
because threads would share the interpreter with the loop, and its steps would wait; a failed
evaluation is told, and the run goes on.
"""

import os
import subprocess
import sys
from pathlib import Path

from ausl_dist.run_folder import LOGS_FOLDER, read_scores, step_of
from ausl_dist.train.settings import OnlineSettings

MODULE = "ausl_dist.evaluate.online"


class OnlineEvaluation:
    """Evaluates checkpoints beside the run, one at a time; while one is evaluated only the
    newest other one waits. For rank 0.
    """

    def __init__(self, settings: OnlineSettings, run_folder: Path) -> None:
        self._settings = settings
        self._run_folder = run_folder
        self._process: subprocess.Popen[bytes] | None = None
        self._running: Path | None = None
        self._waiting: Path | None = None
        self.log_path = run_folder / LOGS_FOLDER / "online.log"

    def offer(self, checkpoint: Path, step: int) -> None:
        """A checkpoint is in place: evaluate it if its turn has come and nobody has."""
        if (
            self._settings.corpus is not None
            and step % self._settings.every_steps == 0
            and step not in read_scores(self._run_folder)
        ):
            self._waiting = checkpoint
            self._start_next()

    def news(self) -> tuple[dict[str, float], Path | None]:
        """The scores of an evaluation that has ended since the last call, and the checkpoint of
        one that has failed.
        """
        if self._process is None or self._process.poll() is None or self._running is None:
            return {}, None
        scores = read_scores(self._run_folder).get(step_of(self._running), {})
        failed = self._running if self._process.returncode else None
        self._process = self._running = None
        self._start_next()
        return {
            name: value for name, value in scores.items() if name.startswith(("probe_", "knn_"))
        }, failed

    def finish(self, timeout_seconds: float) -> None:
        """Wait for the evaluation under way, and end it when it takes longer; the one that
        waits is dropped.
        """
        self._waiting = None
        if self._process is not None:
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start_next(self) -> None:
        if self._process is not None or self._waiting is None:
            return
        self._running, self._waiting = self._waiting, None
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        # The device belongs to the run; so do all cores but these.
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": str(self._settings.threads),
        }
        command = [sys.executable, "-m", MODULE, str(self._run_folder), str(self._running)]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
