"""Whole runs for tests: a run folder, and its ranks as real processes over real shards."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from launch.ports import free_ports
from tests.support.forked import start_module
from tests.support.ranks import rank_environment
from tests.support.tiny import BATCH_NORM, RANKING
from tools.kills.start import Forked

ROOT = Path(__file__).resolve().parents[2]
TRAIN = (sys.executable, "-m", "ausl_dist.train")


def run_config(folder: Path, corpus: Path, **changes: Any) -> dict[str, Any]:
    """The settings of a tiny run of 12 steps; `changes` replace or extend the groups."""
    config: dict[str, Any] = {
        "name": folder.name,
        "folder": str(folder),
        "seed": 1,
        "steps": 12,
        "data": {
            "corpora": {"drawn": {"url": str(corpus)}},
            "image_size": 32,
            "lanes": 2,
            "clips_per_lane": 2,
            "shuffle_window": 4,
            "decode_threads": 1,
            "fetch_threads": 1,
            "prefetch_batches": 1,
        },
        "backbone": {"name": BATCH_NORM, "image_size": 32},
        "objectives": {"temporal_ranking": {**RANKING, "batch_norm": "merged"}},
        "mixture": {"temporal_ranking": 1.0},
        "optimizer": {},
        "engine": {"collective_timeout_seconds": 100.0},
        "checkpoint": {"every_steps": 3, "keep_last": 3},
        "observe": {"enabled": False},
        "health": {"every_steps": 5},
        "watch": {"step_timeout_seconds": 100.0, "startup_timeout_seconds": 400.0},
    }
    for group, values in changes.items():
        config[group] = (
            {**config.get(group, {}), **values}
            if isinstance(values, dict) and group != "objectives"
            else values
        )
    return config


def make_run(folder: Path, corpus: Path, **changes: Any) -> Path:
    """A run folder with its config.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(
        OmegaConf.create(run_config(folder, corpus, **changes)), folder / "config.yaml"
    )
    return folder


class Ranks:
    """The processes of one attempt; killed when the block ends.

    start  "fork": of a process that has the libraries in memory
           "command": as a launcher does
           "stand_by": by the command; they load their code, and are given their places afterwards
    """

    def __init__(
        self, folder: Path, world_size: int, *, start: str = "fork", **environment: str
    ) -> None:
        (port,) = free_ports(1)
        self.folder = folder
        begin = {"fork": _fork, "command": _command, "stand_by": _stand_by}[start]
        self.processes = [
            begin(
                folder,
                {**os.environ, **rank_environment(rank, world_size, port), **environment},
                _log(folder, rank),
            )
            for rank in range(world_size)
        ]

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *arguments: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all, and wait."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def wait(self, timeout_seconds: float = 400) -> list[int]:
        """Exit codes."""
        deadline = time.monotonic() + timeout_seconds
        return [
            process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes
        ]

    def wait_for_step(self, step: int, timeout_seconds: float = 400) -> None:
        """Return when metrics.jsonl has this step, or the ranks have ended."""
        deadline = time.monotonic() + timeout_seconds
        while not any(line["step"] >= step for line in metrics(self.folder)) and any(
            p.poll() is None for p in self.processes
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no step {step} within {timeout_seconds} s:\n{self.said()}")
            time.sleep(0.01)

    def said(self, rank: int = 0) -> str:
        return _log(self.folder, rank).read_text(errors="replace")[-3000:]


def _log(folder: Path, rank: int) -> Path:
    return folder / f"test-rank-{rank}.log"


def _fork(folder: Path, environment: dict[str, str], log: Path) -> Forked:
    return start_module("ausl_dist.train", str(folder), environment=environment, output=log)


def _command(
    folder: Path, environment: dict[str, str], log: Path, *options: str
) -> "subprocess.Popen[bytes]":
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*TRAIN, str(folder), *options],
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )


def _stand_by(
    folder: Path, environment: dict[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    process = _command(folder, {**environment, "MASTER_PORT": "1"}, log, "--stand-by")
    place = json.dumps({"MASTER_PORT": environment["MASTER_PORT"]})
    assert process.stdin is not None
    process.stdin.write(place.encode() + b"\n")
    process.stdin.close()
    return process


def run_to_end(
    folder: Path,
    world_size: int,
    timeout_seconds: float = 400,
    *,
    start: str = "fork",
    **environment: str,
) -> None:
    with Ranks(folder, world_size, start=start, **environment) as ranks:
        codes = ranks.wait(timeout_seconds)
        assert codes == [0] * world_size, ranks.said()


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl, as written, repetitions included."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def losses(folder: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of each step; a step done twice must have given the same."""
    found: dict[int, tuple[float, float]] = {}
    for line in metrics(folder):
        value = (line["loss"], line["gradient_norm"])
        assert found.setdefault(line["step"], value) == value, (
            f"step {line['step']} came out differently when repeated"
        )
    return found
