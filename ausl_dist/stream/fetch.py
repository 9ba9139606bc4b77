"""Chunks from storage, verified and unpacked: the clips that the index promised, or a reason why
they cannot be had.

    chunk ──▶ disk cache? ──▶ ranged read, until a deadline ──▶ checksum ──▶ bytes ──▶ clips

A chunk of which clips were taken down is read from its new place (removed.py).

A flipped bit and a body cut short are silent in every client, so nothing counts as read before
its checksum is right. What is unpacked has passed it: `unpack` guards against a corpus that was
built wrong or with intent, not against transport.
"""

import io
import math
import threading
from collections import Counter
from collections.abc import Mapping

import xxhash

from ausl_dist.shards.clip import KEY_PATTERN, REQUIRED_SUFFIXES, SUFFIXES
from ausl_dist.shards.index import MAX_CHECKSUM_TRIES, Chunk, Index
from ausl_dist.shards.ranges import Way, open_ranges
from ausl_dist.shards.reader import StoredClip, clips_in
from ausl_dist.shards.removals import Moved
from ausl_dist.shards.retry import DeadlinePassed, Permanent, Retry
from ausl_dist.stream.cache import DiskCache
from ausl_dist.stream.ledger import Clips, MissingClip
from ausl_dist.stream.removed import TakenDown, removed_clip


class ChecksumError(OSError):
    """Bytes that are not those the index was made from."""


class Fetcher:
    """Reads chunks of the corpora of a run; its methods may be called from several threads."""

    def __init__(
        self,
        indexes: Mapping[str, Index],
        retry: Retry,
        cache: DiskCache | None = None,
        way: Way = "botocore",
        taken_down: TakenDown | None = None,
    ) -> None:
        self._taken_down = taken_down or TakenDown(indexes, retry)
        self._indexes, self._retry, self._cache = indexes, retry, cache
        self._ranges = {name: open_ranges(index.url, way) for name, index in indexes.items()}
        self._counts: Counter[str] = Counter()
        self._last_success = dict.fromkeys(indexes, -math.inf)  # by the clock of `retry`
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """Until now: bytes, chunks, retries, retries_REASON, cache_hits, cache_failures."""
        with self._lock:
            counts = dict(self._counts)
        if self._cache is not None and self._cache.failure is not None:
            counts["cache_failures"] = 1
        return counts

    def clips(self, corpus: str, number: int, asked: float | None = None) -> Clips:
        """The clips of a chunk; raises MissingClip when it cannot be had, or is not what the
        index says. See `read` for `asked`.
        """
        clips = int(self._indexes[corpus].chunks["clips"][number])
        while True:
            moved = self._taken_down.of(corpus, number)
            try:
                if moved is None:
                    return unpack(self.read(corpus, number, asked), clips)
                data = self._verified(corpus, moved.chunk(number), asked) if moved.kept else b""
                return unpack_moved(data, moved, clips)
            except MissingClip as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                self._taken_down.look()  # the shard is gone: was it taken down just now?
                if self._taken_down.of(corpus, number) == moved:
                    raise

    def read(self, corpus: str, number: int, asked: float | None = None) -> bytes:
        """The verified bytes of a chunk; raises MissingClip("fetch" or "checksum") when they
        cannot be had.

        `asked` is when the chunk was asked for, if it has waited for a thread. That wait counts
        as a failing read for as long as no other chunk of the corpus comes, so that a store
        which is down costs one deadline, and not one for each that waits.
        """
        return self._verified(corpus, self._indexes[corpus].chunk(number), asked)

    def _verified(self, corpus: str, chunk: Chunk, asked: float | None) -> bytes:
        if self._cache is not None:
            cached = self._cache.get(chunk)
            if cached is not None:
                self._count(cache_hits=1, chunks=1)
                return cached
        since = None if asked is None else max(asked, self._last_success[corpus])
        data = self._download(corpus, chunk, since)
        self._last_success[corpus] = self._retry.clock()
        if self._cache is not None:
            self._cache.put(chunk, data)
        self._count(bytes=len(data), chunks=1)
        return data

    def _download(self, corpus: str, chunk: Chunk, since: float | None) -> bytes:
        mismatches = 0

        def attempt(seconds_left: float) -> bytes:
            nonlocal mismatches
            data = self._ranges[corpus](
                chunk.shard, chunk.offset, chunk.offset + chunk.bytes, seconds_left
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
                since=since,
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
            self._counts.update(amounts)


def unpack(data: bytes, clips: int) -> Clips:
    """The clips of a chunk, in order; a clip that cannot be used stands as a MissingClip in its
    place, and members of unknown type are left out.

    Raises MissingClip when the chunk as a whole is not what the index says.
    """
    try:
        found = [_usable(clip) for clip in clips_in(io.BytesIO(data))]
    except ValueError as error:
        raise MissingClip("unpack", f"chunk is no run of clips: {error}") from error
    if len(found) != clips:
        raise MissingClip("unpack", f"chunk holds {len(found)} clips, the index says {clips}")
    return found


def _usable(clip: StoredClip) -> StoredClip | MissingClip:
    if not KEY_PATTERN.fullmatch(clip.key):
        return MissingClip(
            "unpack",
            f"clip key {clip.key[:200]!r} has characters other than letters, digits, '-' and '_'",
        )
    members = {suffix: clip.members[suffix] for suffix in SUFFIXES if suffix in clip.members}
    for suffix in REQUIRED_SUFFIXES:
        if suffix not in members:
            return MissingClip("unpack", f"clip {clip.key} has no {clip.key}.{suffix}")
    return StoredClip(clip.key, members)


def unpack_moved(data: bytes, moved: Moved, clips: int) -> Clips:
    """The clips of a chunk that moved, from what is left of it, in their old places."""
    left = iter(unpack(data, len(moved.kept)) if moved.kept else [])
    return [next(left) if clip in moved.kept else removed_clip() for clip in range(clips)]


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
