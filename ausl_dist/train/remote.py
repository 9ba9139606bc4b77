"""Copies of checkpoints in object storage, at any address that fsspec knows: verified on the
way out, and the way back.

    checkpoints/step-00000100/ ──▶ URL/step-00000100/* ──▶ read back, SHA-256 compared
        ──▶ named in URL/checkpoints.json
    URL/checkpoints.json ──newest whole one──▶ .fetched/ ──every byte checked──▶ checkpoints/step-00000100/

Only what stands in the list counts: it is written after the last byte of a copy was verified,
and before an old copy is removed. Reading back doubles the traffic; a short or spoilt object is
silent in every layer below.
"""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ausl_dist.files import naming, remove_tree, sha256_of
from ausl_dist.run_folder import FILE_NAME, MANIFEST_FILE, checkpoint_name, damage, step_of
from ausl_dist.shards import storage
from ausl_dist.shards.retry import Retry

LIST_FILE = "checkpoints.json"
MAX_LIST_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 64 << 20
CHUNK_BYTES = 8 << 20
FETCHED_FOLDER = ".fetched"  # swept at every start
log = logging.getLogger(__name__)


def upload_checkpoint(checkpoint: Path, url: str, keep: Callable[[set[int]], set[int]]) -> None:
    """Copy a complete checkpoint to `url`, verify the copy, then remove the copies of steps
    that `keep` does not name.

    Raises OSError where the copy cannot be made, or does not hold what was written.
    """
    step = step_of(checkpoint)
    target = storage.join(url, checkpoint.name)
    for path in sorted(checkpoint.iterdir()):
        address = storage.join(target, path.name)
        storage.upload(path, address)
        if _sha256_at(address) != sha256_of(path):
            raise OSError(
                f"{address} does not hold what was written to it: the copy of {checkpoint.name} is "
                "not used"
            )
    there = listed_steps(url) | {step}
    kept = keep(there) | {step}
    _list_steps(url, kept)
    for old in there - kept:
        storage.remove_folder(storage.join(url, checkpoint_name(old)))


def listed_steps(url: str) -> set[int]:
    """The steps of which there is a verified copy."""
    address = storage.join(url, LIST_FILE)
    if not storage.exists(address):
        return set()
    listed = _json(storage.read_bytes(address, MAX_LIST_BYTES), address)
    return {int(step) for step in listed["steps"]}


def fetch_newest(url: str, checkpoints: Path) -> Path | None:
    """Bring the newest whole copy at `url` into the folder `checkpoints`; None where there is
    none.

    Damaged copies are passed over with an error in the log, and no longer listed: what is
    listed counts when older copies are removed. Raises ValueError where all are damaged.
    """
    steps = sorted(listed_steps(url), reverse=True)
    for position, step in enumerate(steps):
        staging = checkpoints / FETCHED_FOLDER / checkpoint_name(step)
        try:
            _download(storage.join(url, checkpoint_name(step)), staging)
            problem = damage(staging)
        # of a store that cannot be reached the next older copy would be no better
        except (FileNotFoundError, ValueError) as error:
            problem = str(error)
        if problem is None:
            if position:
                _list_steps(url, set(steps[position:]))
            target = checkpoints / checkpoint_name(step)
            if target.exists():  # a damaged one, or nothing would have been fetched
                remove_tree(target)
            os.rename(staging, target)
            return target
        log.error("the copy of step %d at %s is passed over: %s", step, url, problem)
    if steps:
        raise ValueError(
            f"no copy of a checkpoint at {url} is whole: mend them, or set checkpoint.upload to an "
            "empty place"
        )
    return None


def _list_steps(url: str, steps: set[int]) -> None:
    text = json.dumps({"steps": sorted(steps)})
    storage.write_bytes(storage.join(url, LIST_FILE), text.encode())


def _download(url: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    manifest = storage.read_bytes(storage.join(url, MANIFEST_FILE), MAX_MANIFEST_BYTES)
    files = _json(manifest, url)["files"]
    for name in files:
        # it comes from outside: it must not lead out of the folder
        if FILE_NAME.fullmatch(name) is None:
            raise ValueError(
                f"{url}/{MANIFEST_FILE} names {name!r}, which is no plain file name"
            )
        with naming(target / name), open(target / name, "wb") as file:
            for piece in _pieces(storage.join(url, name)):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    (target / MANIFEST_FILE).write_bytes(manifest)


def _sha256_at(url: str) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(url):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(url: str) -> Iterator[bytes]:
    filesystem, path = storage.connect(url)
    size = storage.size_of(url)
    for start in range(0, size, CHUNK_BYTES):
        read = functools.partial(
            storage.read_range, filesystem, path, start, min(start + CHUNK_BYTES, size)
        )
        yield Retry().call(read)


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} is none of our files")
    return value
