"""One corpus built by many machines: each part publishes its shards and its account, and
whoever completes the set joins them.

    part 0 ──▶ URL/shard-000-*.tar, URL/parts/000/ ─┐
    part 1 ──▶ URL/shard-001-*.tar, URL/parts/001/  ├─▶ ledger.jsonl, corpus.json, index
    …          (part.json, ledger.jsonl, index)    ─┘

Two parts that finish together may both join: they write the same bytes. A build on one machine
is a set of one part. The accounts stay at the URL until a take-down makes them untrue.
"""

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ausl_dist.corpus.books import REASONS, Books
from ausl_dist.corpus.bring import list_files
from ausl_dist.files import as_ours, json_object
from ausl_dist.shards import storage
from ausl_dist.shards.index import Index, ShardEntry, write_index
from ausl_dist.shards.publish import (
    LEDGER_NAME,
    Tally,
    index_entries,
    json_lines,
    statement,
    to_json,
    write_corpus,
)

PARTS_FOLDER = "parts"
PART_NAME = "part.json"
MAX_PART_BYTES = 1 << 30
MAX_REASONS_SHOWN = 8


class ForeignPart(ValueError):
    """Parts of two builds at one address."""


@dataclasses.dataclass(frozen=True)
class BuildPart:
    """One part's account."""

    build: str  # digest of the whole build: parts of different ones are not joined
    number: int
    total: int
    books: Books
    tally: Tally


def publish_part(
    url: str, part: BuildPart, entries: list[ShardEntry], ledger: Iterable[Mapping[str, Any]]
) -> None:
    """Leave this part's account at the URL, part.json last; its shards must be there."""
    folder = _folder(url, part.number)
    if entries:
        write_index(folder, entries)
    storage.write_bytes(storage.join(folder, LEDGER_NAME), json_lines(ledger))
    storage.write_bytes(
        storage.join(folder, PART_NAME),
        to_json(vars(part) | {"books": part.books.to_dict(), "tally": vars(part.tally)}),
    )


def join_parts(
    url: str, build: str, total: int, *, name: str, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Make the parts one corpus and return its statement, or None while some are missing.

    Raises ValueError when a part belongs to another build, or when nothing was kept in any.
    """
    folders = [_folder(url, number) for number in range(total)]
    if not all(storage.exists(storage.join(folder, PART_NAME)) for folder in folders):
        return None
    tally, entries = Tally(), list[ShardEntry]()
    books: Books | None = None
    for folder in folders:
        part = _read_part(folder)
        if (part.build, part.total) != (build, total):
            raise ForeignPart(
                f"{folder} is a part of another build: choose another --out, "
                f"or delete {storage.join(url, PARTS_FOLDER)}"
            )
        tally.merge(part.tally)
        if part.tally.clips:
            entries += index_entries(Index.load(folder))
        if books is None:
            books = Books(part.books.fps)
        books.add(part.books)
    assert books is not None
    books.check()
    if not entries:
        why = _nothing_kept(books, _ledgers(folders))
        for number in range(total):
            forget_part(url, number)
        raise ValueError(why)
    made = statement(name, tally, build=build, books=books.to_dict(), settings=settings)
    write_corpus(url, made, entries, _ledgers(folders))
    return made


def _nothing_kept(books: Books, ledger: Iterator[dict[str, Any]]) -> str:
    """Why there is no corpus: the account, and what the first sources were rejected for."""
    lines = [
        f"{line['source']}: {line['reason']} ({line.get('message') or REASONS[line['reason']]})"
        for line in itertools.islice(ledger, MAX_REASONS_SHOWN)
    ]
    return "\n".join(["no clip was kept, so nothing was written", *lines, books.table()])


def read_part(url: str, number: int) -> BuildPart | None:
    """A part's account, once the part is published."""
    folder = _folder(url, number)
    return _read_part(folder) if storage.exists(storage.join(folder, PART_NAME)) else None


def parts_done(url: str) -> tuple[int, int]:
    """How many parts have their account at the URL, and how many there are to be; 0, 0 where
    none has.
    """
    try:
        names = list_files(storage.join(url, PARTS_FOLDER))
    except FileNotFoundError:
        return 0, 0
    done = [name.partition("/")[0] for name in names if name.endswith(f"/{PART_NAME}")]
    total = _read_part(_folder(url, int(done[0]))).total if done else 0
    return len(done), total


def forget_part(url: str, number: int) -> None:
    """Remove a part's account, and the folder of accounts with the last of them."""
    folder = _folder(url, number)
    path = storage.local_path(folder)
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    elif storage.exists(storage.join(folder, PART_NAME)):
        storage.remove_folder(folder)


def _read_part(folder: str) -> BuildPart:
    address = storage.join(folder, PART_NAME)
    values = json_object(storage.read_bytes(address, MAX_PART_BYTES), address)
    with as_ours(address):
        return BuildPart(
            **{
                **values,
                "books": Books.from_dict(values["books"]),
                "tally": Tally.from_dict(values["tally"]),
            }
        )


def _ledgers(folders: list[str]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        address = storage.join(folder, LEDGER_NAME)
        for line in storage.read_bytes(address, MAX_PART_BYTES).splitlines():
            yield json_object(line, address)


def _folder(url: str, number: int) -> str:
    return storage.join(url, f"{PARTS_FOLDER}/{number:03d}")
