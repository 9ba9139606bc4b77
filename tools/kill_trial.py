"""Kill a run again and again, and see that it comes to the very same end.

    python -m tools.kill_trial --kills 100 --folder /tmp/kills

A tiny run of two ranks over a rendered corpus in an S3 store of its own is done once
undisturbed. Then runs of the same settings are started, and SIGKILL meets a part of them at a
moment, both drawn by chance:

    part      a rank, or who started it: the launcher, a task's supervisor (the others of the
              job then end too, as Slurm ends them)
    moment    start, step, save or end, as tools/kills/moments.py tells them apart

A run that was killed is started again until it is done. Then every step's loss, gradient norm
and clips (which, and their pixels), also of steps that were done twice, and every tensor of the
last checkpoint must equal the undisturbed run's, byte for byte. Ends with 1 where one does not.
FOLDER/trial.json holds the account; typed again, the same command goes on from it.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from ausl_dist import command
from tools.kills.start import RANKS
from tools.kills.trial import KillTrial, run_trial


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with its store and its runs
    with tempfile.TemporaryDirectory(prefix="kill-trial-") as scratch:
        folder = arguments.folder or Path(scratch)
        trial = run_trial(folder, arguments.kills, arguments.seed, arguments.minutes, _tell)
    print(summary(trial))
    return 1 if trial.differing or trial.stalled else 0


def summary(trial: KillTrial) -> str:
    """The account in words."""
    counts = ", ".join(f"{what} {count}" for what, count in sorted(trial.killed.items()))
    return "\n".join(
        [
            f"{trial.kills} kills in {trial.runs} runs and {trial.starts} starts "
            f"({trial.fresh_starts} of new Python processes), {trial.seconds:.0f} s",
            counts,
            *trial.stalled,
            *(trial.differing or ["all as in the undisturbed run"]),
        ]
    )


def _tell(what: str) -> None:
    print(what, flush=True)


def _supervise(folder: str, rank: str, restart: str) -> int:
    """One task of a job, as Slurm would start it."""
    from launch.supervise import Place, supervise

    place = Place(
        f"trial{os.getppid()}", int(restart), int(rank), int(rank), ("127.0.0.1",), RANKS
    )
    supervise(Path(folder), place, stand_by=False)  # what is killed shall be a rank
    return 0


if __name__ == "__main__":
    command.run(main)
