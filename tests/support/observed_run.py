"""A real two-rank training run (DeepSpeed, gloo, DALI) for tests that watch it from outside."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from launch.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
RANKS = 2


class ObservedRun:
    """Two ranks of `python -m ausl_dist.train`, started by `with` and killed at its end if they
    still run.
    """

    def __init__(
        self, folder: Path, corpus: str, targets: Path, *, steps: int = 100_000, **changes: Any
    ) -> None:
        self.folder = folder
        self.control = folder / "trouble"
        self._processes: list[subprocess.Popen[bytes]] = []
        (folder / "logs").mkdir(parents=True)
        config = self._config(corpus, targets, steps)
        for group, values in changes.items():
            config[group] = {**config.get(group, {}), **values}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        # what `status` looks for
        (folder / "cluster.yaml").write_text(yaml.safe_dump({"scheduler": "local"}))

    def _config(self, corpus: str, targets: Path, steps: int) -> dict[str, Any]:
        objective = {
            "_target_": "tests.support.troubled.Troubled",
            "control": str(self.control),
            "n_far": 3,
            "embedding_dim": 16,
        }
        return {
            "name": "observed",
            "folder": str(self.folder),
            "steps": steps,
            "data": {
                "corpora": {"main": {"url": corpus}},
                "image_size": 32,
                "lanes": RANKS,
                "clips_per_lane": 4,
                "shuffle_window": 8,
                "decode_threads": 1,
                "memory_mib": 16,
            },
            "backbone": {"name": "test_convnext", "image_size": 32},
            "objectives": {"ranking": objective},
            "mixture": {"ranking": 1.0},
            "optimizer": {"learning_rate": 1e-4, "schedule": "constant"},
            "checkpoint": {"every_steps": 20},
            "health": {"every_steps": 5, "min_effective_rank": 1.05},
            "watch": {"max_bad_steps": 1000},
            "observe": {
                "exporter": {"discovery_folder": str(targets)},
                "heartbeat_seconds": 0.5,
                "console_seconds": 1.0,
                "window_steps": 16,
            },
        }

    def __enter__(self) -> "ObservedRun":
        (port,) = free_ports(1)
        common = {
            "WORLD_SIZE": str(RANKS),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),  # where `troubled` lies
        }
        for rank in range(RANKS):
            environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            with open(self.folder / "logs" / f"rank-{rank}.log", "ab") as log:
                command = [sys.executable, "-m", "ausl_dist.train", str(self.folder)]
                self._processes.append(
                    subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def provoke(self, trouble: str) -> None:
        """Tell the objective to get into trouble, or with "" to get out of it."""
        self.control.write_text(trouble)

    def kill(self, rank: int) -> None:
        self._processes[rank].send_signal(signal.SIGKILL)

    def exit_codes(self) -> list[int | None]:
        return [process.poll() for process in self._processes]

    def logs(self) -> str:
        """What the ranks printed, for the message of a failing test."""
        return "\n".join(
            path.read_text(errors="replace")[-3000:]
            for path in sorted((self.folder / "logs").glob("*"))
        )
