"""How long a run takes from a kill to its first new optimizer step, and on what.

    python -m tools.bench_restart runs/demo/train

A copy of the run goes on from its newest checkpoint, is killed with SIGKILL and started again by
`python -m launch resume`, several times. The scheduler's own delay is not in it. The stages are
told apart by what the run writes anyway: record.json, metrics.jsonl. What other failures cost,
and a restart in place by processes that stand by: bench_goodput.py.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ausl_dist import command
from ausl_dist.files import read_json, write_atomically
from ausl_dist.json_lines import read_log_lines
from ausl_dist.observe.history import last_metrics
from ausl_dist.run_folder import (
    CHECKPOINTS_FOLDER,
    CLUSTER_FILE,
    CONFIG_FILE,
    FENCE_FOLDER,
    LOGS_FOLDER,
    METRICS_FILE,
    RECORD_FILE,
    newest_whole_checkpoint,
)
from ausl_dist.train.startup import PARTS

MORE_STEPS = 1000000
WAIT_SECONDS = 600.0
PROCESSES, FIRST_BATCH, FIRST_STEP = "processes", "first batch", "first step"
STAGES = (PROCESSES, *PARTS, FIRST_BATCH, FIRST_STEP)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time from a kill to the first new step of a run on this machine."
    )
    parser.add_argument("run", type=Path, help="a run folder with at least one checkpoint")
    parser.add_argument(
        "--repeats", type=int, default=3, help="how often the run is killed (default 3)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-restart-") as scratch:
        folder = copy_run(arguments.run, Path(scratch) / "run")
        # the first one warms the file cache
        times = [restart(folder) for _ in range(arguments.repeats + 1)][1:]
    print(f"kill to first new step, median of {len(times)} (scheduler's delay not included):")
    for stage in STAGES:
        print(f"  {statistics.median(each[stage] for each in times):6.2f} s  {stage}")
    totals = [sum(each.values()) for each in times]
    print(
        f"  {statistics.median(totals):6.2f} s  in all (from {min(totals):.2f} to "
        f"{max(totals):.2f})"
    )
    return 0


def copy_run(source: Path, target: Path) -> Path:
    """A run folder that goes on where `source` stands, with steps enough to be killed in."""
    import yaml

    newest = newest_whole_checkpoint(source)
    if newest is None:
        raise ValueError(
            f"{source} has no checkpoint: give the folder of a run that has saved, "
            "such as runs/demo/train"
        )
    shutil.copytree(newest, target / CHECKPOINTS_FOLDER / newest.name)
    (target / LOGS_FOLDER).mkdir()
    config: dict[str, Any] = yaml.safe_load((source / CONFIG_FILE).read_text())
    config |= {"folder": str(target), "steps": config["steps"] + MORE_STEPS}
    write_atomically(
        target / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    )
    shutil.copy2(source / CLUSTER_FILE, target)
    return target


def restart(folder: Path) -> dict[str, float]:
    """Start the run, wait for its first step, kill it; returns seconds for each stage."""
    attempts = len(list((folder / FENCE_FOLDER).glob("*.json")))
    started = time.time()
    with open(folder / "bench.log", "ab") as log:
        words = [sys.executable, "-m", "launch", "resume", str(folder)]
        process = subprocess.Popen(
            words, stdout=log, stderr=log, start_new_session=True, cwd=Path(__file__).parents[1]
        )
    try:
        line = _first_step(folder, attempts, process)
    finally:
        _kill_tree(process)
    start = read_json(folder / RECORD_FILE)["starts"][-1]
    spent: dict[str, float] = start["startup_seconds"]
    ready, ended, seconds = float(start["time"]), float(line["time"]), line["seconds"]
    computed = seconds["total"] - seconds["data"]
    return {
        PROCESSES: ready - sum(spent.values()) - started,
        **{part: spent[part] for part in PARTS},
        FIRST_BATCH: ended - computed - ready,
        FIRST_STEP: computed,
    }


def _first_step(
    folder: Path, attempts: int, process: subprocess.Popen[bytes]
) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        newest = last_metrics(folder)
        if newest is not None and newest.get("attempt", 0) > attempts:
            return next(
                line
                for line in read_log_lines(folder / METRICS_FILE)
                if line.get("attempt", 0) == attempts + 1
            )
        time.sleep(0.05)
    raise RuntimeError(
        f"the run made no step:\n{(folder / 'bench.log').read_text(errors='replace')[-2000:]}"
    )


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill the launcher and the ranks, each of which leads a session of its own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ranks = [int(word) for word in children.read_text().split()] if children.exists() else []
    for each in (*ranks, process.pid):
        os.kill(each, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    command.run(main)
