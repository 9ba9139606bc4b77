"""Small effects on the local disk that every room needs: whole-or-nothing writes, checksums, JSON
lines.

A reader of a file written here sees the old content or the new, never a part, whatever moment the
writer is killed.
"""

import errno
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
log = logging.getLogger(__name__)


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Write a file whole or not at all: temporary file beside it, flushed to disk, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder that no other writer uses: a process id would not do for
    threads, or for two containers.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, keys in the order given, so that equal values give equal bytes."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str, max_bytes: int = 64 << 20) -> Any:
    """Read a JSON file of at most `max_bytes`; raises ValueError with the path when it is larger or
    no JSON.
    """
    path = Path(path)
    if path.stat().st_size > max_bytes:
        raise ValueError(f"{path} is larger than {max_bytes} bytes: this is not one of our files")
    try:
        return json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error


def append_json_line(path: Path | str, value: Any) -> None:
    """Append one line of JSON with a single write, so that lines of several processes never mix.

    What a killed writer, or a full disk, left of a line is closed first, so that it spoils no line
    but its own. Raises OSError where the line could not be written whole.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(
                errno.ENOSPC, f"only {written} of {len(line)} bytes could be written", str(path)
            )
    finally:
        os.close(descriptor)


def read_json_lines(path: Path | str) -> Iterator[Any]:
    """Yield the values of a JSON-lines file that is state: every line counts.

    A last line without its end (a killed writer) never was, and is passed over; any other damage
    raises ValueError with the number of the line.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") or not line.strip():
                continue
            try:
                yield json.loads(line)
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"{path} line {number} is not valid JSON ({error})") from error


def read_log_lines(
    path: Path | str, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file that is a log: what can be read of it is worth having.

    Lines that a kill or a disk has damaged are passed over, with one warning for the file; an
    absent file is empty.
    """
    path = Path(path)
    damaged = 0
    for _, line in log_lines_with_offsets(path, max_line_bytes):
        if line is None:
            damaged += 1
        else:
            yield line
    if damaged:
        log.warning("%d damaged lines of %s were passed over", damaged, path)


def log_lines_with_offsets(
    path: Path, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Where each line of a log begins, and its JSON object; None for a damaged line."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        offset = 0
        while text := file.readline(max_line_bytes):
            ended = text.endswith(b"\n")
            if text.strip():
                value = parse_log_line(text)
                # a last line without its end is still being written, or its writer was killed
                if value is not None or ended:
                    yield offset, value
            offset += len(text)


def parse_log_line(text: bytes) -> dict[str, Any] | None:
    """The JSON object of one line of a log; None where it is damaged."""
    try:
        line = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file as 64 hex digits, read in bounded pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
