"""The builder: a list of sources becomes a corpus, with any number of workers, through any number
of kills, always the same bytes.

    collect ──▶ Job ──▶ work folder ──▶ Crew (workers) ──▶ results ──▶ Packer ──▶ shards ──▶ survey ──▶ publish, join
                         job.json                          one by one    in order

The work folder remembers everything: to go on after a kill, run the same command again. What was
finished is not done again, and since packing goes by the order of the list, neither kills nor the
number of workers show in the result.
"""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from ausl_dist.corpus.books import Books
from ausl_dist.corpus.labels import Match, labels_digest
from ausl_dist.corpus.pack import DECISIONS_NAME, STATE_NAME, Packer, ResultStore
from ausl_dist.corpus.parts import Part, join_parts, part_account, publish_part
from ausl_dist.corpus.publish import MAX_STATEMENT_BYTES, STATEMENT_NAME, send_shards, survey
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source
from ausl_dist.corpus.workers import Crew, Task, label_tables
from ausl_dist.faces.models import MODELS, find_model
from ausl_dist.files import read_json, write_json
from ausl_dist.shards import storage
from ausl_dist.shards.index import INDEX_NAME

BUILDER_VERSION = 3  # part of a build's digest: raise it when the same input gives other bytes
WORK_FOLDER = ".build"
DONE_NAME = "done.json"
MAX_PICTURES = 24  # of rejected pieces in the ledger, for each reason


@dataclass(frozen=True)
class Job:
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
        return self.work / "shards" if "://" in self.out else Path(self.out)

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
class Outcome:
    """How a build ended: its own part's books, and the corpus' statement once all parts are there."""

    books: Books
    statement: dict[str, Any] | None
    was_done: bool = False


def build(
    job: Job, *, workers: int = 1, on_progress: Callable[[Progress], None] = lambda progress: None
) -> Outcome:
    """Build the job, or go on with it, or do nothing when it is done.

    Raises ValueError or OSError for what a person must mend.
    """
    with _locked(job.work):
        digest = job.digest
        _open_work_folder(job, digest)
        done = job.work / DONE_NAME
        if done.exists() and _is_deleted(job, digest):
            _forget(job.work)
        was_done = done.exists()
        if was_done:
            books = Books.from_dict(read_json(done)["books"])
        else:
            books, ledger = _extract_and_pack(job, workers, on_progress)
            tally, entries = survey(job.shards, f"{job.prefix}-")
            if tally.clips != books.clips:
                raise AssertionError(
                    f"the shards hold {tally.clips} clips, the books {books.clips}"
                )
            send_shards(job.shards, job.out, entries)
            publish_part(job.out, Part(digest, job.part, job.parts, books, tally), entries, ledger)
            write_json(done, {"books": books.to_dict()})
            shutil.rmtree(job.work / "results")
            if "://" in job.out:
                shutil.rmtree(job.shards)
        return Outcome(books, _statement(job, digest), was_done)


def _statement(job: Job, digest: str) -> dict[str, Any] | None:
    """The corpus' statement; parts are joined if that is not done yet, and never again: clips may
    have been taken down since.
    """
    made = _published(job, digest)
    if made is not None and (made["removed"] or storage.exists(storage.join(job.out, INDEX_NAME))):
        return made
    return join_parts(job.out, digest, job.parts, name=job.name, settings=job.settings.to_dict())


def _published(job: Job, digest: str) -> dict[str, Any] | None:
    """The statement at the URL, if this build made it."""
    url = storage.join(job.out, STATEMENT_NAME)
    made = json.loads(storage.read_bytes(url, MAX_STATEMENT_BYTES)) if storage.exists(url) else {}
    return made if made.get("build") == digest else None


def _is_deleted(job: Job, digest: str) -> bool:
    """Whether what this part has published is gone from the URL."""
    return _published(job, digest) is None and not storage.exists(part_account(job.out, job.part))


def _forget(work: Path) -> None:
    for name in (DONE_NAME, STATE_NAME, DECISIONS_NAME):
        (work / name).unlink(missing_ok=True)


def _extract_and_pack(
    job: Job, workers: int, on_progress: Callable[[Progress], None]
) -> tuple[Books, Iterator[dict[str, Any]]]:
    sources, settings = job.own_sources, job.settings
    store = ResultStore(job.work / "results")
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


def _task(job: Job) -> Task:
    names = tuple(source.name for source in job.sources)
    results = job.work / "results"
    return Task(job.settings, results, job.models, job.labels, job.first_frame, names)


def check_labels(job: Job) -> Match | None:
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


def _open_work_folder(job: Job, digest: str) -> None:
    record = job.work / "job.json"
    known = read_json(record) if record.exists() else None
    mine = {
        "build": digest,
        "part": job.part,
        "parts": job.parts,
        "sources": len(job.sources),
        "settings": job.settings.to_dict(),
    }
    if known is None:
        if storage.exists(storage.join(job.out, INDEX_NAME)):
            raise ValueError(
                f"{job.out} holds a corpus already: choose another --out, or delete it first"
            )
        write_json(record, mine)
    elif known["build"] != digest:
        raise ValueError(
            f"{job.work} belongs to another build ({_difference(known, mine)}): "
            f"choose another --out, or delete {job.work}"
        )
    for leftover in (job.work / "results").glob("*.*/"):  # of workers that were killed
        shutil.rmtree(leftover, ignore_errors=True)


def _difference(known: dict[str, Any], mine: dict[str, Any]) -> str:
    def flat(values: dict[str, Any], where: str = "") -> dict[str, Any]:
        parts = {
            f"{where}{key}": value for key, value in values.items() if not isinstance(value, dict)
        }
        for key, value in values.items():
            if isinstance(value, dict):
                parts |= flat(value, f"{where}{key}.")
        return parts

    old, new = flat(known), flat(mine)
    changed = [
        f"{key} was {old.get(key)}, is {new[key]}"
        for key in new
        if key != "build" and old.get(key) != new[key]
    ]
    return "; ".join(changed) or "other sources, models, labels or name"


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """One build at a time in a work folder; the lock goes with the process, however it ends."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"another process is building in {work}: wait for it, or choose another --out"
            ) from error
        yield
