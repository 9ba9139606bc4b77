"""One rank of a run: `python -m ausl_dist.train RUN_FOLDER`, with RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT set.

Started by `launch/`, once for each rank, and once more to stand by (see `standby.py`). Goes on from
the newest whole checkpoint of the run
folder. Exit codes: see `exits.py`.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from ausl_dist.addresses import masked, masked_traceback
from ausl_dist.command import mask_threads
from ausl_dist.logs import start_logging
from ausl_dist.observe.device import process_start
from ausl_dist.train.exits import Exit
from ausl_dist.train.startup import StartupClock

MISTAKE = 2  # in the settings: starting again ends here again


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ausl_dist.train", description="Run one rank of a training run."
    )
    parser.add_argument(
        "run_folder", type=Path, help="folder with config.yaml, made by the launcher"
    )
    parser.add_argument(
        "--stand-by",
        action="store_true",
        help="load the code, then wait for a place as JSON on standard input",
    )
    arguments = parser.parse_args()
    run_folder: Path = arguments.run_folder
    clock = StartupClock(process_start(time.time()))
    mask_threads()
    rank = os.environ.get("RANK", "?")
    start_logging(f"%(asctime)s rank {rank} %(levelname)s %(message)s")

    from ausl_dist.settings import SettingsError
    from ausl_dist.train import standby
    from ausl_dist.train.fence import FencedError
    from ausl_dist.train.loop import train
    from ausl_dist.train.run import open_run
    from ausl_dist.train.settings import load_settings
    from ausl_dist.train.stability import DivergedError

    try:
        settings = load_settings(run_folder)
    except (SettingsError, FileNotFoundError) as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return MISTAKE
    standby.load_code(settings)
    if arguments.stand_by:
        if not standby.wait_for_place():
            return Exit.DONE
        clock = StartupClock()
    clock.lap("imports")
    try:
        with open_run(settings, run_folder, clock) as run:
            return train(run)
    except FencedError as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return Exit.FENCED
    except DivergedError as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return Exit.DIVERGED


if __name__ == "__main__":
    try:
        code = int(main())
    except ValueError as error:  # most often what was asked for; the sentence comes last
        print(masked_traceback(), end="", file=sys.stderr)
        print(f"error: {masked(str(error))}", file=sys.stderr)
        code = MISTAKE
    except Exception:  # noqa: BLE001 - said in full, and the process ends here
        print(masked_traceback(), end="", file=sys.stderr)
        code = 1
    if code not in (Exit.DONE, Exit.PREEMPTED):
        # Without waiting for threads or for peers: one of them may be the reason, and hang.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
