"""What was taken out of a corpus, for runs that began before: their order goes on over the old
index, with the removed clips missing and the others read from where they lie now.

    URL/removals.json            for each index that a run may have begun with: its chunks that moved
    URL/history/DIGEST/          that index, as it was

A chunk of an old index is a run of clips in one shard; what is left of it is a run of clips in
the shard that was written in its place. So a chunk that moved is again one range with one
checksum.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from ausl_dist.shards import storage
from ausl_dist.shards.index import (
    CHUNKS_NAME,
    INDEX_NAME,
    MAX_CHUNK_BYTES,
    MAX_CHUNKS_BYTES,
    MAX_INDEX_BYTES,
    SHARD_NAME_PATTERN,
    Chunk,
    Index,
)
from ausl_dist.shards.retry import Retry
from ausl_dist.shards.sealed import sealed_json, unsealed_json

REMOVALS_NAME = "removals.json"
HISTORY_FOLDER = "history"
FORMAT = 1


@dataclass(frozen=True)
class Moved:
    """What became of a chunk of an old index; the place means nothing where no clip is left."""

    was: tuple[
        tuple[int, int], ...
    ]  # bytes and xxh3 of what it has been: caches know it by these
    kept: tuple[int, ...]  # which of its clips are left, in order
    shard: str = ""
    offset: int = 0
    bytes: int = 0
    xxh3: int = 0

    def __post_init__(self) -> None:
        pairs = [number for pair in self.was for number in pair]
        numbers = (*pairs, *self.kept, self.offset, self.bytes, self.xxh3)
        if not all(type(n) is int and 0 <= n < 1 << 64 for n in numbers):
            raise ValueError("a moved chunk has numbers that are none")
        if list(self.kept) != sorted(set(self.kept)) or self.bytes > MAX_CHUNK_BYTES:
            raise ValueError("a moved chunk is impossible")
        if self.kept and not SHARD_NAME_PATTERN.fullmatch(self.shard):
            raise ValueError(f"a moved chunk names the shard {self.shard[:100]!r}")

    def chunk(self, number: int) -> Chunk:
        """Where what is left of it lies."""
        return Chunk(number, self.shard, self.offset, self.bytes, len(self.kept), self.xxh3)


@dataclass
class Removals:
    """By index (its digest) and chunk (its row): what moved, of all take-downs until now."""

    moved: dict[str, dict[int, Moved]] = field(default_factory=dict)
    _indexes: dict[str, Index] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def load(cls, url: str, retry: Retry | None = None) -> "Removals":
        """Those of the corpus at `url`; none where nothing was ever taken down."""
        address = storage.join(url, REMOVALS_NAME)
        try:
            data = storage.read_bytes(address, MAX_INDEX_BYTES, retry)
        except FileNotFoundError:
            return cls()
        try:
            values = unsealed_json(data)
            if values["format"] != FORMAT:
                raise ValueError(
                    f"has format {values['format']!r}, this version reads {FORMAT}"
                )
            return cls({digest: _parsed(rows) for digest, rows in values["indexes"].items()})
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            raise ValueError(f"{address} cannot be used: {error!r}") from error

    def save(self, url: str) -> None:
        indexes = {
            digest: {str(number): dataclasses.asdict(moved) for number, moved in rows.items()}
            for digest, rows in self.moved.items()
        }
        data = sealed_json({"format": FORMAT, "indexes": indexes})
        storage.write_bytes(storage.join(url, REMOVALS_NAME), data)

    def keep_index(self, url: str) -> None:
        """Keep the index that is at `url` now, for runs that have begun with it; call it before
        the index is replaced, and `save` afterwards.
        """
        try:
            index = Index.load(url)
        except (FileNotFoundError, ValueError):
            return  # no run can have begun with what cannot be opened
        if index.digest not in self.moved:
            for name, most in ((CHUNKS_NAME, MAX_CHUNKS_BYTES), (INDEX_NAME, MAX_INDEX_BYTES)):
                data = storage.read_bytes(storage.join(url, name), most)
                storage.write_bytes(storage.join(_history(url, index.digest), name), data)
            self.moved[index.digest] = {}

    def move(
        self,
        url: str,
        shard: str,
        new_shard: str,
        sizes: Sequence[int | None],
        read: Callable[[int, int], bytes],
    ) -> None:
        """Note that the clips of `shard` lie in `new_shard` now: `sizes` has the bytes of each
        in the new one, None for one that was removed; `read` gives bytes [start, end) of the
        new one.
        """
        offsets = [0]
        for size in sizes:
            offsets.append(offsets[-1] + (size or 0))
        for digest in self.moved:
            first = 0
            for number, was, clips in list(self._chunks_in(url, digest, shard)):
                places = range(first, first + len(clips))
                first += len(clips)
                kept = tuple(
                    clip for clip, p in zip(clips, places, strict=True) if sizes[p] is not None
                )
                start, end = offsets[places.start], offsets[places.stop]
                place: dict[str, Any] = {}
                if kept:
                    checksum = xxhash.xxh3_64_intdigest(read(start, end))
                    size = end - start
                    place = {
                        "shard": new_shard,
                        "offset": start,
                        "bytes": size,
                        "xxh3": checksum,
                    }
                moved = Moved(was, kept, **place)
                self.moved[digest][number] = moved

    def _chunks_in(
        self, url: str, digest: str, shard: str
    ) -> Iterator[tuple[int, tuple[tuple[int, int], ...], tuple[int, ...]]]:
        """The chunks of an old index that lie in a shard, in the order they have there: each
        with its row, what it has been, and which of its clips are left.
        """
        if digest not in self._indexes:
            self._indexes[digest] = load_index(url, digest)
        index, known = self._indexes[digest], self.moved[digest]
        found = [
            (moved.offset, row, (*moved.was, (moved.bytes, moved.xxh3)), moved.kept)
            for row, moved in known.items()
            if moved.kept and moved.shard == shard
        ]
        for place, name in enumerate(row.name for row in index.shards):
            if name == shard:
                for row in np.flatnonzero(index.chunks["shard"] == place).tolist():
                    if row not in known:
                        chunk = index.chunk(row)
                        had = ((chunk.bytes, chunk.xxh3),)
                        found.append((chunk.offset, row, had, tuple(range(chunk.clips))))
        for _, row, was, clips in sorted(found, key=lambda entry: entry[0]):
            yield row, was, clips


def load_index(url: str, digest: str | None = None, retry: Retry | None = None) -> Index:
    """The index at `url`, or the older one with this digest where it has been kept; the newest
    where that is not to be had.
    """
    url = url.rstrip("/")
    if digest is not None and digest in Removals.load(url, retry).moved:
        old = Index.load(_history(url, digest), retry)
        if old.digest == digest:
            return dataclasses.replace(old, url=url)
    return Index.load(url, retry)


def _history(url: str, digest: str) -> str:
    return storage.join(url, f"{HISTORY_FOLDER}/{digest[:16]}")


def _parsed(rows: dict[str, Any]) -> dict[int, Moved]:
    return {
        int(number): Moved(
            **{
                **values,
                "was": tuple((size, xxh3) for size, xxh3 in values["was"]),
                "kept": tuple(values["kept"]),
            }
        )
        for number, values in rows.items()
    }
