"""Small effects on the local disk that every room needs: whole-or-nothing writes and
checksums.

A reader of a file written here sees the old content or the new, never a part, whatever moment
the writer is killed.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 20


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Write a file whole or not at all: temporary file beside it, flushed to disk, then
    renamed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with naming(path), open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Inside the block errors of the disk name the file: a write to a full one does not say
    whose it was.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder that no other writer uses: a process id would not do for
    threads, or for two containers.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, keys in the order given, so that equal values give equal bytes."""
    write_atomically(
        path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path | str, max_bytes: int = 64 << 20) -> Any:
    """Read a JSON file of at most `max_bytes`; raises ValueError with the path when it is
    larger or no JSON.
    """
    data = read_bounded(path, max_bytes)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a ValueError
        raise ValueError(f"{path} is not valid JSON ({error})") from error


def json_object(data: bytes, where: Path | str) -> dict[str, Any]:
    """The JSON object in bytes that come from `where`, which ValueError names where they are
    none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no JSON object but {type(value).__name__}")
    return value


def read_bounded(path: Path | str, max_bytes: int) -> bytes:
    """The bytes of a file of at most `max_bytes`; raises ValueError with the path where it is
    larger, or no file to be read to its end (a device, a pipe that nobody writes to).
    """
    check_plain(path)
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(
            f"{path} is larger than {max_bytes} bytes: this is not one of our files"
        )
    return data


def check_plain(path: Path | str) -> int:
    """The size of a file; ValueError for a device, a pipe or a socket: they have no end, or
    nothing comes.
    """
    found = os.stat(path)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise ValueError(f"{path} is a device or a pipe: give a file")
    return found.st_size


def remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it; of a link to one the link alone."""
    if folder.is_symlink():
        folder.unlink(missing_ok=ignore_errors)
    else:
        shutil.rmtree(folder, ignore_errors=ignore_errors)


@contextlib.contextmanager
def as_ours(what: Path | str) -> Iterator[None]:
    """Inside the block values of a foreign file are used as one of ours would have them; where
    they are not so, ValueError names the file.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"{what} does not hold what this version writes ({type(error).__name__}: {error})"
        ) from error


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file as 64 hex digits, read in bounded pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
