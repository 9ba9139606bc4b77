"""Worker processes that turn sources into results on disk, and that may die.

    indices ──▶ N processes (spawned), one source at a time each ──▶ results/…

A file can hang or kill a decoder. A worker that dies, or shows no sign of life for
STALL_SECONDS, is replaced; its source gets a second try and is then rejected as `crashed`.
Workers end by themselves when the parent is gone.
"""

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ausl_dist.corpus.bring import bring
from ausl_dist.corpus.labels import LabelError, Labels, LabelTables, thinned
from ausl_dist.corpus.pack import ResultStore
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source
from ausl_dist.faces.decode import Unreadable, numbered_images
from ausl_dist.files import naming

if TYPE_CHECKING:
    from ausl_dist.corpus.extract import Extractor

STALL_SECONDS = 300.0
TRIES = 2
POLL_SECONDS = 0.5
MMAP_THRESHOLD_BYTES = 2 << 20


@dataclass(frozen=True)
class Task:
    """What every worker of a build is told once."""

    settings: CorpusSettings
    results: Path
    models: Path | None
    labels: Path | None
    first_frame: int | None
    names: tuple[str, ...] = ()  # of all sources: which table is whose depends on them


class Crew:
    """Runs `sources` through workers; `run` yields the index of each source when its result is
    on disk.
    """

    def __init__(self, task: Task, sources: Sequence[Source], workers: int) -> None:
        self._task, self._sources = task, sources
        self._store = ResultStore(task.results)
        # glibc would keep frames of some megabytes on its heap, between crops that live longer,
        # and never get the holes back: 870 instead of 250 MiB for a worker on 1080p video.
        os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(MMAP_THRESHOLD_BYTES))
        # a forked one would inherit the parent's object-store connections
        self._context = multiprocessing.get_context("spawn")
        self._workers = [_Worker(self._context, task) for _ in range(workers)]

    @property
    def frames(self) -> int:
        """Frames read so far, by all workers of this run."""
        return sum(worker.frames for worker in self._workers)

    def run(self, indices: Sequence[int]) -> Iterator[int | None]:
        """Yield finished indices as they come, and None about twice a second in between."""
        waiting = deque(indices)
        tries = dict.fromkeys(indices, 0)
        try:
            while waiting or any(worker.index is not None for worker in self._workers):
                for worker in self._workers:
                    if worker.index is None and waiting:
                        index = waiting.popleft()
                        tries[index] += 1
                        worker.give(index, self._sources[index])
                wait(
                    [handle for worker in self._workers for handle in worker.handles],
                    POLL_SECONDS,
                )
                for worker in self._workers:
                    yield from self._look_after(worker, waiting, tries)
                yield None
        finally:
            for worker in self._workers:
                worker.stop()

    def _look_after(
        self, worker: "_Worker", waiting: deque[int], tries: dict[int, int]
    ) -> Iterator[int]:
        index = worker.index
        if index is None:
            return
        outcome = worker.outcome()
        if outcome == "done":
            yield index
        elif outcome == "lost":
            worker.restart()
            if tries[index] < TRIES:
                waiting.append(index)
            else:
                self._reject(index)
                yield index

    def _reject(self, index: int) -> None:
        from ausl_dist.corpus.extract import SourceResult

        message = f"the worker process died or stood still on it {TRIES} times"
        fps = self._task.settings.read.fps
        self._store.write(
            index,
            SourceResult(self._sources[index].name, fps, reason="crashed", message=message),
        )


class _Worker:
    """The parent's view of one process."""

    def __init__(self, context: Any, task: Task) -> None:
        self._context, self._task = context, task
        self._past_frames = 0
        self.index: int | None = None  # the source it is at
        self._start()

    @property
    def frames(self) -> int:
        return self._past_frames + self._counters[0]

    @property
    def handles(self) -> list[Any]:
        return [self._pipe, self._process.sentinel] if self.index is not None else []

    def give(self, index: int, source: Source) -> None:
        self.index = index
        self._last_sign = self._signs()
        with contextlib.suppress(OSError):  # it has died: `outcome` sees that
            self._pipe.send((index, source))

    def outcome(self) -> str:
        """'done', 'lost' or 'busy'; an exception of the worker that is nobody's file's fault is
        raised here.
        """
        try:
            if self._pipe.poll():
                answer = self._pipe.recv()
                if isinstance(answer, Exception):
                    raise answer
                self.index = None
                return "done"
        except (EOFError, ConnectionError):
            return "lost"
        if not self._process.is_alive():
            return "lost"
        signs = self._signs()
        if signs[:2] != self._last_sign[:2]:
            self._last_sign = signs
        return "lost" if signs[2] - self._last_sign[2] > STALL_SECONDS else "busy"

    def restart(self) -> None:
        self._past_frames = self.frames
        self.stop()
        self._start()

    def stop(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _signs(self) -> tuple[int, int, float]:
        return self._counters[0], self._counters[1], time.monotonic()

    def _start(self) -> None:
        self.index = None
        self._counters = self._context.RawArray("Q", 2)  # frames read, bytes fetched
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_work, args=(theirs, self._task, self._counters), daemon=True
        )
        self._process.start()
        theirs.close()
        self._last_sign = self._signs()


def _work(pipe: Connection, task: Task, counters: Any) -> None:
    """A worker's life: models once, then one source after the other until the parent closes the
    pipe.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    from ausl_dist.corpus.extract import Extractor

    try:
        extractor = Extractor(task.settings, task.models)
        tables = label_tables(task)
    except (ValueError, OSError) as error:
        pipe.send(error)
        return
    while True:
        try:
            index, source = pipe.recv()
            labels = tables.of(source.name) if tables else None
            _extract(extractor, task, index, source, labels, counters)
            pipe.send(index)
        except EOFError:
            return  # the parent is gone or done
        # An unreadable table, a full disk, a lost store: for people, no fault of this video.
        except (LabelError, OSError) as error:
            pipe.send(error)
            return


def label_tables(task: Task) -> LabelTables | None:
    """The labels of a build, or None; LabelError where they cannot be told apart."""
    if task.labels is None:
        return None
    return LabelTables(task.labels, task.names, first_frame=task.first_frame)


def _extract(
    extractor: "Extractor",
    task: Task,
    index: int,
    source: Source,
    labels: Labels | None,
    counters: Any,
) -> None:
    from ausl_dist.corpus.extract import SourceResult, reject_whole

    store = ResultStore(task.results)
    with tempfile.TemporaryDirectory(prefix=f"{index:08d}.", dir=task.results) as folder:

        def fetched(size: int) -> None:
            counters[1] += size

        try:
            path = bring(source.location, Path(folder), fetched)
        except Unreadable as problem:
            result = SourceResult(source.name, task.settings.read.fps)
            store.write(index, reject_whole(result, problem))
            return
        clips = Path(folder) / "clips"
        with naming(clips), open(clips, "wb") as file:

            def progress(frames: int) -> None:
                counters[0] += frames

            if labels is not None and path.is_dir():
                with contextlib.suppress(Unreadable, OSError):  # said when it is extracted
                    labels.check_images(source.name, numbered_images(path)[0][0])
            used = thinned(labels, source.name, task.settings.labels) if labels else None
            result = extractor.extract(source, path, file.write, labels=used, progress=progress)
            if labels is not None and not result.reason:
                labels.check(source.name, result.source_end)
            file.flush()
            os.fsync(file.fileno())
        os.replace(clips, store.clips_path(index))
    store.write(index, result)
