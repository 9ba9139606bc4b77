"""How Prometheus finds the ranks: one file_sd JSON per rank in a folder that many runs may
share.

    ausl-RUN-1a2b3c4d-00003.json   [{"targets": ["node7:41234"], "labels": {"run": …, "rank":
    "3", "node": …, "attempt": "1", …}}]

1. a rank writes its file when its port is open, and a later attempt of the same rank replaces
   it;
2. a live rank refreshes the file's time once a minute;
3. a rank that ends removes it; one that was killed leaves it, so that its alert fires;
4. a file that nobody has refreshed for long is swept by whoever starts next, or by `sweep` from
   outside.

Only files of this name and form are ever touched: the folder may hold others' targets.
"""

import hashlib
import re
import time
from pathlib import Path

from ausl_dist.files import read_json, write_json
from ausl_dist.observe.state import RankIdentity

REFRESH_SECONDS = 60.0
FILE_PATTERN = "ausl-*-[0-9][0-9][0-9][0-9][0-9].json"
MAX_BYTES = 1 << 16


def target_path(folder: Path, run_folder: Path, identity: RankIdentity) -> Path:
    """Where a rank's target is written; two runs of one name in different run folders get
    different files.
    """
    return folder / f"{file_stem(run_folder, identity)}.json"


def file_stem(run_folder: Path, identity: RankIdentity) -> str:
    return f"{_run_stem(run_folder, identity.run)}-{identity.rank:05d}"


def write_target(path: Path, identity: RankIdentity, target: str, scheme: str) -> None:
    """Announce a rank; `target` is host:port. The file is whole at any moment."""
    write_json(
        path,
        [
            {
                "targets": [target],
                "labels": {"job": "ausl", "__scheme__": scheme, **identity.labels},
            }
        ],
    )


def remove_target(path: Path, identity: RankIdentity) -> None:
    """Take a rank's own target away; one that a later attempt has put in its place stays."""
    if path.exists() and _labels(path).get("attempt") == str(identity.attempt):
        path.unlink(missing_ok=True)


def remove_older_attempts(folder: Path, run_folder: Path, identity: RankIdentity) -> None:
    """Take away what earlier attempts of this run left behind: ranks that there are no more."""
    for path in folder.glob(f"{_run_stem(run_folder, identity.run)}-*.json"):
        attempt = _labels(path).get("attempt", "")
        if attempt.isdigit() and int(attempt) < identity.attempt:
            path.unlink(missing_ok=True)


def sweep(folder: Path, older_than_seconds: float, now: float | None = None) -> list[Path]:
    """Remove the targets that nobody has refreshed for so long; returns what was removed."""
    now = time.time() if now is None else now
    stale = [
        path
        for path in folder.glob(FILE_PATTERN)
        if _age_seconds(path, now) > older_than_seconds and "run" in _labels(path)
    ]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def _run_stem(run_folder: Path, run: str) -> str:
    digest = hashlib.sha256(str(run_folder.resolve()).encode()).hexdigest()[:8]
    return f"ausl-{re.sub(r'[^A-Za-z0-9_.]+', '_', run)[:80]}-{digest}"


def _age_seconds(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:  # its owner or another sweeper was faster
        return 0.0


def _labels(path: Path) -> dict[str, str]:
    """The labels of a target file of ours; empty for anything else, and for a file that is
    gone.
    """
    try:
        groups = read_json(path, MAX_BYTES)
    except (FileNotFoundError, ValueError):
        return {}
    first = groups[0] if isinstance(groups, list) and groups else None
    labels = first.get("labels") if isinstance(first, dict) else None
    return labels if isinstance(labels, dict) else {}
