"""The index of a corpus: what a reader must know of its shards without opening them.

    shard-000000.tar ──scan_shard──▶ ShardEntry ──write_index──▶ index.json, index.chunks.npy

    index.json        sizes, checksums and clip counts of the shards
    index.chunks.npy  one row of 24 bytes for each chunk

A chunk is a run of whole clips of about 8 MiB: the unit that is fetched, verified and shuffled.
A corpus made by any WebDataset writer gets its index from one pass of `scan_shard` over each
tar. `index.json` names the checksum of the chunk table and is written last, so a reader never
pairs two states.
"""

import contextlib
import hashlib
import io
import math
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ausl_dist.shards import storage
from ausl_dist.shards.clip import (
    SUFFIXES,
    array_from_bytes,
)
from ausl_dist.shards.retry import Retry
from ausl_dist.shards.scan import ShardScan
from ausl_dist.shards.sealed import DamagedError, sealed_json, unsealed_json
from ausl_dist.shards.tar import BLOCK_BYTES, MAX_MEMBER_BYTES, hashing, read_members

INDEX_NAME = "index.json"
CHUNKS_NAME = "index.chunks.npy"
INDEX_FORMAT = 1
CHUNK_BYTES = 8 << 20
MAX_INDEX_BYTES = 256 << 20
MAX_CHUNKS_BYTES = 64 << 30
MAX_CHUNK_BYTES = CHUNK_BYTES + len(SUFFIXES) * (MAX_MEMBER_BYTES + (1 << 20))
SHARD_NAME_PATTERN = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.\-]{0,254}")
MAX_COUNT = 1 << 62  # of bytes, clips or frames: sums of a few stay whole numbers of 64 bits
ROWS_AT_ONCE = 1 << 18  # keeps checks of a huge table small in memory

# bits flip on the way now and then; bytes that are wrong every time are wrong where they lie
MAX_CHECKSUM_TRIES = 4

# What NumPy raises for a malformed .npy file: its header is parsed as Python, and by a
# tokenizer for old files where that fails.
NPY_ERRORS = (
    ValueError,
    KeyError,
    SyntaxError,
    TypeError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
    EOFError,
)

# 24 bytes a row, so that a corpus of a billion clips has a table of 150 MB. Tars are made of
# blocks of 512 bytes, so offsets count those.
CHUNK_DTYPE = np.dtype(
    [
        ("xxh3", "<u8"),
        ("shard", "<u4"),
        ("offset_blocks", "<u4"),
        ("bytes", "<u4"),
        ("clips", "<u4"),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A shard's line in index.json.

    Slots: a corpus of a billion clips has a hundred thousand of these.
    """

    name: str
    bytes: int
    sha256: str
    clips: int
    frames: int
    min_frames: int  # of its shortest clip


_ROW_TYPES = {
    "name": str,
    "bytes": int,
    "sha256": str,
    "clips": int,
    "frames": int,
    "min_frames": int,
}


@dataclass(frozen=True, eq=False)
class ShardEntry(ShardRow):
    """One shard as a scan found it."""

    fps: float
    chunks: NDArray[np.void]  # CHUNK_DTYPE; the column `shard` is set when the index is written


@dataclass(frozen=True)
class Chunk:
    """Where one chunk lies and how to know it."""

    number: int  # row in the table
    shard: str
    offset: int  # bytes from the start of the shard
    bytes: int
    clips: int
    xxh3: int  # XXH3-64 of these bytes

    def __str__(self) -> str:
        return f"{self.shard} bytes {self.offset}-{self.offset + self.bytes - 1}"


def scan_shard(
    path_or_file: Path | str | IO[bytes], name: str, *, chunk_bytes: int = CHUNK_BYTES
) -> ShardEntry:
    """Read a shard once, from start to end, and describe it; memory is bounded by one member.

    Raises ValueError, naming shard and clip, for anything a reader of the corpus would stumble
    over.
    """
    if not chunk_bytes >= BLOCK_BYTES:
        raise ValueError(f"chunk_bytes must be at least {BLOCK_BYTES}, not {chunk_bytes}")
    with contextlib.ExitStack() as stack:
        if isinstance(path_or_file, Path | str):
            path_or_file = stack.enter_context(open(path_or_file, "rb"))
        try:
            return _scan(path_or_file, name, chunk_bytes)
        except ValueError as error:
            raise ValueError(f"shard {name}: {error}") from error


def write_index(url: str, entries: Iterable[ShardEntry]) -> None:
    """Write index.chunks.npy and then index.json at `url`, shards in the order of their names.

    Raises ValueError for no shards, names that repeat, or shards of different frame rates.
    """
    entries = sorted(entries, key=lambda entry: entry.name)
    if not entries:
        raise ValueError(f"{url}: an index needs at least one shard")
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError(f"{url}: shard names must be distinct")
    rates = {entry.fps for entry in entries}
    if len(rates) > 1:
        raise ValueError(
            f"{url}: shards have different frame rates {sorted(rates)}; a corpus has one, "
            "mix corpora in the data settings"
        )
    table = np.concatenate([entry.chunks for entry in entries])
    table["shard"] = np.repeat(
        np.arange(len(entries), dtype=np.uint32), [len(entry.chunks) for entry in entries]
    )
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    summary = {
        "format": INDEX_FORMAT,
        "clips": sum(entry.clips for entry in entries),
        "frames": sum(entry.frames for entry in entries),
        "min_frames": min(entry.min_frames for entry in entries),
        "fps": entries[0].fps,
        "chunks": len(table),
        "chunks_xxh3_128": _table_checksum(table),
        "shards": [{name: getattr(entry, name) for name in _ROW_TYPES} for entry in entries],
    }
    storage.write_bytes(storage.join(url, CHUNKS_NAME), buffer.getvalue())
    storage.write_bytes(storage.join(url, INDEX_NAME), sealed_json(summary))


@dataclass(frozen=True, eq=False)
class Index:
    """The index of one corpus, checked.

    The chunk table of a local corpus stays on disk (memory-mapped).
    """

    url: str
    shards: tuple[ShardRow, ...]
    chunks: NDArray[np.void]  # CHUNK_DTYPE
    num_clips: int
    num_frames: int
    min_frames: int
    fps: float
    digest: str  # changes with every byte of the corpus

    @classmethod
    def load(cls, url: str, retry: Retry | None = None) -> "Index":
        """Read and check the index at `url`; ValueError says what is wrong with it,
        FileNotFoundError how to make one.

        A wrong checksum is read again as any failing read is: a bit may have flipped on the
        way, or the index been written anew between its two files.
        """
        url, retry = url.rstrip("/"), retry or Retry()
        tries = 1 if storage.local_path(url) is not None else MAX_CHECKSUM_TRIES
        try:
            while True:
                tries -= 1
                try:
                    return cls._load(url, retry)
                except DamagedError:
                    if not tries:
                        raise
                retry.sleep(retry.first_wait_seconds)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}; a folder of shards gets its index by: python -m tools.index_shards {url}"
            ) from error
        except (KeyError, TypeError, RecursionError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{storage.join(url, INDEX_NAME)} cannot be used: {error!r}"
            ) from error

    @classmethod
    def _load(cls, url: str, retry: Retry) -> "Index":
        summary, digest = _read_summary(url, retry)
        index = cls(
            url=url,
            shards=tuple(summary["shards"]),
            chunks=_load_table(url, summary["chunks"], retry),
            num_clips=summary["clips"],
            num_frames=summary["frames"],
            min_frames=summary["min_frames"],
            fps=float(summary["fps"]),
            digest=digest,
        )
        _check(index, summary["chunks_xxh3_128"])
        return index

    def chunk(self, number: int) -> Chunk:
        row = self.chunks[number]
        name = self.shards[row["shard"]].name
        return Chunk(
            number,
            name,
            int(row["offset_blocks"]) * BLOCK_BYTES,
            int(row["bytes"]),
            int(row["clips"]),
            int(row["xxh3"]),
        )


def _scan(file: IO[bytes], name: str, chunk_bytes: int) -> ShardEntry:
    sha256, size = hashlib.sha256(), [0]
    scan = ShardScan(chunk_bytes)

    def count(data: bytes) -> None:
        size[0] += len(data)

    for member in read_members(hashing(file, sha256.update, count)):
        scan.add(member)
    scan.finish()
    assert scan.fps is not None
    return ShardEntry(
        name=name,
        bytes=size[0],
        sha256=sha256.hexdigest(),
        clips=scan.clips,
        frames=scan.frames,
        min_frames=scan.min_frames,
        fps=scan.fps,
        chunks=np.array(scan.chunks, CHUNK_DTYPE),
    )


def _read_summary(url: str, retry: Retry) -> tuple[dict[str, Any], str]:
    """index.json with its shards as rows, and its SHA-256."""
    text = storage.read_bytes(storage.join(url, INDEX_NAME), MAX_INDEX_BYTES, retry)
    summary = unsealed_json(text, _shard_row)
    if summary["format"] != INDEX_FORMAT:
        raise ValueError(
            f"has format {summary['format']!r}, this version reads {INDEX_FORMAT}; "
            "index the shards again"
        )
    if not all(isinstance(row, ShardRow) for row in summary["shards"]):
        raise ValueError("has a shard without all of its columns")
    return summary, hashlib.sha256(text).hexdigest()


def _shard_row(values: dict[str, Any]) -> ShardRow | dict[str, Any]:
    """Called by the JSON parser for each object: rows become small at once, not after all of
    them have been read.
    """
    if values.keys() != _ROW_TYPES.keys():
        return values
    fits = all(
        type(value) is _ROW_TYPES[name]
        and (not isinstance(value, int) or 0 <= value <= MAX_COUNT)
        for name, value in values.items()
    )
    if not fits:
        raise ValueError(f"has a malformed row of a shard: {str(values)[:200]}")
    return ShardRow(**values)


def _load_table(url: str, rows: int, retry: Retry) -> NDArray[np.void]:
    """The chunk table, memory-mapped where it lies on this machine; ValueError when it is no
    table of `rows` rows.
    """
    address = storage.join(url, CHUNKS_NAME)
    path = storage.local_path(address)
    if path is None:
        data = storage.read_bytes(address, MAX_CHUNKS_BYTES, retry)
        try:
            table = array_from_bytes(data, CHUNK_DTYPE, (rows,))  # type: ignore[arg-type]
        except ValueError as error:
            raise DamagedError(f"{CHUNKS_NAME} is no chunk table ({error})") from error
    else:
        try:
            table = np.load(path, mmap_mode="r", allow_pickle=False)
        except NPY_ERRORS as error:
            raise ValueError(f"{path} is no chunk table ({error})") from error
    if table.dtype != CHUNK_DTYPE or table.shape != (rows,) or rows == 0:
        raise ValueError(
            f"{CHUNKS_NAME} is a table {table.dtype} of shape {table.shape}, "
            f"{rows} chunks were promised"
        )
    return table


def _check(index: Index, checksum: str) -> None:
    """Every later read relies on this: rows point into shards, and counts add up."""
    if _table_checksum(index.chunks) != checksum:
        raise DamagedError(
            f"{CHUNKS_NAME} does not belong to this index.json (checksum differs); "
            "index the shards again"
        )
    counts = (index.num_clips, index.num_frames, index.min_frames)
    if not all(type(count) is int and 1 <= count <= MAX_COUNT for count in counts):
        raise ValueError(f"clips, frames, min_frames {str(counts)[:80]} are impossible")
    names = [shard.name for shard in index.shards]
    if len(set(names)) != len(names) or not all(
        SHARD_NAME_PATTERN.fullmatch(name) for name in names
    ):
        raise ValueError(
            "shard names must be distinct file names of letters, digits, '.', '-' and '_'"
        )
    if not (math.isfinite(index.fps) and index.fps > 0):
        raise ValueError(f"fps {index.fps!r} is impossible")
    sizes = np.array([shard.bytes for shard in index.shards], np.int64)
    clips = 0
    for start in range(0, len(index.chunks), ROWS_AT_ONCE):
        rows = index.chunks[start : start + ROWS_AT_ONCE]
        if (
            int(rows["shard"].max()) >= len(sizes)
            or int(rows["clips"].min()) < 1
            or int(rows["bytes"].min()) < 1
        ):
            raise ValueError(f"{CHUNKS_NAME} has a row that points nowhere")
        if np.any(
            rows["offset_blocks"].astype(np.int64) * BLOCK_BYTES + rows["bytes"]
            > sizes[rows["shard"]]
        ):
            raise ValueError(
                f"{CHUNKS_NAME} has a row that reaches behind the end of its shard"
            )
        if int(rows["bytes"].max()) > MAX_CHUNK_BYTES:
            raise ValueError(
                f"{CHUNKS_NAME} has a chunk of {int(rows['bytes'].max())} bytes, "
                f"at most {MAX_CHUNK_BYTES} are read at once"
            )
        clips += int(rows["clips"].sum(dtype=np.int64))
    if clips != index.num_clips:
        raise ValueError(
            f"{CHUNKS_NAME} holds {clips} clips, index.json says {index.num_clips}"
        )


def _table_checksum(table: NDArray[np.void]) -> str:
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(table).view(np.uint8).data)
