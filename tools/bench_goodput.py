"""What failures cost a run: the share of its time that is useful, and the seconds from each
failure to the next new step, part by part.

    python -m tools.bench_goodput                          experiment=demo on two ranks
    python -m tools.bench_goodput --work DIR experiment=joint_small steps=400

The run is done once undisturbed, then under our supervisor with a schedule of failures:

    rank         SIGKILL to the process of one rank
    hang         SIGSTOP to it: noticed when a collective of the others times out
    node         SIGKILL to all processes of all ranks; they are started anew, as by a scheduler
    preemption   SIGUSR2 to the tasks: they save, and are started anew

Losses, gradient norms and clips of every step and the weights at the end must equal the
undisturbed run's. The scheduler's own delay is not in the figures.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ausl_dist import command
from ausl_dist.json_lines import read_log_lines
from ausl_dist.observe.history import read_metrics
from ausl_dist.run_folder import CONFIG_FILE, LEDGER_FILE, METRICS_FILE
from ausl_dist.train.startup import PARTS
from tools.goodput_bench.cost import (
    AGAIN,
    DETECT,
    FIRST_STEP,
    PROCESSES,
    Failure,
    Moment,
    last_attempt,
    last_step,
    parts,
)
from tools.goodput_bench.tasks import (
    KINDS,
    RANKS,
    Tasks,
    cpu_seconds,
    strike,
    until_a_spare_stands_by,
    wait_until,
)
from tools.kills.trial import differences, outcome

ROOT = Path(__file__).parents[1]
FAILURE_EVERY_SECONDS = 45 * 60.0
# after a rank's start: one that came sooner would load its code beside the rank, on the same cores
STANDBY_SECONDS = 15.0
COLLECTIVE_SECONDS = 20.0  # after which a hang is noticed; five minutes by default


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="the run (default: experiment=demo steps=240)")
    parser.add_argument(
        "--work", type=Path, help="where runs and corpus lie (default: none stay)"
    )
    parser.add_argument(
        "--failures",
        default=",".join(KINDS),
        help=f"in this order (default: {','.join(KINDS)})",
    )
    parser.add_argument(
        "--standby-seconds",
        type=float,
        default=STANDBY_SECONDS,
        help="from a rank's start until a spare process is started (default "
        f"{STANDBY_SECONDS:g}; 60 in a job)",
    )
    parser.add_argument("--cold", action="store_true", help="without spare processes")
    parser.add_argument("--task", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        return _task(*arguments.task)
    kinds = arguments.failures.split(",")
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"--failures {unknown[0]}: write some of {', '.join(KINDS)}")
    standby = None if arguments.cold else arguments.standby_seconds
    words = arguments.words or ["experiment=demo", "steps=240"]
    with tempfile.TemporaryDirectory(prefix="bench-goodput-") as scratch:
        work = (arguments.work or Path(scratch)).resolve()
        print(measure(work, words, kinds, standby))
    return 0


def measure(
    work: Path, words: Sequence[str], kinds: Sequence[str], standby_seconds: float | None
) -> str:
    """Do the run undisturbed and disturbed; the tables as text."""
    corpus = _render(work / "world")
    quiet = prepare(work / "undisturbed", corpus, words)
    if not (quiet / "done").exists():
        with Tasks(quiet, 0, None) as tasks:
            wait_until(quiet, tasks, lambda: not tasks.running)
        (quiet / "done").touch()
    run = prepare(work / f"disturbed-{int(time.time())}", corpus, words)
    failures = disturb(run, kinds, standby_seconds)
    wanted = outcome(quiet)
    return "\n".join(
        [
            *costs(failures),
            "",
            *goodput(quiet, run, failures),
            *same(run, quiet, differences(outcome(run), wanted)),
        ]
    )


def prepare(run: Path, corpus: Path, words: Sequence[str]) -> Path:
    """The run folder, as `python -m launch run` makes it, for two ranks of this machine."""
    from launch.compose import compose
    from launch.prepare import prepare as prepare_folder

    fixed = [
        f"data.corpora.main.url={corpus}",
        f"folder={run}",
        "name=goodput",
        f"cluster.ranks={RANKS}",
        f"engine.collective_timeout_seconds={COLLECTIVE_SECONDS}",
        "checkpoint.every_steps=20",
        "observe.console=plain",
    ]
    given = {word.split("=")[0] for word in words}
    return prepare_folder(
        compose([*(w for w in fixed if w.split("=")[0] not in given), *words])
    )


def disturb(run: Path, kinds: Sequence[str], standby_seconds: float | None) -> list[Failure]:
    """Do the run under failures of these kinds, spread over its steps."""
    steps = int(_config(run)["steps"])
    failures: list[Failure] = []
    tasks = Tasks(run, 0, standby_seconds)
    try:
        for number, kind in enumerate(kinds, 1):
            due = steps * number // (len(kinds) + 1)
            _until_step(run, tasks, due)
            if standby_seconds is not None and kind in ("rank", "hang"):
                until_a_spare_stands_by(tasks)
            before = Moment.now(run, tasks)
            restarted = None
            if strike(kind, tasks, run):
                tasks.__exit__()
                restarted = time.time()
                tasks = Tasks(run, number, standby_seconds)
            failures.append(_recover(run, tasks, kind, before, restarted))
        wait_until(run, tasks, lambda: not tasks.running)
    finally:
        tasks.__exit__()
    return failures


def _recover(
    run: Path, tasks: Tasks, kind: str, before: Moment, restarted: float | None
) -> Failure:
    """Wait for the first step of the next attempt, and for the next new one."""
    failure = Failure(kind, before.step)
    wait_until(run, tasks, lambda: last_attempt(run) > before.attempt)
    pids = tasks.all_pids()
    failure.cpu_seconds = cpu_seconds(pids) - before.cpu_of(pids)
    _until_step(run, tasks, before.step + 1)
    failure.seconds = parts(run, before, restarted)
    print(f"{kind} at step {before.step}: {failure.total_seconds:.1f} s", file=sys.stderr)
    return failure


def _until_step(run: Path, tasks: Tasks, step: int) -> None:
    wait_until(run, tasks, lambda: last_step(run) >= step)


def costs(failures: Sequence[Failure]) -> list[str]:
    """The table of seconds by part."""
    names = [f"{each.kind} (step {each.at_step})" for each in failures]
    rows = [f"| seconds | {' | '.join(names)} |", "|---|" + "---|" * len(failures)]
    shown = (DETECT, PROCESSES, *PARTS, FIRST_STEP)
    rows += [_row(part, [each.seconds[part] for each in failures]) for part in shown]
    rows.append(_row("**to the first step**", [each.restart_seconds for each in failures]))
    rows.append(_row(AGAIN, [each.seconds[AGAIN] for each in failures]))
    rows.append(_row("**to the next new step**", [each.total_seconds for each in failures]))
    rows.append(_row("CPU seconds to the first step", [each.cpu_seconds for each in failures]))
    shares = [
        f"{FAILURE_EVERY_SECONDS / (FAILURE_EVERY_SECONDS + each.total_seconds):.4f}"
        for each in failures
    ]
    return [*rows, f"| goodput at one in 45 minutes | {' | '.join(shares)} |"]


def goodput(quiet: Path, run: Path, failures: Sequence[Failure]) -> list[str]:
    """Useful time, as measured and scaled."""
    useful, wall = _seconds(quiet), _seconds(run)
    mean = statistics.mean(each.total_seconds for each in failures)
    scaled = FAILURE_EVERY_SECONDS / (FAILURE_EVERY_SECONDS + mean)
    return [
        f"useful time {useful:.1f} s of {wall:.1f} s: {useful / wall:.3f} at one failure in "
        f"{wall / len(failures):.0f} s; {scaled:.4f} at one in 45 minutes"
    ]


def same(run: Path, quiet: Path, differing: Sequence[str]) -> list[str]:
    """What a failure must not change."""
    steps = [line["step"] for line in read_metrics(run)]
    missing = len(set(range(int(_config(run)["steps"]))) - set(steps))
    lost = sum(len(list(read_log_lines(folder / LEDGER_FILE))) for folder in (run, quiet))
    said = f"differing: {', '.join(differing[:5])}" if differing else "all equal"
    return [f"steps missing {missing}, samples lost {lost}, losses, norms and weights: {said}"]


def _task(rank: str, folder: str, restart: str, standby_seconds: str) -> int:
    """One task of a job, as Slurm would start it, with a scheduler that requeues at once."""
    from launch import scheduler, spare, supervise

    if standby_seconds != "none":
        spare.STANDBY_SECONDS = supervise.STANDBY_SECONDS = float(standby_seconds)
    scheduler.standing = lambda job, patience_seconds=0.0: scheduler.Standing(
        "RUNNING", int(restart)
    )
    scheduler.requeue = lambda job, restart, exclude=(): True
    place = supervise.Place(
        f"goodput{os.getppid()}", int(restart), int(rank), int(rank), ("127.0.0.1",), RANKS
    )
    supervise.supervise(Path(folder), place, stand_by=standby_seconds != "none")
    return 0


def _render(corpus: Path) -> Path:
    words = ["--identities", "12", "--clips", "3", "--size", "96", "--out", str(corpus)]
    subprocess.run(
        [sys.executable, "-m", "tools.render_world", *words],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    return corpus


def _config(run: Path) -> dict[str, Any]:
    import yaml

    config: dict[str, Any] = yaml.safe_load((run / CONFIG_FILE).read_text())
    return config


def _seconds(run: Path) -> float:
    lines = read_metrics(run)
    return float(lines[-1]["time"]) - float(
        next(iter(read_log_lines(run / METRICS_FILE)))["time"]
    )


def _row(name: str, values: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |"


if __name__ == "__main__":
    command.run(main)
