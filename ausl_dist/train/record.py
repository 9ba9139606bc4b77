"""RUN_FOLDER/record.json: by what code, packages and machines a run was made, every time it was
started or went back, and how each start ended.

An attempt that was killed has no end: its `ended` stays null.
"""

import dataclasses
import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ausl_dist
from ausl_dist.files import read_json, write_json
from ausl_dist.provenance import commit_of, noted_command
from ausl_dist.run_folder import RECORD_FILE
from ausl_dist.train.stability import Rewind

PACKAGES = (
    *("torch", "timm", "deepspeed", "nvidia-dali-cuda130", "webdataset"),
    *("s3fs", "botocore", "hydra-core", "safetensors", "numpy", "av"),
)


def code_hash() -> str:
    """SHA-256 over the package's own Python files, names and contents: equal where the code is."""
    root = Path(ausl_dist.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(
            f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content
        )
    return digest.hexdigest()


def note_start(
    run_folder: Path,
    *,
    attempt: int,
    start_step: int,
    resumed_from: Path | None,
    hosts: list[str],
    machines: Mapping[str, Mapping[str, Any]],
    corpora: Mapping[str, Any],
) -> None:
    """Add a start of the run to its record; for rank 0, once an attempt."""
    record = _read(run_folder)
    record["starts"].append(
        {
            "attempt": attempt,
            "time": time.time(),
            "step": start_step,
            "resumed_from": resumed_from and resumed_from.name,
            "ended": None,
            "command": noted_command(),
            "hosts": hosts,  # of each rank
            "machines": machines,  # by host
            **corpora,
            "version": ausl_dist.__version__,
            "code": code_hash(),
            "commit": commit_of(),
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        }
    )
    write_json(run_folder / RECORD_FILE, record)


def note_end(run_folder: Path, attempt: int, step: int, how: str) -> None:
    """Complete the record of an attempt: when, at which step and how it ended; for rank 0."""
    record = _read(run_folder)
    for start in record["starts"]:
        if start.get("attempt") == attempt:
            start["ended"] = {"time": time.time(), "step": step, "how": how}
    write_json(run_folder / RECORD_FILE, record)


def note_rewind(run_folder: Path, rewind: Rewind) -> None:
    """Add a return to an older checkpoint; for rank 0, before anything is done about it."""
    record = _read(run_folder)
    record["rewinds"] = [
        *record.get("rewinds", []),
        {"time": time.time(), **dataclasses.asdict(rewind)},
    ]
    write_json(run_folder / RECORD_FILE, record)


def read_rewinds(run_folder: Path) -> list[Rewind]:
    """Every return to an older checkpoint, oldest first."""
    return [parse_rewind(entry) for entry in _read(run_folder).get("rewinds", [])]


def parse_rewind(entry: Mapping[str, Any]) -> Rewind:
    return Rewind(**{field.name: entry[field.name] for field in dataclasses.fields(Rewind)})


def _read(run_folder: Path) -> dict[str, Any]:
    path = run_folder / RECORD_FILE
    record: dict[str, Any] = read_json(path) if path.exists() else {"starts": []}
    return record
