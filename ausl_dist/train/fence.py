"""Attempts at a run, numbered: a process that outlived its node must not write beside the one
that took over.

    RUN_FOLDER/fence/0001.json, 0002.json, ...    one marker each, made by whoever starts; the
    highest number owns the run

A node that a scheduler gives up may keep its processes for some seconds more while the next
attempt already trains.
"""

import json
import os
import re
import socket
import time
from pathlib import Path

from ausl_dist.run_folder import FENCE_FOLDER, FIRST_ATTEMPT


class FencedError(RuntimeError):
    """A newer attempt owns the run; this one must end without writing."""


def claim(run_folder: Path) -> int:
    """Begin the next attempt at a run and return its number; two claims at once get
    different numbers.
    """
    folder = run_folder / FENCE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        number = max(newest(run_folder) + 1, FIRST_ATTEMPT)
        marker = {"host": socket.gethostname(), "process": os.getpid(), "time": time.time()}
        try:
            # x: fails where it exists, on every file system
            with open(folder / f"{number:04d}.json", "x", encoding="utf-8") as file:
                json.dump(marker, file)
        except FileExistsError:
            continue
        return number


def newest(run_folder: Path) -> int:
    """Number of the newest attempt; 0 where there is none."""
    folder = run_folder / FENCE_FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max(
        (int(name[:-5]) for name in names if re.fullmatch(r"\d{4,9}\.json", name)), default=0
    )


def check(run_folder: Path, attempt: int) -> None:
    """Raise FencedError where a newer attempt than `attempt` has begun."""
    owner = newest(run_folder)
    if owner > attempt:
        raise FencedError(
            f"attempt {attempt} at {run_folder} was superseded by attempt {owner}: "
            "nothing more is written"
        )
