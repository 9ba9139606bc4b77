"""The folder of unfinished work: whose it is, one process at a time, and gone when it is of no
use.

    held(work, out) ──▶ claim (job.json) ──▶ … work … ──▶ clear

A build that ends, well or with something that a person must mend, takes its folder with it, and
what it made on the way to it. One that was killed, or that lost its disk or store, leaves the
folder: the same command goes on from there.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ausl_dist.corpus.pack import DECISIONS_NAME, STATE_NAME
from ausl_dist.files import read_json, write_json

WORK_FOLDER = ".build"  # in a corpus on a path, while it is built
RECORD_NAME = "job.json"
LOCK_NAME = "lock"
RESULTS_FOLDER = "results"
SHARDS_FOLDER = "shards"  # of a corpus in an object store, until they are sent


class Workspace:
    """One build's folder, held by this process."""

    def __init__(self, folder: Path, made: list[Path]) -> None:
        self.folder = folder
        self._made = made  # folders that were not there before, the deepest first
        self.is_claimed = False

    def claim(self, wanted: Mapping[str, Any]) -> bool:
        """Note whose work this is; True when it goes on with earlier work.

        Raises ValueError when the folder holds the work of another build.
        """
        record = self.folder / RECORD_NAME
        known = read_json(record) if record.exists() else None
        if known is not None and known["build"] != wanted["build"]:
            raise ValueError(
                f"{self.folder} belongs to another build ({difference(known, wanted)}): "
                f"choose another --out, or delete {self.folder}"
            )
        if known is None:
            write_json(record, dict(wanted))
        self.is_claimed = True
        for leftover in (self.folder / RESULTS_FOLDER).glob(
            "*.*/"
        ):  # of workers that were killed
            shutil.rmtree(leftover, ignore_errors=True)
        return known is not None

    def has_results(self) -> bool:
        """Whether some source is done already."""
        return any((self.folder / RESULTS_FOLDER).glob("*.json"))

    def clear(self, build: str) -> None:
        """Remove the work, if it is this build's; nothing else that may lie there."""
        record = self.folder / RECORD_NAME
        if record.exists() and read_json(record)["build"] != build:
            return
        for name in (RESULTS_FOLDER, SHARDS_FOLDER):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (RECORD_NAME, STATE_NAME, DECISIONS_NAME, LOCK_NAME):
            (self.folder / name).unlink(missing_ok=True)

        parent = [self.folder.parent] if self.folder.parent.name == WORK_FOLDER else []
        for folder in (self.folder, *parent, *self._made):
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()


@contextmanager
def held(folder: Path, out: str) -> Iterator[Workspace]:
    """One build at a time in a work folder; the lock goes with the process, however it ends."""
    made = _missing(folder) + ([] if "://" in out else _missing(Path(out)))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_NAME, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"another process is building in {folder}: wait for it, or choose another --out"
            ) from error
        yield Workspace(folder, sorted(set(made), key=lambda path: -len(path.parts)))


def difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Which settings two builds do not share, as a clause."""
    old, new = _flat(known), _flat(wanted)
    changed = [
        f"{key} was {old.get(key)}, is {new[key]}"
        for key in new
        if key != "build" and key in old and old[key] != new[key]
    ]
    return "; ".join(changed) or "other sources, models, labels or name"


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            parts |= _flat(value, f"{where}{key}.")
        else:
            parts[f"{where}{key}"] = value
    return parts


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there yet."""
    return [path for path in (folder, *folder.parents) if not path.exists()]
