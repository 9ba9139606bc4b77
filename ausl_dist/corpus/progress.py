"""How a build shows that it goes on: a bar on a terminal, a line every few seconds in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ausl_dist.corpus.build import Progress as BuildProgress

LOG_EVERY_SECONDS = 10.0


@contextmanager
def show_progress() -> Iterator[Callable[[BuildProgress], None]]:
    """Gives the function to call with each report."""
    if not sys.stderr.isatty():
        yield _log_lines()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("videos"), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("", total=None)
        yield lambda report: bar.update(task, total=report.sources, completed=report.done, description=_text(report))


def _log_lines() -> Callable[[BuildProgress], None]:
    last = time.monotonic()

    def log(report: BuildProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY_SECONDS or report.done == report.sources:
            last = time.monotonic()
            left = report.seconds / max(report.done - report.done_before, 1) * (report.sources - report.done)
            print(f"{report.done}/{report.sources} videos, {_text(report)}, about {left:.0f} s left", file=sys.stderr, flush=True)

    return log


def _text(report: BuildProgress) -> str:
    books = report.books
    rate = report.frames / max(report.seconds, 1e-9)
    return f"{rate:.0f} frames/s, kept {books.kept / books.fps:.0f} of {books.frames / books.fps:.0f} s, {books.clips} clips"
