"""Kill a run again and again, and see that it comes to the very same end.

    python -m tools.kill_trial --kills 100 --folder /tmp/kills

A tiny run of two ranks over a rendered corpus in an S3 store of its own is done once
undisturbed. Then runs of the same settings are started, and SIGKILL meets a part of them at a
moment, both drawn by chance:

    part      a rank, or who started it: the launcher, a task's supervisor (the others of the
    job
              then end too, as Slurm ends them)
    moment    start    while processes, ranks, model, checkpoint and data come up
              step     anywhere in a step
              save     while a checkpoint is written, or has just been
              end      after the last step: in the last save, or on the way out

A run that was killed is started again until it is done. Then every step's loss, gradient norm
and clips (which, and their pixels), also of steps that were done twice, and every tensor of the
last checkpoint must equal the undisturbed run's, byte for byte. Ends with 1 where one does not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ausl_dist import command
from ausl_dist.files import read_json, write_atomically
from ausl_dist.json_lines import read_log_lines
from ausl_dist.objectives.base import BatchView, Loss
from ausl_dist.objectives.temporal_ranking import TemporalRanking
from ausl_dist.randomness import stable_hash
from ausl_dist.run_folder import (
    CHECKPOINTS_FOLDER,
    CLUSTER_FILE,
    CONFIG_FILE,
    LOGS_FOLDER,
    MANIFEST_FILE,
    METRICS_FILE,
    newest_whole_checkpoint,
    newest_whole_step,
)
from launch.child import die_with_parent
from launch.object_store import ObjectStore

RANKS = 2
STEPS, EVERY_STEPS = 24, 3
MOMENTS = ("start", "step", "save", "end")
STARTERS = ("launcher", "supervisor")
WAIT_SECONDS = 400.0
POLL_SECONDS = 0.01
FINGERPRINT = 1 << 20  # of clips: exact in a float32, and in its mean over ranks
ROOT = Path(__file__).parents[1]


class WatchedRanking(TemporalRanking):
    """Temporal ranking that logs which clips it saw, and their pixels, as numbers."""

    def forward(self, batch: BatchView) -> Loss:
        loss = super().forward(batch)
        frames = [batch.pixels(view, offsets) for view, offsets in self.roles]
        pixels = b"".join(each.cpu().numpy().tobytes() for each in frames)
        marks = {
            "clips": stable_hash(*batch.keys) % FINGERPRINT,
            "pixels": zlib.crc32(pixels) % FINGERPRINT,
        }
        loss.logs |= {name: torch.tensor(float(mark)) for name, mark in marks.items()}
        return loss


@dataclass
class KillTrial:
    """What has been killed so far, and what came out differently."""

    wanted: int
    killed: Counter[tuple[str, str]] = field(default_factory=Counter)
    runs: int = 0
    differing: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(self.killed.values())


class Start:
    """The processes of one start of a run, in a group that ends with the block."""

    def __init__(self, folder: Path, starter: str, restart: int) -> None:
        self.folder, self.starter = folder, starter
        words = {
            "launcher": [["launch", "resume", str(folder)]],
            "supervisor": [
                ["tools.kill_trial", "--supervise", str(folder), str(rank), str(restart)]
                for rank in range(RANKS)
            ],
        }[starter]
        environment = {
            **os.environ,
            "AUSL_OBJECTIVES": "tools.kill_trial",
            "OMP_NUM_THREADS": "1",
        }
        with open(folder / LOGS_FOLDER / "trial.log", "ab") as log:
            self.starters = [
                subprocess.Popen(
                    [sys.executable, "-m", *each],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    preexec_fn=die_with_parent,
                )
                for each in words
            ]

    def __enter__(self) -> "Start":
        return self

    def __exit__(self, *arguments: object) -> None:
        """End all that is left, as the end of a job does, and wait until it is gone."""
        ranks = self.ranks()
        for process in self.starters:
            process.kill()
        for process in self.starters:
            process.wait()
        while any(_alive(pid) for pid in ranks):  # the kernel ends them with their parents
            time.sleep(POLL_SECONDS)

    @property
    def running(self) -> bool:
        return all(process.poll() is None for process in self.starters)

    def ranks(self) -> list[int]:
        """The processes that train."""
        return [child for process in self.starters for child in _children(process.pid)]

    def kill(self, part: str, chance: random.Random) -> str:
        """Kill a rank, or whoever started one; returns what it was."""
        ranks = self.ranks()
        if part == "rank" and ranks:
            os.kill(chance.choice(ranks), signal.SIGKILL)
            return "rank"
        chance.choice(self.starters).kill()
        return self.starter

    def wait(self) -> int:
        """Wait for the end of all; the worst exit code."""
        deadline = time.monotonic() + WAIT_SECONDS
        codes = [
            process.wait(max(0.1, deadline - time.monotonic())) for process in self.starters
        ]
        return max(codes, key=abs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="another one, other kills")
    parser.add_argument("--minutes", type=float, help="begin no more kills after so long")
    parser.add_argument(
        "--folder", type=Path, help="where runs and store lie (default: none stay)"
    )
    parser.add_argument("--supervise", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.supervise:
        return _supervise(*arguments.supervise)
    with tempfile.TemporaryDirectory(prefix="kill-trial-") as scratch:
        trial = run_trial(
            arguments.folder or Path(scratch),
            arguments.kills,
            arguments.seed,
            arguments.minutes,
        )
    return 1 if trial.differing else 0


def run_trial(
    folder: Path, kills: int, seed: int = 0, minutes: float | None = None
) -> KillTrial:
    """Kill runs in `folder` until there were so many kills, and compare each with the
    undisturbed one.
    """
    chance = random.Random(seed)
    began = time.monotonic()
    folder = folder.resolve()
    with ObjectStore(folder / "store") as store:
        os.environ.update(store.environment)
        store.make_bucket("trial")
        _render("s3://trial/world", folder / "work")
        undisturbed = _prepare(folder / "undisturbed")
        startup_seconds = _undisturbed(undisturbed)
        wanted = outcome(undisturbed)
        trial = KillTrial(kills)
        while trial.kills < kills and not _late(began, minutes):
            run = _prepare(folder / f"run-{trial.runs:03d}")
            for restart in range(1000):
                more = trial.kills < kills and not _late(began, minutes)
                if _attempt(run, trial, chance, restart, startup_seconds, more):
                    break
            trial.runs += 1
            trial.differing += [
                f"{run.name}: {what}" for what in differences(outcome(run), wanted)
            ]
            _tell(trial, time.monotonic() - began)
    return trial


def outcome(run: Path) -> dict[str, Any]:
    """Everything of a finished run that a kill must not change, by name; a step that was done
    twice has all its values.
    """
    found: dict[str, Any] = {}
    for line in read_log_lines(run / METRICS_FILE):
        marks = {name: value for name, value in line["logs"].items() if name != "mfu"}
        value = (line["loss"], line["gradient_norm"], tuple(sorted(marks.items())))
        found.setdefault(f"step {line['step']}", set()).add(value)
    checkpoint = newest_whole_checkpoint(run)
    assert checkpoint is not None
    sums = read_json(checkpoint / MANIFEST_FILE)["files"]
    tensors = {name: entry for name, entry in sums.items() if name.endswith(".safetensors")}
    return found | {f"{checkpoint.name}/{name}": entry for name, entry in tensors.items()}


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in found.keys() | wanted if found.get(name) != wanted.get(name))


def _attempt(
    run: Path,
    trial: KillTrial,
    chance: random.Random,
    restart: int,
    startup_seconds: float,
    more: bool,
) -> bool:
    """Start a run, and where there shall be `more` kills, make one; True when the run is done."""
    with Start(run, chance.choice(STARTERS), restart) as start:
        if more:
            moment, part = chance.choice(MOMENTS), chance.choice(("rank", "starter"))
            if _await(run, start, moment, chance, startup_seconds):
                trial.killed[start.kill(part, chance), moment] += 1
                print(f"kill {trial.kills}: {run.name}, {part}, {moment}", flush=True)
                if part != "rank" or start.starter == "supervisor":
                    return False  # who started it is gone, or would start the rank again
        return start.wait() == 0 and newest_whole_step(run) == STEPS


def _await(
    run: Path, start: Start, moment: str, chance: random.Random, startup_seconds: float
) -> bool:
    """Wait for the moment, and a little more; False where the job has ended before."""
    first = newest_whole_step(run)
    target = chance.randint(first, STEPS - 2) if first < STEPS - 1 else STEPS - 1
    waits = {
        "start": (lambda: True, startup_seconds),
        "step": (lambda: _last_step(run) >= target, 0.2),
        "save": (lambda: _is_saving(run), 0.1),
        "end": (lambda: _last_step(run) == STEPS - 1, 1.5),
    }
    is_there, spread_seconds = waits[moment]
    deadline = time.monotonic() + WAIT_SECONDS
    while start.running and not is_there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run} did not reach the moment `{moment}`")
        time.sleep(POLL_SECONDS)
    time.sleep(chance.uniform(0, spread_seconds))
    return start.running


def _undisturbed(run: Path) -> float:
    """Do the run at one go; returns the seconds until its first step."""
    started = time.monotonic()
    with Start(run, "launcher", 0) as start:
        while start.running and _last_step(run) < 0:
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - started
        if start.wait() != 0:
            log = (run / LOGS_FOLDER / "trial.log").read_text(errors="replace")
            raise RuntimeError(f"the run does not end well undisturbed:\n{log[-3000:]}")
    return seconds


def _prepare(run: Path) -> Path:
    import yaml

    (run / LOGS_FOLDER).mkdir(parents=True, exist_ok=True)
    config = {
        "name": "trial",
        "folder": str(run),
        "seed": 1,
        "steps": STEPS,
        "data": {
            "corpora": {"world": {"url": "s3://trial/world"}},
            "image_size": 32,
            "lanes": 2,
            "clips_per_lane": 2,
            "shuffle_window": 4,
            "decode_threads": 1,
            "fetch_threads": 1,
            "prefetch_batches": 1,
        },
        "backbone": {"name": "test_resnet", "image_size": 32},
        "objectives": {
            "ranking": {
                "_target_": "tools.kill_trial.WatchedRanking",
                "n_far": 3,
                "embedding_dim": 16,
                "batch_norm": "merged",
            }
        },
        "mixture": {"ranking": 1.0},
        "checkpoint": {"every_steps": EVERY_STEPS, "keep_last": 3},
        "observe": {"enabled": False},
    }
    write_atomically(run / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))
    cluster = {"scheduler": "local", "ranks": RANKS}
    write_atomically(run / CLUSTER_FILE, yaml.safe_dump(cluster))
    return run


def _supervise(folder: str, rank: str, restart: str) -> int:
    """One task of a job, as Slurm would start it."""
    from launch.supervise import Place, supervise

    place = Place(
        f"trial{os.getppid()}", int(restart), int(rank), int(rank), ("127.0.0.1",), RANKS
    )
    supervise(Path(folder), place)
    return 0


def _render(url: str, work: Path) -> None:
    words = ["--identities", "6", "--clips", "2", "--size", "64", "--seconds", "0.8"]
    subprocess.run(
        [sys.executable, "-m", "tools.render_world", *words, "--out", url, "--work", str(work)],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )


def _last_step(run: Path) -> int:
    return max((line["step"] for line in read_log_lines(run / METRICS_FILE)), default=-1)


def _is_saving(run: Path) -> bool:
    return any((run / CHECKPOINTS_FOLDER).glob(".staging-*"))


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(word) for word in path.read_text().split()]
    except FileNotFoundError:
        return []


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


def _late(began: float, minutes: float | None) -> bool:
    return minutes is not None and time.monotonic() - began > 60 * minutes


def _tell(trial: KillTrial, seconds: float) -> None:
    counts = ", ".join(
        f"{part} at {moment} {count}" for (part, moment), count in sorted(trial.killed.items())
    )
    print(f"{trial.kills} kills in {trial.runs} runs, {seconds:.0f} s: {counts}")
    print("\n".join(trial.differing) or "all as in the undisturbed run", flush=True)


if __name__ == "__main__":
    command.run(main)
