"""Chunks from storage, verified: the bytes that the index promised, or a reason why they cannot be
had.

    chunk ──▶ disk cache? ──▶ ranged read, repeated with back-off until a deadline ──▶ checksum ──▶ bytes

A flipped bit and a body cut short are silent in every client, so nothing counts as read before its
checksum is right.
"""

import threading
from collections import Counter
from collections.abc import Mapping

import xxhash

from ausl_dist.shards import storage
from ausl_dist.shards.index import Chunk, Index
from ausl_dist.shards.retry import DeadlinePassed, Permanent, Retry
from ausl_dist.stream.cache import DiskCache
from ausl_dist.stream.ledger import MissingClip

MAX_CHECKSUM_TRIES = (
    4  # bits flip on the way now and then; bytes that are wrong every time are wrong where they lie
)


class ChecksumError(OSError):
    """Bytes that are not those the index was made from."""


class Fetcher:
    """Reads chunks of the corpora of a run; its methods may be called from several threads."""

    def __init__(
        self, indexes: Mapping[str, Index], retry: Retry, cache: DiskCache | None = None
    ) -> None:
        self.counts: Counter[str] = Counter()  # bytes, chunks, retries, retries_REASON, cache_hits
        self._indexes, self._retry, self._cache = indexes, retry, cache
        self._places = {name: storage.connect(index.url) for name, index in indexes.items()}
        self._lock = threading.Lock()

    def read(self, corpus: str, number: int) -> bytes:
        """The verified bytes of a chunk; raises MissingClip("fetch" or "checksum") when they cannot
        be had.
        """
        chunk = self._indexes[corpus].chunk(number)
        if self._cache is not None:
            cached = self._cache.get(chunk)
            if cached is not None:
                self._count(cache_hits=1, chunks=1)
                return cached
        data = self._download(corpus, chunk)
        if self._cache is not None:
            self._cache.put(chunk, data)
        self._count(bytes=len(data), chunks=1)
        return data

    def _download(self, corpus: str, chunk: Chunk) -> bytes:
        filesystem, root = self._places[corpus]
        mismatches = 0

        def attempt(seconds_left: float) -> bytes:
            nonlocal mismatches
            data = storage.read_range(
                filesystem,
                f"{root}/{chunk.shard}",
                chunk.offset,
                chunk.offset + chunk.bytes,
                seconds_left,
            )
            if xxhash.xxh3_64_intdigest(data) != chunk.xxh3:
                mismatches += 1
                error = ChecksumError(
                    f"{corpus}/{chunk}: the bytes are not those of the index (read {mismatches} "
                    "times)"
                )
                raise Permanent(error) if mismatches >= MAX_CHECKSUM_TRIES else error
            return data

        try:
            return self._retry.call(
                attempt,
                on_retry=lambda error: self._count(
                    **{"retries": 1, f"retries_{reason_of(error)}": 1}
                ),
            )
        except ChecksumError as error:
            raise MissingClip(
                "checksum",
                f"{error}; the shard was changed after it was indexed: restore it, "
                "or index it again",
            ) from error
        except DeadlinePassed as error:
            reason = "checksum" if isinstance(error.__cause__, ChecksumError) else "fetch"
            raise MissingClip(reason, f"{corpus}/{chunk}: {error}") from error
        except OSError as error:
            raise MissingClip("fetch", f"{corpus}/{chunk}: {error}") from error

    def _count(self, **amounts: int) -> None:
        with self._lock:
            self.counts.update(amounts)


def reason_of(error: OSError) -> str:
    """Why a read is repeated, in one word: checksum, short, timeout, connection, refused."""
    if isinstance(error, ChecksumError):
        return "checksum"
    if error.__cause__ is None:
        return "short"  # fewer bytes than asked for: an error of no layer but ours
    name = type(error.__cause__).__name__
    # urllib3's, of a connection that ends within a body
    name = name.lower().replace("protocolerror", "connection")
    return next((word for word in ("timeout", "connection") if word in name), "refused")
