"""Progress of a long step: a bar with rate and time left on a terminal, a plain line every few seconds in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
LINE_SECONDS = 5.0


def shown(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Pass the items on while their number is shown on standard error."""
    return _bar(items, label, total) if sys.stderr.isatty() else _lines(items, label, total)


def _bar(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, rate="")
        for number, item in enumerate(items, 1):
            yield item
            bar.update(task, completed=number, rate=f"{number / (time.monotonic() - start):.1f}/s")


def _lines(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    number = 0
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            _line(label, number, total, last - start)
    _line(label, number, total, time.monotonic() - start)


def _line(label: str, number: int, total: int | None, seconds: float) -> None:
    rate = number / max(seconds, 1e-6)
    left = f", {(total - number) / rate:.0f} s left" if total and rate else ""
    print(f"{label}: {number}{f' of {total}' if total else ''}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)
