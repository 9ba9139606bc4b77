"""A copy of the code in the run folder, so that later edits cannot change a queued or requeued
job.

checkout ──▶ RUN/code/<first 12 digits of the hash over names and contents>/
"""

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from ausl_dist.provenance import keep_commit

CHECKOUT = Path(__file__).resolve().parents[1]
PARTS = ("ausl_dist", "launch", "tools", "configs", "pyproject.toml")
IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}


def take_snapshot(run_folder: Path, checkout: Path = CHECKOUT) -> Path:
    """Copy the code of `checkout` into the run folder; the same code is stored once.

    Returns the copy's folder.
    """
    files = code_files(checkout)
    target = Path(run_folder) / "code" / code_hash(checkout, files)[:12]
    if target.is_dir():
        return target
    staging = target.with_name(f".{uuid.uuid4().hex}.tmp")
    for file in files:
        (staging / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / file, staging / file)
    keep_commit(staging, checkout)
    try:
        os.rename(staging, target)
    except OSError:  # another submission of the same code was faster
        shutil.rmtree(staging)
        if not target.is_dir():
            raise
    return target


def code_files(checkout: Path) -> list[Path]:
    """The files that make up the code, relative to the checkout, in a fixed order."""
    found = []
    for part in PARTS:
        path = checkout / part
        found += (
            [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        )
    relative = (file.relative_to(checkout) for file in found)
    return sorted(
        file
        for file in relative
        if not IGNORED.intersection(file.parts) and file.suffix != ".pyc"
    )


def code_hash(checkout: Path, files: list[Path]) -> str:
    """SHA-256 over names and contents, as hex digits."""
    digest = hashlib.sha256()
    for file in files:
        content = (checkout / file).read_bytes()
        digest.update(f"{file.as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
