"""Parquet files and Hugging Face data sets of videos, read as sources without unpacking them.

    train-00000-of-00002.parquet (data-00000-of-00002.arrow, as save_to_disk writes them)
        video {bytes, path} | bytes | path or URL    ──▶ Video "sub/vid0.mp4", its place in the table
        speaker, emotion, caption, …                 ──▶ about: speaker, emotion, caption, …

Listing reads the small columns alone; `extract` brings one video to a local disk. Rows are read
one page at a time, so that memory holds a video and a page, however large the file is.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from ausl_dist.corpus.raw_tar import MAX_NOTE_CHARACTERS, MAX_NOTES, ReadAt
from ausl_dist.corpus.suffixes import TABLE_SUFFIXES, VIDEO_SUFFIXES
from ausl_dist.faces.decode import Unreadable
from ausl_dist.packages import require
from ausl_dist.shards import storage

PAGE_BYTES = 1 << 20  # read at a time
NOTE_ROWS = 64  # of the small columns, at a time
MAX_THRIFT = 64 << 20  # bytes of a file's own description
# What columns are called that hold videos, that say where a video lies, and that name it.
VIDEO_COLUMNS = ("video", "mp4", "webm", "mkv", "mov", "avi", "video_bytes", "bytes", "content")
PATH_COLUMNS = (
    *("path", "video_path", "file_path", "filepath", "file", "file_name", "filename"),
    *("url", "video_url"),
)
NAME_COLUMNS = ("__key__", "file_name", "filename", "video_id", "key", "name", "id")
_PLACE = re.compile(
    rf"(?P<address>.+(?:{'|'.join(map(re.escape, sorted(TABLE_SUFFIXES)))}))"
    r"#(?P<column>[^#:]+):(?P<group>\d{1,9})\.(?P<row>\d{1,12})",
    re.DOTALL | re.IGNORECASE,
)


class NoVideos(ValueError):
    """A table that has no column of videos."""


class _StoreFailed(Exception):
    """Bytes did not come, which is no damage of the table."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class Video:
    """One row of a table."""

    name: str  # what the row calls it, else its number
    location: str  # its place in the table, or the path or URL that the row names
    about: dict[str, str] = field(default_factory=dict)  # the plain columns: class, caption, …


class Place(NamedTuple):
    """Where in a table a video lies."""

    table: str
    column: str
    group: int  # row group of a Parquet file, record batch of an Arrow file
    row: int  # in that


def is_in_table(location: str) -> bool:
    return _PLACE.fullmatch(location) is not None


def place_of(location: str) -> Place:
    match = _PLACE.fullmatch(location)
    assert match is not None, location
    column = unquote(match["column"])
    return Place(match["address"], column, int(match["group"]), int(match["row"]))


def list_videos(
    location: str, read_at: ReadAt, size: int, column: str | None = None
) -> Iterator[Video]:
    """The videos of a table, in order, each with another name.

    `column` holds them; where it is None, the one that Hugging Face calls a Video or that is
    named as one. Raises NoVideos where that cannot be told, ValueError for what is no table.
    """
    require("a data set in Parquet or Arrow")
    with _told_apart(lambda error: ValueError(f"{location}: {error}")):
        table = _open(location, read_at, size)
        column = column_of_videos(table.schema, location, column)
        names: Counter[str] = Counter()
        for group in range(table.groups):
            for video in _group(table, location, group, column):
                names[video.name] += 1
                if names[video.name] > 1:
                    video.name += f"@{names[video.name]}"
                yield video


def extract(
    place: Place, read_at: ReadAt, size: int, folder: Path, on_bytes: Callable[[int], object]
) -> Path | str:
    """Write the video of a row into `folder`, or give the path or URL that the row names
    instead; Unreadable where the row holds neither.
    """
    with _told_apart(lambda error: Unreadable("damaged", f"{place.table}: {error}")):
        value = _CURSOR.value(place, read_at, size)
    data, path = _parts(value)
    if data is None:
        if not path:
            raise Unreadable("unreadable", f"row {place.row} holds no video")
        return _address(place.table, path)
    suffix = PurePosixPath(path or "").suffix.lower()
    copy = folder / f"source{suffix if suffix in VIDEO_SUFFIXES else ''}"
    copy.write_bytes(data)
    on_bytes(len(data))
    return copy


@contextmanager
def _told_apart(damage: Callable[[Exception], Exception]) -> Iterator[None]:
    """What Arrow says of a foreign file becomes `damage`; a store that fails stays an OSError."""
    from pyarrow import ArrowException

    try:
        yield
    except _StoreFailed as error:
        raise error.error from None
    except (NoVideos, FileNotFoundError):
        raise
    except (ArrowException, ValueError, OSError) as error:
        raise damage(error) from error


def column_of_videos(schema: Any, location: str, wanted: str | None = None) -> str:
    """Which column of an Arrow schema holds the videos."""
    types = {item.name: item.type for item in schema}
    if wanted is not None:
        if wanted not in types or not (_holds_bytes(types[wanted]) or _is_text(types[wanted])):
            raise NoVideos(
                f"{location} has no column {wanted!r} of videos; its columns are "
                f"{', '.join(types)[:300]}"
            )
        return wanted
    features = _features(schema)
    declared = [name for name in types if features.get(name, {}).get("_type") == "Video"]
    others = [
        name
        for name in types
        if _holds_bytes(types[name])
        and features.get(name, {}).get("_type") not in ("Image", "Audio")
    ]
    for found in (
        declared,
        [name for name in VIDEO_COLUMNS if name in others],
        others,
        [name for name in PATH_COLUMNS if name in types and _is_text(types[name])],
    ):
        if len(found) == 1 or (found and found is not declared and found is not others):
            return found[0]
    raise NoVideos(
        f"{location}: which column holds the videos? Give --video-column; its columns are "
        f"{', '.join(types)[:300]}"
    )


def _group(table: "_Table", location: str, group: int, column: str) -> Iterator[Video]:
    """The rows of one group."""
    features, row = _features(table.schema), 0
    plain = [item.name for item in table.schema if item.name != column and _is_plain(item.type)]
    inside = _holds_bytes(table.schema.field(column).type) and not table.has_no_bytes(
        group, column
    )
    where = f"{location}#{quote(column, safe='')}"
    for batch in table.batches(group, [*plain, *_path_of(table.schema, column)], NOTE_ROWS):
        for values in batch.to_pylist():
            _, path = _parts(values.pop(column, None))
            about = dict(_notes(values, features))
            place = f"{where}:{group}.{row}"
            if not inside and path:
                place = _address(location, path)
                if "://" not in place and not Path(place).exists():
                    raise FileNotFoundError(f"{location} names {place}, which does not exist")
            yield Video(_name(path, values, f"{group:04d}-{row:06d}"), place, about)
            row += 1


def _path_of(schema: Any, column: str) -> list[str]:
    """What to read of the column of videos: where it names its videos, that alone."""
    kind = schema.field(column).type
    if _is_text(kind):
        return [column]
    return [f"{column}.path"] if _has_field(kind, "path") else []


def _name(path: str | None, values: dict[str, Any], otherwise: str) -> str:
    for name in (path, *(values.get(column) for column in NAME_COLUMNS)):
        if name is not None and (text := str(name).strip()):
            text = text.split("://")[-1].replace("\\", "/").lstrip("/")
            return text or otherwise
    return otherwise


def _address(table: str, path: str) -> str:
    """A path that a row names, seen from where its table lies."""
    if "://" in path or Path(path).is_absolute():
        return path
    if "://" in table:
        return storage.join(table.rpartition("/")[0], path)
    return str(Path(table).parent / path)


def _notes(values: dict[str, Any], features: dict[str, Any]) -> Iterator[tuple[str, str]]:
    count = 0
    for name, value in values.items():
        names = features.get(name, {}).get("names")
        if isinstance(value, int) and isinstance(names, list) and 0 <= value < len(names):
            value = names[value]  # a ClassLabel is a number in the file
        for key, item in value.items() if isinstance(value, dict) else ((name, value),):
            if isinstance(item, str | int | float | bool) and count < MAX_NOTES:
                count += 1
                yield key[:64], str(item)[:MAX_NOTE_CHARACTERS]


def _parts(value: Any) -> tuple[bytes | None, str | None]:
    """(bytes or None, path or None) of a cell of the column of videos."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        return data if isinstance(data, bytes) else None, str(path) if path else None
    return (value, None) if isinstance(value, bytes) else (None, value or None)


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's `datasets` wrote of the columns, where it did."""
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {name: value for name, value in said.items() if isinstance(value, dict)}


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return _has_field(kind, "bytes") and _holds_bytes(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _has_field(kind: Any, name: str) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and kind.get_field_index(name) >= 0


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_plain(kind: Any) -> bool:
    """Whether a column may say something about a video: text, a number, or a few of them."""
    from pyarrow import types

    if types.is_struct(kind):
        return all(_is_plain(kind.field(at).type) for at in range(kind.num_fields))
    return _is_text(kind) or bool(
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    )


class _Table:
    """Rows of a file, group by group."""

    schema: Any
    groups: int

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Record batches of at most `rows` rows of one group, with these columns."""
        raise NotImplementedError

    def has_no_bytes(self, group: int, column: str) -> bool:
        """Whether the file says that no row of the group has the video itself."""
        return False


class _Parquet(_Table):
    def __init__(self, file: io.RawIOBase) -> None:
        from pyarrow import parquet

        # A buffered stream reads page by page; without it a row group is read whole.
        self._file = parquet.ParquetFile(
            file,
            buffer_size=PAGE_BYTES,
            pre_buffer=False,
            thrift_string_size_limit=MAX_THRIFT,
            thrift_container_size_limit=MAX_THRIFT,
        )
        self.schema, self.groups = self._file.schema_arrow, self._file.num_row_groups

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        yield from self._file.iter_batches(
            batch_size=rows, row_groups=[group], columns=list(columns), use_threads=False
        )

    def has_no_bytes(self, group: int, column: str) -> bool:
        about = self._file.metadata.row_group(group)
        leaf = f"{column}.bytes"
        for number in range(about.num_columns):
            chunk = about.column(number)
            if chunk.path_in_schema == leaf and chunk.statistics is not None:
                return bool(chunk.statistics.null_count == about.num_rows)
        return False


class _Arrow(_Table):
    """The stream that `datasets.save_to_disk` writes, on a local disk: it is mapped, not read."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        self._path = path
        with self._stream() as stream:
            self.schema = stream.schema
            self.groups = sum(1 for _ in stream)
        self._pyarrow = pyarrow

    def _stream(self) -> Any:
        import pyarrow

        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(self._path)))

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        with self._stream() as stream:
            for _ in range(group):
                stream.read_next_batch()
            batch = stream.read_next_batch()
        arrays, names = [], []
        for name in columns:
            top, _, leaf = (
                name.partition(".") if name not in batch.schema.names else (name, "", "")
            )
            values = batch.column(top)
            arrays.append(
                self._pyarrow.StructArray.from_arrays([values.field(leaf)], [leaf])
                if leaf
                else values
            )
            names.append(top)
        if not arrays:
            arrays, names = [self._pyarrow.nulls(batch.num_rows)], [""]
        chosen = self._pyarrow.RecordBatch.from_arrays(arrays, names)
        chosen.validate(full=True)  # offsets of a foreign file may point anywhere
        for start in range(0, chosen.num_rows, rows):
            yield chosen.slice(start, rows)


def _open(location: str, read_at: ReadAt, size: int) -> _Table:
    if location.lower().endswith(".parquet"):
        return _Parquet(_At(read_at, size))
    path = storage.local_path(location)
    if path is None:
        raise ValueError(
            f"{location}: Arrow files are read from a local disk; copy the folder, or write the "
            "data set with to_parquet"
        )
    return _Arrow(path)


class _Cursor:
    """The table that was read last, where it was left: rows asked for in order cost one pass."""

    def __init__(self) -> None:
        self._where: tuple[str, str, int] | None = None
        self._next = 0
        self._rows: Iterator[Any] = iter(())

    def value(self, place: Place, read_at: ReadAt, size: int) -> Any:
        where, was = (place.table, place.column, place.group), self._where
        self._where = None  # until the row is found: one that fails is begun anew
        if was != where or place.row < self._next:
            table = _open(place.table, read_at, size)
            self._rows, self._next = table.batches(place.group, [place.column], 1), 0
        for batch in self._rows:
            self._next += 1
            if self._next == place.row + 1:
                self._where = where
                return batch.column(0)[0].as_py()
        raise ValueError(f"{place.table} has no row {place.row} in group {place.group}")


_CURSOR = _Cursor()


class _At(io.RawIOBase):
    """A file that is read at any place, as Arrow wants to be given it."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        super().__init__()
        self._read_at, self._size, self._at = read_at, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._at + count, self._size)
        if end <= self._at:
            return b""
        try:
            data = self._read_at(self._at, end)
        except OSError as error:
            raise _StoreFailed(error) from error
        self._at = end
        return data
