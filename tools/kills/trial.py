"""What has been killed, and whether everything came out as in the undisturbed run.

    S3 store with a rendered corpus ──▶ undisturbed run ──▶ outcome ────────────────┐
                                    ──▶ run-000, killed and started until done ──▶ the same?
                                    ──▶ run-001 …

`trial.json` in the folder holds the account after every kill; a trial that was interrupted goes
on with it.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ausl_dist.files import read_json, write_atomically, write_json
from ausl_dist.json_lines import read_log_lines
from ausl_dist.run_folder import (
    CLUSTER_FILE,
    CONFIG_FILE,
    LOGS_FOLDER,
    MANIFEST_FILE,
    METRICS_FILE,
    newest_whole_checkpoint,
    newest_whole_step,
)
from launch.object_store import ObjectStore
from tools.kills.moments import MOMENTS, WAIT_SECONDS, Moments
from tools.kills.start import RANKS, ROOT, STARTERS, Start

STEPS, EVERY_STEPS = 16, 2
FRESH_SHARE = 0.1  # of the starts
MAX_STARTS = 100  # of one run; then it is one that does not end
ACCOUNT_NAME = "trial.json"
CORPUS = "s3://trial/world"


@dataclass
class KillTrial:
    """What has been killed so far, and what came out differently."""

    killed: Counter[str] = field(default_factory=Counter)  # by `PART at MOMENT`
    runs: int = 0  # that were finished and compared
    starts: int = 0
    fresh_starts: int = 0
    seconds: float = 0.0
    differing: list[str] = field(default_factory=list)
    stalled: list[str] = field(default_factory=list)  # starts that were ended for their time

    @property
    def kills(self) -> int:
        return sum(self.killed.values())

    def to_json(self) -> dict[str, Any]:
        by_kind = dict(sorted(self.killed.items()))
        return {"kills": self.kills, **vars(self), "killed": by_kind}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "KillTrial":
        fields = {name: each for name, each in value.items() if name != "kills"}
        return KillTrial(**{**fields, "killed": Counter(fields["killed"])})


def run_trial(
    folder: Path,
    kills: int,
    seed: int = 0,
    minutes: float | None = None,
    tell: Callable[[str], object] = lambda what: None,
) -> KillTrial:
    """Kill runs in `folder` until there were so many kills in all, or so many minutes are
    over, and compare each with the undisturbed one.
    """
    folder = folder.resolve()
    with ObjectStore(folder / "store") as store:
        os.environ.update(store.environment)
        store.make_bucket("trial")
        trial = _Trial(folder, kills, seed, minutes, tell)
        trial.reference()
        while trial.wants_more or trial.has_begun_a_run:
            trial.one_run()
    return trial.account


class _Trial:
    """A trial at work."""

    def __init__(
        self,
        folder: Path,
        kills: int,
        seed: int,
        minutes: float | None,
        tell: Callable[[str], object],
    ) -> None:
        self._folder, self._kills, self._tell = folder, kills, tell
        path = folder / ACCOUNT_NAME
        self.account = KillTrial.from_json(read_json(path)) if path.exists() else KillTrial()
        self._chance = random.Random(f"{seed} {self.account.kills}")
        self._clock = time.monotonic()
        self._end = self._clock + 60 * minutes if minutes is not None else float("inf")
        self._wanted: dict[str, Any] = {}

    @property
    def wants_more(self) -> bool:
        return self.account.kills < self._kills and time.monotonic() < self._end

    @property
    def _run(self) -> Path:
        return self._folder / f"run-{self.account.runs:03d}"

    @property
    def has_begun_a_run(self) -> bool:
        return self._run.exists()

    def reference(self) -> None:
        """Make corpus and undisturbed run, where they are not there yet."""
        run = self._folder / "undisturbed"
        done = run / "done"
        if not done.exists():
            shutil.rmtree(run, ignore_errors=True)
            _render(CORPUS, self._folder / "work")
            with Start(prepare(run), "launcher", 0, fresh=True) as start:
                code = start.wait(WAIT_SECONDS)
            if code != 0:
                log = (run / LOGS_FOLDER / "trial.log").read_text(errors="replace")
                raise RuntimeError(f"the run does not end well undisturbed:\n{log[-3000:]}")
            done.touch()
        self._wanted = outcome(run)
        self._tell("the undisturbed run is there")

    def one_run(self) -> None:
        """Start a run, and kill it, until it is done; then compare it."""
        run = prepare(self._run)
        for restart in range(MAX_STARTS):
            if self._start(run, restart):
                found = differences(outcome(run), self._wanted)
                break
        else:
            found = [f"not done after {MAX_STARTS} starts"]
        self.account.differing += [f"{run.name}: {what}" for what in found]
        self.account.runs += 1
        self._note()
        if not found:
            shutil.rmtree(run)  # one that differs stays, to be looked at
        self._tell("\n".join(found) or f"{run.name}: all as in the undisturbed run")

    def _start(self, run: Path, restart: int) -> bool:
        """Start a run, and kill parts of it where there shall be more kills; True when the run
        is done.
        """
        starter = self._chance.choice(STARTERS)
        fresh = self._chance.random() < FRESH_SHARE
        self.account.starts += 1
        self.account.fresh_starts += fresh
        try:
            with Start(run, starter, restart, fresh=fresh) as start:
                ended = self._kill_parts(run, start)
                return not ended and start.wait(WAIT_SECONDS) == 0 and is_done(run)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            load = " ".join(f"{value:.1f}" for value in os.getloadavg())
            self.account.stalled.append(f"{run.name}, {starter}: {error}; load {load}")
            self._note()
            return False

    def _kill_parts(self, run: Path, start: Start) -> bool:
        """Kill whoever started the ranks, or a rank; supervisors start that one again, so that
        they can be killed after it. True where whoever started the ranks was killed.
        """
        parts = [self._chance.choice(("rank", "starter"))]
        if parts == ["rank"] and start.starter == "supervisor":
            parts.append("starter")
        for part in parts:
            moment = self._chance.choice(MOMENTS)
            moments = Moments(run, start, STEPS, self._chance)
            if not self.wants_more or not moments.reached(moment):
                return False
            killed = start.kill(part, self._chance)
            self.account.killed[f"{killed} at {moment}"] += 1
            self._note()
            self._tell(f"kill {self.account.kills}: {run.name}, {killed} at {moment}")
            if killed != "rank":
                return True
        return False

    def _note(self) -> None:
        now = time.monotonic()
        self.account.seconds = round(self.account.seconds + now - self._clock, 1)
        self._clock = now
        write_json(self._folder / ACCOUNT_NAME, self.account.to_json())


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


def is_done(run: Path) -> bool:
    """Whether the state after the last step is saved."""
    return newest_whole_step(run) == STEPS


def prepare(run: Path) -> Path:
    """The folder of a run of the trial's settings."""
    (run / LOGS_FOLDER).mkdir(parents=True, exist_ok=True)
    config = {
        "name": "trial",
        "folder": str(run),
        "seed": 1,
        "steps": STEPS,
        "data": {
            "corpora": {"world": {"url": CORPUS}},
            "decoder": "pyav",
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
                "_target_": "tools.kills.watched.WatchedRanking",
                "n_far": 3,
                "embedding_dim": 16,
                "batch_norm": "merged",
            }
        },
        "mixture": {"ranking": 1.0},
        "engine": {"device": "cpu"},
        "checkpoint": {"every_steps": EVERY_STEPS, "keep_last": 3},
        "observe": {"enabled": False},
    }
    write_atomically(run / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))
    cluster = {"scheduler": "local", "ranks": RANKS}
    write_atomically(run / CLUSTER_FILE, yaml.safe_dump(cluster))
    return run


def _render(url: str, work: Path) -> None:
    words = ["--identities", "6", "--clips", "2", "--size", "64", "--seconds", "0.8"]
    subprocess.run(
        [sys.executable, "-m", "tools.render_world", *words, "--out", url, "--work", str(work)],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
