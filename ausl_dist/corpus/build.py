"""The builder: a list of sources becomes a corpus, with any number of workers, through any
number of kills, always the same bytes.

    collect ──▶ Job ──▶ work folder ──▶ Crew (workers) ──▶ results ──▶ Packer ──▶ shards ─┐
                         job.json                          one by one    in order         │
                                                        corpus ◀── publish, join ◀── survey

The work folder remembers everything: to go on after a kill, run the same command again. What
was finished is not done again, and since packing goes by the order of the list, neither kills
nor the number of workers show in the result. A corpus that is there says itself which build it
is of (corpus.json), so that nothing of the work stays behind.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from ausl_dist.corpus.books import Books
from ausl_dist.corpus.labels import Match, labels_digest
from ausl_dist.corpus.pack import Packer, ResultStore
from ausl_dist.corpus.parts import (
    BuildPart,
    ForeignPart,
    forget_part,
    join_parts,
    publish_part,
    read_part,
)
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source
from ausl_dist.corpus.workers import Crew, Task, label_tables
from ausl_dist.corpus.workspace import (
    RESULTS_FOLDER,
    SHARDS_FOLDER,
    Workspace,
    difference,
    held,
)
from ausl_dist.faces.models import MODELS, find_model
from ausl_dist.files import json_object
from ausl_dist.shards import storage
from ausl_dist.shards.index import INDEX_NAME
from ausl_dist.shards.publish import MAX_STATEMENT_BYTES, STATEMENT_NAME, send_shards, survey

BUILDER_VERSION = 3  # part of a build's digest: raise it when the same input gives other bytes
MAX_PICTURES = 24  # of rejected pieces in the ledger, for each reason


@dataclass(frozen=True)
class BuildJob:
    """One build, or one part of it."""

    name: str
    sources: tuple[Source, ...]  # of the whole build
    out: str  # path or URL
    work: Path
    settings: CorpusSettings = field(default_factory=CorpusSettings)
    models: Path | None = None
    labels: Path | None = None
    first_frame: int | None = None
    part: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.parts <= 1000:
            raise ValueError(
                f"part {self.part} of {self.parts}: parts are numbered from 0, "
                "and there are at most 1000"
            )

    @property
    def own_sources(self) -> tuple[Source, ...]:
        """What this part works on: every n-th source, since long ones often stand together."""
        return self.sources[self.part :: self.parts]

    @property
    def shards(self) -> Path:
        """Where shards are written; for a local corpus that is where they stay."""
        return self.work / SHARDS_FOLDER if "://" in self.out else Path(self.out)

    @property
    def prefix(self) -> str:
        return "shard" if self.parts == 1 else f"shard-{self.part:03d}"

    @property
    def digest(self) -> str:
        """Changes with anything that changes the corpus; the same for all parts."""
        labels = labels_digest(self.labels) if self.labels else ""
        what = [
            BUILDER_VERSION,
            self.name,
            self.settings.digest,
            [model.sha256 for model in MODELS],
            labels,
            self.first_frame,
            self.parts,
        ]
        # as ASCII: a location may be no UTF-8
        text = json.dumps([what, [astuple(source) for source in self.sources]])
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass
class Progress:
    """What a build reports about twice a second."""

    sources: int
    done: int = 0
    done_before: int = 0  # by earlier runs
    frames: int = 0  # read by this run
    seconds: float = 0.0  # of this run
    # of the finished sources, duplicates not yet found
    books: Books = field(default_factory=lambda: Books(25.0))


@dataclass(frozen=True)
class BuildOutcome:
    """How a build ended: its own part's books, and the corpus' statement once all parts are
    there.
    """

    books: Books
    statement: dict[str, Any] | None
    was_done: bool = False


def build(
    job: BuildJob,
    *,
    workers: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> BuildOutcome:
    """Build the job, or go on with it, or do nothing when it is done.

    Raises ValueError or OSError for what a person must mend.
    """
    digest = job.digest  # before anything is made: it reads the labels
    with held(job.work, job.out) as space:
        try:
            outcome = _build(job, digest, space, workers, on_progress)
        except ForeignPart:
            raise
        except (ValueError, OSError) as error:
            # What a person must mend first. A lost disk or store is not: the work goes on
            # later.
            if isinstance(error, ValueError) or not space.has_results():
                _give_up(job, digest, space)
            raise
        space.clear(digest)
        return outcome


def _build(
    job: BuildJob,
    digest: str,
    space: Workspace,
    workers: int,
    on_progress: Callable[[Progress], None],
) -> BuildOutcome:
    books = _done_before(job, digest)
    if books is not None:
        return BuildOutcome(books, _statement(job, digest), was_done=True)
    wanted = {
        "build": digest,
        "part": job.part,
        "parts": job.parts,
        "sources": len(job.sources),
        "settings": job.settings.to_dict(),
    }
    is_resumed = space.claim(wanted)
    if not is_resumed and storage.exists(storage.join(job.out, INDEX_NAME)):
        space.is_claimed = False  # what lies there is not this build's to remove
        changed = difference(_statement_at(job.out), wanted)
        raise ValueError(
            f"{job.out} holds a corpus already, of another build ({changed}): choose another "
            "--out, or delete it first"
        )
    books, ledger = _extract_and_pack(job, workers, on_progress)
    tally, entries = survey(job.shards, f"{job.prefix}-")
    if tally.clips != books.clips:
        raise AssertionError(f"the shards hold {tally.clips} clips, the books {books.clips}")
    send_shards(job.shards, job.out, entries)
    publish_part(job.out, BuildPart(digest, job.part, job.parts, books, tally), entries, ledger)
    return BuildOutcome(books, _statement(job, digest))


def _give_up(job: BuildJob, digest: str, space: Workspace) -> None:
    """Remove what a build that cannot end left: its shards, its account and its work."""
    if space.is_claimed:
        if "://" not in job.out:
            for path in Path(job.out).glob(f"{job.prefix}-*.tar*"):
                path.unlink()
        forget_part(job.out, job.part)
    space.clear(digest)


def _done_before(job: BuildJob, digest: str) -> Books | None:
    """The books of this part where its account, or the whole corpus, is at the URL."""
    part = read_part(job.out, job.part)
    if part is not None and (part.build, part.total) == (digest, job.parts):
        return part.books
    made = _published(job, digest)
    return Books.from_dict(made["books"]) if made is not None else None


def _statement(job: BuildJob, digest: str) -> dict[str, Any] | None:
    """The corpus' statement; parts are joined if that is not done yet, and never again: clips
    may have been taken down since.
    """
    made = _published(job, digest)
    if made is not None and (
        made["removed"] or storage.exists(storage.join(job.out, INDEX_NAME))
    ):
        return made
    return join_parts(
        job.out, digest, job.parts, name=job.name, settings=job.settings.to_dict()
    )


def _published(job: BuildJob, digest: str) -> dict[str, Any] | None:
    """The statement at the URL, if this build made it."""
    made = _statement_at(job.out)
    return made if made.get("build") == digest else None


def _statement_at(url: str) -> dict[str, Any]:
    address = storage.join(url, STATEMENT_NAME)
    if not storage.exists(address):
        return {}
    return json_object(storage.read_bytes(address, MAX_STATEMENT_BYTES), address)


def _extract_and_pack(
    job: BuildJob, workers: int, on_progress: Callable[[Progress], None]
) -> tuple[Books, Iterator[dict[str, Any]]]:
    sources, settings = job.own_sources, job.settings
    store = ResultStore(job.work / RESULTS_FOLDER)
    packer = Packer(
        job.work, store, job.shards, sources=len(sources), settings=settings, prefix=job.prefix
    )
    progress = Progress(len(sources), books=Books(settings.read.fps))
    todo = []
    for index in range(len(sources)):
        if store.is_done(index):
            progress.books.add(store.read(index).books())
            progress.done = progress.done_before = progress.done + 1
        else:
            todo.append(index)
    packer.advance()
    if todo:
        for model in MODELS:
            find_model(model, job.models)
        started = time.monotonic()
        crew = Crew(_task(job), sources, min(workers, len(todo)))
        for finished in crew.run(todo):
            if finished is not None:
                progress.books.add(store.read(finished).books())
                progress.done += 1
                packer.advance()
            progress.frames, progress.seconds = crew.frames, time.monotonic() - started
            on_progress(progress)
    packer.finish()
    books = Books(settings.read.fps)
    for index in range(len(sources)):
        books.add(packer.result(index).books())
    books.check()
    return books, _ledger(packer, len(sources))


def _task(job: BuildJob) -> Task:
    names = tuple(source.name for source in job.sources)
    results = job.work / RESULTS_FOLDER
    return Task(job.settings, results, job.models, job.labels, job.first_frame, names)


def check_labels(job: BuildJob) -> Match | None:
    """Read every label table of a job, and say what they meet; LabelError for a wrong one."""
    tables = label_tables(_task(job))
    if tables is None:
        return None
    tables.check()
    return tables.match


def _ledger(packer: Packer, sources: int) -> Iterator[dict[str, Any]]:
    """All ledger lines in order; pictures only for the first pieces of each reason."""
    pictures = dict[str, int]()
    for index in range(sources):
        for line in packer.result(index).ledger():
            if "picture" in line:
                pictures[line["reason"]] = pictures.get(line["reason"], 0) + 1
                if pictures[line["reason"]] > MAX_PICTURES:
                    del line["picture"]
            yield line
