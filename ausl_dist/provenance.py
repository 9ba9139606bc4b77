"""Which code a process runs and what was typed to start it, for the record of a run.

checkout with .git ──git──▶ {"id": …, "dirty": …} ◀── commit.json, in a copy of the code
launch ──AUSL_COMMAND──▶ its ranks, whichever scheduler is between
"""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from ausl_dist.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
COMMIT_FILE = "commit.json"
COMMAND_VARIABLE = "AUSL_COMMAND"
GIT_SECONDS = 10.0


def commit_of(checkout: Path = ROOT) -> dict[str, Any] | None:
    """The commit of a checkout, or of a copy that says of which commit it is, and whether files
    under version control differ from it; None where that is not known.
    """
    told = checkout / COMMIT_FILE
    if told.is_file():
        found: dict[str, Any] | None = read_json(told)
        return found
    top = _git(checkout, "rev-parse", "--show-toplevel")
    # installed inside of another repository, it is not of its commits
    if top is None or Path(top).resolve() != checkout.resolve():
        return None
    commit = _git(checkout, "rev-parse", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"id": commit, "dirty": bool(changed)}


def keep_commit(copy: Path, checkout: Path = ROOT) -> None:
    """Write down in a copy of the code of which commit it is, where that is known."""
    commit = commit_of(checkout)
    if commit is not None:
        write_json(copy / COMMIT_FILE, commit)


def note_command(words: list[str]) -> None:
    """Keep for all processes that this one starts what was typed; for a command's `main`."""
    os.environ[COMMAND_VARIABLE] = shlex.join(words)


def noted_command() -> str | None:
    """What was typed; None where this process was started by nothing that kept it."""
    return os.environ.get(COMMAND_VARIABLE)


def _git(checkout: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *words],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or nothing that it knows
    return done.stdout.strip()
