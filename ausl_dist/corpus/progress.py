"""What a build says of itself while it goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ausl_dist.corpus.build import Progress as BuildProgress
from ausl_dist.progress import progress


@contextmanager
def show_progress() -> Iterator[Callable[[BuildProgress], None]]:
    """Gives the function to call with each report."""
    with progress("corpus", " videos") as report:
        yield lambda build: report(build.done, build.sources, _text(build))


def _text(report: BuildProgress) -> str:
    books = report.books
    rate = report.frames / max(report.seconds, 1e-9)
    return (
        f"{rate:.0f} frames/s, kept {books.kept / books.fps:.0f} of "
        f"{books.frames / books.fps:.0f} s, {books.clips} clips"
    )
