"""Files of one JSON value a line, which are added to while others read them.

    {"step": 0}⏎ {"step": 1}⏎ {"st         a writer was killed, or the disk was full

* one writer (`LineWriter`): what was left of a line is cut off before the next;
* many writers (`append_json_line`): it is closed, since somebody may be writing behind it;
* a reader of state (`read_json_lines`) takes every line or raises;
* a reader of a log (`read_log_lines`) takes what can be read, and says what it passed over.
"""

import errno
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ausl_dist.files import naming

MAX_LINE_BYTES = 1 << 20
log = logging.getLogger(__name__)


class LineWriter:
    """Appends JSON lines to a file, each with a single write; a part of a line that a killed
    writer left is cut off first.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        _cut_partial_line(self._descriptor)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write one line; numbers that are not finite become null, as JSON has none."""
        try:
            text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        # rare: the walk below costs more than the encoding, so it is not done for every line
        except ValueError:
            text = json.dumps(_without_nan(line), ensure_ascii=False, allow_nan=False)
        data = text.encode() + b"\n"
        # without this a full disk would go unnoticed, and the next line be glued to half of
        # this one
        with naming(self._path):
            if os.write(self._descriptor, data) != len(data):
                _cut_partial_line(self._descriptor)
                raise OSError(errno.ENOSPC, "disk full")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def append_json_line(path: Path | str, value: Any) -> None:
    """Append one line of JSON with a single write, so that lines of several processes never
    mix.

    What a killed writer, or a full disk, left of a line is closed first, so that it spoils no
    line but its own. Raises OSError where the line could not be written whole.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        with naming(path):
            written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(
                errno.ENOSPC, f"only {written} of {len(line)} bytes could be written", str(path)
            )
    finally:
        os.close(descriptor)


def read_json_lines(path: Path | str) -> Iterator[Any]:
    """Yield the values of a JSON-lines file that is state: every line counts.

    A last line without its end (a killed writer) never was, and is passed over; any other
    damage raises ValueError with the number of the line.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") or not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
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
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _cut_partial_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, MAX_LINE_BYTES, max(0, size - MAX_LINE_BYTES))
    partial = len(tail) - tail.rfind(b"\n") - 1
    if partial:
        os.ftruncate(descriptor, size - partial)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
