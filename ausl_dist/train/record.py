"""RUN_FOLDER/record.json: by what code, packages and machines a run was made, and every time it was started."""

import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ausl_dist
from ausl_dist.files import read_json, write_json

RECORD_FILE = "record.json"
PACKAGES = ("torch", "timm", "deepspeed", "nvidia-dali-cuda130", "webdataset", "s3fs", "hydra-core", "safetensors", "numpy", "av")


def code_hash() -> str:
    """SHA-256 over the package's own Python files, names and contents: equal where the code is."""
    root = Path(ausl_dist.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def note_start(
    run_folder: Path, *, attempt: int, start_step: int, resumed_from: Path | None, hosts: list[str], corpora: Mapping[str, Any]
) -> None:
    """Add a start of the run to its record; for rank 0, once an attempt."""
    path = run_folder / RECORD_FILE
    record: dict[str, Any] = read_json(path) if path.exists() else {"starts": []}
    record["starts"].append(
        {
            "attempt": attempt,
            "time": time.time(),
            "step": start_step,
            "resumed_from": resumed_from and resumed_from.name,
            "hosts": hosts,  # of each rank
            **corpora,
            "version": ausl_dist.__version__,
            "code": code_hash(),
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        }
    )
    write_json(path, record)
