"""Chunks kept on local disk, shared by the ranks of a node: what was fetched in one epoch is
not fetched in the next.

A chunk's file is named by its checksum and size, so it needs no bookkeeping, no lock between
ranks, and is right for any corpus that holds the same bytes. Files appear whole or not at all;
each is verified when it is read. The least recently used go first.

A disk that is full or fails ends the cache and not the run: what it would have saved is read
from storage, with a warning and a count.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import xxhash

from ausl_dist.files import write_atomically
from ausl_dist.shards.index import Chunk

log = logging.getLogger(__name__)

SUFFIX = ".chunk"
ORPHAN_SECONDS = 3600
ROOM_SHARE = 0.9  # after a clearing: not every new chunk must look through the folder again


class DiskCache:
    """At most about `max_bytes` of chunks under `folder`; several processes may use one folder."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.failure: str | None = None  # why it was given up
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._written = 0  # by this process since it last looked at the folder
        self._room = 0
        with self._or_give_up():
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, chunk: Chunk) -> bytes | None:
        """The verified bytes of the chunk, or None; a damaged file is deleted."""
        if self.failure is not None:
            return None
        with self._or_give_up():
            return self._read(chunk)
        return None

    def put(self, chunk: Chunk, data: bytes) -> None:
        """Keep the bytes of the chunk, at the cost of the least recently used ones."""
        if self.failure is not None:
            return
        with self._or_give_up():
            with self._lock:
                self._written += len(data)
                if self._written > self._room:
                    self._make_room(len(data))
            write_atomically(self._path(chunk), data)

    def forget(self, num_bytes: int, xxh3: int) -> None:
        """Delete the chunk of this size and checksum; it is not to be kept any longer."""
        with self._or_give_up():
            self._named(num_bytes, xxh3).unlink(missing_ok=True)

    def _read(self, chunk: Chunk) -> bytes | None:
        path = self._path(chunk)
        try:
            with open(path, "rb") as file:
                data = file.read(chunk.bytes + 1)
        except FileNotFoundError:
            return None
        if len(data) != chunk.bytes or xxhash.xxh3_64_intdigest(data) != chunk.xxh3:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):  # another rank may have cleared it away
            os.utime(path)
        return data

    @contextlib.contextmanager
    def _or_give_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.failure is None:
                self.failure = str(error)
                log.warning(
                    "the disk cache %s is given up, chunks are read from storage from now on: %s; "
                    "free space on its disk, lower data.cache_gib, or set another data.cache_folder",
                    self._folder,
                    error,
                )

    def _path(self, chunk: Chunk) -> Path:
        return self._named(chunk.bytes, chunk.xxh3)

    def _named(self, num_bytes: int, xxh3: int) -> Path:
        return self._folder / f"{xxh3:016x}-{num_bytes}{SUFFIX}"

    def _make_room(self, needed: int) -> None:
        files = []
        for orphan in self._folder.glob(f".*{SUFFIX}.*.tmp"):  # of a writer that was killed
            with contextlib.suppress(FileNotFoundError):
                if time.time() - orphan.stat().st_mtime > ORPHAN_SECONDS:
                    orphan.unlink()
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files) + needed
        if total > self._max_bytes:
            for _, size, path in sorted(files):
                if total <= self._max_bytes * ROOM_SHARE:
                    break
                path.unlink(missing_ok=True)
                total -= size
        # other ranks write as well
        self._written, self._room = (
            needed,
            max(self._max_bytes - total, 0) // 8,
        )
