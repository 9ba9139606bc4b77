"""How a long step shows on standard error that it goes on: a bar on a terminal, a plain line
every few seconds in a log.

with progress("features", " clips") as report:
    report(29, 120, "5.7/s")           ──▶ features: 29 of 120 clips, 5.7/s, 16 s left
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
# what is done, of how much (None: unknown), and more in words
Report = Callable[[int, int | None, str], None]

LINE_SECONDS = 5.0


@contextmanager
def progress(label: str, unit: str = "", *, about: bool = False) -> Iterator[Report]:
    """Gives the function to call as the work goes on; `about` says that its total is a guess,
    from which no time left follows.
    """
    if sys.stderr.isatty():
        name = TextColumn("{task.description}", markup=False)  # a path may hold brackets
        columns = (
            name,
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=None, text="")
            yield lambda done, total, text: bar.update(
                task, completed=done, total=total, text=text
            )
        return
    lines = _Lines(label, unit, about)
    try:
        yield lines.report
    finally:
        lines.show()


def shown(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Pass the items on while their number is shown."""
    start = time.monotonic()
    with progress(label) as report:
        for number, item in enumerate(items, 1):
            yield item
            report(number, total, f"{number / max(time.monotonic() - start, 1e-6):.1f}/s")


class _Lines:
    """The last report as a line, every few seconds and at the end."""

    def __init__(self, label: str, unit: str, about: bool) -> None:
        self._label, self._unit, self._about = label, unit, about
        self._start = self._shown = time.monotonic()
        self._first: int | None = None  # what was done before: it says nothing about the rate
        self._last: tuple[int, int | None, str] | None = None

    def report(self, done: int, total: int | None, text: str) -> None:
        self._first = done if self._first is None else self._first
        self._last = (done, total, text)
        if time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            self.show()

    def show(self) -> None:
        if self._last is None or self._first is None:
            return
        done, total, text = self._last
        of = f" of {'about ' * self._about}{total}" if total else ""
        left = ""
        if total and not self._about and done > self._first:
            left = (
                ", "
                f"{(total - done) * (time.monotonic() - self._start) / (done - self._first):.0f} s "
                "left"
            )
        print(
            f"{self._label}: {done}{of}{self._unit}, {text}{left}", file=sys.stderr, flush=True
        )
