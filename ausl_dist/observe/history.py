"""The run's written memory: one line per step, and what happened besides steps.

    RUN_FOLDER/metrics.jsonl            one line per step, by rank 0
    RUN_FOLDER/events/rank-00003.jsonl  one line per event, by that rank (`launcher.jsonl`: by
    whoever started it)

Two rules make a history that was interrupted readable as one without gaps or doubles
(`read_metrics`):

1. a line at step s puts an end to all earlier lines at steps >= s: after a restart at step k
   the older attempt's k, k+1, … are void;
2. once an attempt has begun to write, lines of older attempts (a process that outlived its
   node) are passed over.

Example: steps 0 1 2 3 | 2 3 4, where | is a restart from the checkpoint at step 2, reads as 0 1
2 3 4, the 2 and 3 of the second attempt.
"""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ausl_dist.json_lines import (
    MAX_LINE_BYTES,
    LineWriter,
    log_lines_with_offsets,
    parse_log_line,
    read_log_lines,
)
from ausl_dist.run_folder import EVENTS_FOLDER, METRICS_FILE

Line = dict[str, Any]


def read_metrics(
    run_folder: Path | str, max_lines: int | None = None, before_step: int | None = None
) -> list[Line]:
    """Each step's line once, in order of steps, by the two rules above; empty where the run has
    not made a step yet.

    With `before_step`, only lines of steps below it. With `max_lines` (2 or more), only so many
    of them, evenly spaced and the last one included: what is held in memory of a long run is two
    numbers a step.
    """
    path = Path(run_folder) / METRICS_FILE
    steps, offsets = array("q"), array("q")
    attempt = 0
    for offset, line in log_lines_with_offsets(path):
        if line is None or line.get("attempt", 0) < attempt or "step" not in line:
            continue
        attempt = line.get("attempt", 0)
        while steps and steps[-1] >= line["step"]:
            steps.pop()
            offsets.pop()
        steps.append(line["step"])
        offsets.append(offset)
    if before_step is not None:
        offsets = offsets[: bisect_left(steps, before_step)]
    return _lines_at(path, _evenly(offsets, max_lines)) if offsets else []


def last_metrics(run_folder: Path | str, before_step: int | None = None) -> Line | None:
    """The newest line of metrics.jsonl (below `before_step`), read from the end of the file:
    its cost does not grow with the run.
    """
    path = Path(run_folder) / METRICS_FILE
    if not path.exists():
        return None
    for text in _lines_from_the_end(path):
        line = parse_log_line(text)
        if (
            line is not None
            and "step" in line
            and (before_step is None or line["step"] < before_step)
        ):
            return line
    return None


def append_event(run_folder: Path | str, writer: str, event: Mapping[str, Any]) -> None:
    """Add one event in the name of `writer`, for those who are no rank: the launcher, a tool."""
    lines = LineWriter(Path(run_folder) / EVENTS_FOLDER / f"{writer}.jsonl")
    lines.write(event)
    lines.close()


def read_events(run_folder: Path | str) -> list[Line]:
    """All events of all writers, oldest first."""
    files = sorted((Path(run_folder) / EVENTS_FOLDER).glob("*.jsonl"))
    return sorted(
        (line for file in files for line in read_log_lines(file)),
        key=lambda line: float(line.get("time", 0)),
    )


def _lines_at(path: Path, offsets: Sequence[int]) -> list[Line]:
    lines = []
    with open(path, "rb") as file:
        for offset in offsets:
            file.seek(offset)
            lines.append(parse_log_line(file.readline(MAX_LINE_BYTES)))
    return [line for line in lines if line is not None]


def _evenly(values: Sequence[int], count: int | None) -> Sequence[int]:
    if count is None or len(values) <= count:
        return values
    return [
        values[round(position * (len(values) - 1) / (count - 1))] for position in range(count)
    ]


def _lines_from_the_end(path: Path, block_bytes: int = 1 << 16) -> Iterator[bytes]:
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        while position > 0:
            size = min(block_bytes, position)
            position -= size
            file.seek(position)
            rest = file.read(size) + rest
            first, *lines = rest.split(b"\n")
            yield from (line for line in reversed(lines) if line)
            rest = first
        if rest:
            yield rest
