"""Bytes changed at random, and what a reader of them may cost."""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

LONG = os.environ.get("AUSL_SLOW") == "1"
LONG_INPUTS = 20_000
patience = pytest.mark.timeout(14_400 if LONG else 300)
MAX_SECONDS = 10.0  # of computing, for one input
MAX_WAIT_SECONDS = 100.0  # by the clock: other work may hold the processor
MAX_BYTES = 256 << 20

# What breaks readers of tables: numbers that fit nowhere, fields and rows that are none.
TOKENS = (
    *(
        b"1e300",
        b"9" * 400,
        b"-" + b"9" * 400,
        b"nan",
        b"inf",
        b"-inf",
        b"1e-400",
        b"0x10",
        b"1_0",
    ),
    *(
        b"2147483648",
        b"-2147483649",
        b"1.5",
        b"-1",
        b"9",
        b"999",
        b"",
        b"1",
        b"AU1",
        b"AU01",
        b"a",
    ),
    *(
        b"\n1\n",
        b"\n\n",
        b",",
        b";",
        b"\t",
        b" ",
        b'"',
        b"'",
        b'"\n',
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
    ),
    *(
        b"\xd9\xa1",
        b"#",
        b"\r",
        b"\r\n",
        b"," * 300,
        b"1," * 3000,
        b"[" * 3000,
        b"1e400",
        b"{}",
        b"null",
    ),
    *(b"../../etc/passwd", b"._", b"\\", b"%s", b"frame", b"source", b"x" * 70_000),
)


def changed(data: bytes, chance: np.random.Generator) -> bytes:
    """One to four changes: bytes, tokens in the place of fields, cuts, lines twice or not at
    all.
    """
    for _ in range(chance.integers(1, 5)):
        data = _CHANGES[chance.integers(len(_CHANGES))](data, chance)
    return data


def _bytes(data: bytes, chance: np.random.Generator) -> bytes:
    result = bytearray(data or b" ")
    for place in chance.integers(0, len(result), chance.integers(1, 6)):
        result[place] = chance.integers(0, 256)
    return bytes(result)


def _token(data: bytes, chance: np.random.Generator) -> bytes:
    inside = ~np.isin(np.frombuffer(data, np.uint8), np.frombuffer(b",;\t\n <>", np.uint8))
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    fields = edges.reshape(-1, 2)  # start and end of each
    token = TOKENS[chance.integers(len(TOKENS))]
    if not len(fields):
        return data + token
    start, end = fields[chance.integers(len(fields))]
    return data[:start] + token + data[end:]


def _insert(data: bytes, chance: np.random.Generator) -> bytes:
    at = int(chance.integers(0, len(data) + 1))
    return data[:at] + TOKENS[chance.integers(len(TOKENS))] + data[at:]


def _cut(data: bytes, chance: np.random.Generator) -> bytes:
    return data[: int(chance.integers(0, len(data) + 1))]


def _line(data: bytes, chance: np.random.Generator) -> bytes:
    lines = data.split(b"\n")
    at = int(chance.integers(len(lines)))
    lines[at : at + 1] = [lines[at]] * int(chance.integers(0, 3))
    return b"\n".join(lines)


_CHANGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    *(_bytes, _token, _token, _insert, _cut, _line),
)


def fuzz(
    files: list[Path], read: Callable[[], object], count: int, seed: int = 0
) -> Iterator[None]:
    """Change one of the files, read, and put it back, `count` times.

    `read` may raise ValueError or OSError with a sentence; anything else, a longer time or more
    memory than a reader may take fails.
    """
    chance = np.random.default_rng(seed)
    whole = {path: path.read_bytes() for path in files}
    reset_peak()
    before = peak()
    for number in range(count):
        path = files[chance.integers(len(files))]
        path.write_bytes(changed(whole[path], chance))
        started = _clocks()
        assert _sentence(read) != "", f"input {number} of seed {seed} ends without a sentence"
        assert _in_time(started), f"input {number} of seed {seed} hangs"
        path.write_bytes(whole[path])
        yield
    assert peak() - before < MAX_BYTES


def inputs(short: int) -> int:
    """How many inputs a fuzzer tries: `short`, or 20,000 in the suite's long form."""
    return LONG_INPUTS if LONG else short


def bounded(count: int) -> Iterator[int]:
    """The numbers of so many inputs, for fuzzers that use them by themselves: each has its time
    until it asks for the next, and all have the memory of one.
    """
    reset_peak()
    before = peak()
    for number in range(count):
        started = _clocks()
        yield number
        assert _in_time(started), f"input {number} hangs"
    assert peak() - before < MAX_BYTES


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.monotonic()


def _in_time(started: tuple[float, float]) -> bool:
    computed, waited = (now - then for now, then in zip(_clocks(), started, strict=True))
    return computed < MAX_SECONDS and waited < MAX_WAIT_SECONDS


def _sentence(read: Callable[[], object]) -> str | None:
    """What a reader refuses its input with; None where it was read."""
    try:
        read()
    except (ValueError, OSError) as error:
        return str(error)
    return None


def reset_peak() -> None:
    """Forget how much memory this process has held at most."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes that this process has held at most since `reset_peak`."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return 1024 * int(match[1])
