"""Rows of Parquet and Arrow files, read one page at a time, so that memory holds a video and a
page, however large the file is.

    table.parquet#video:0.17 ──▶ RowPlace ──read_cell──▶ the video's bytes, or its path
    open_table ──▶ Table.batches(group, columns) ──▶ record batches
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from ausl_dist.corpus.raw_tar import ReadAt
from ausl_dist.corpus.suffixes import TABLE_SUFFIXES
from ausl_dist.shards import storage

PAGE_BYTES = 1 << 20  # read at a time
MAX_THRIFT = 64 << 20  # bytes of a file's own description
_PLACE = re.compile(
    rf"(?P<address>.+(?:{'|'.join(map(re.escape, sorted(TABLE_SUFFIXES)))}))"
    r"#(?P<column>[^#:]+):(?P<group>\d{1,9})\.(?P<row>\d{1,12})",
    re.DOTALL | re.IGNORECASE,
)


class StoreFailed(Exception):
    """Bytes did not come, which is no damage of the table."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class RowPlace(NamedTuple):
    """Where in a table a video lies."""

    table: str
    column: str
    group: int  # row group of a Parquet file, record batch of an Arrow file
    row: int  # in that


def is_in_table(location: str) -> bool:
    return _PLACE.fullmatch(location) is not None


def place_of(location: str) -> RowPlace:
    match = _PLACE.fullmatch(location)
    assert match is not None, location
    column = unquote(match["column"])
    return RowPlace(match["address"], column, int(match["group"]), int(match["row"]))


class Table:
    """Rows of a file, group by group."""

    schema: Any
    groups: int

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Record batches of at most `rows` rows of one group, with these columns."""
        raise NotImplementedError

    def has_no_bytes(self, group: int, column: str) -> bool:
        """Whether the file says that no row of the group has the video itself."""
        return False


class ParquetTable(Table):
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


class ArrowTable(Table):
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


def open_table(location: str, read_at: ReadAt, size: int) -> Table:
    if location.lower().endswith(".parquet"):
        return ParquetTable(ReadAtFile(read_at, size))
    path = storage.local_path(location)
    if path is None:
        raise ValueError(
            f"{location}: Arrow files are read from a local disk; copy the folder, or write the "
            "data set with to_parquet"
        )
    return ArrowTable(path)


class _Cursor:
    """The table that was read last, where it was left: rows asked for in order cost one pass."""

    def __init__(self) -> None:
        self._where: tuple[str, str, int] | None = None
        self._next = 0
        self._rows: Iterator[Any] = iter(())

    def value(self, place: RowPlace, read_at: ReadAt, size: int) -> Any:
        where, was = (place.table, place.column, place.group), self._where
        self._where = None  # until the row is found: one that fails is begun anew
        if was != where or place.row < self._next:
            table = open_table(place.table, read_at, size)
            self._rows, self._next = table.batches(place.group, [place.column], 1), 0
        for batch in self._rows:
            self._next += 1
            if self._next == place.row + 1:
                self._where = where
                return batch.column(0)[0].as_py()
        raise ValueError(f"{place.table} has no row {place.row} in group {place.group}")


_CURSOR = _Cursor()


def read_cell(place: RowPlace, read_at: ReadAt, size: int) -> Any:
    """What a row of a table holds in the column of videos; ValueError where there is no such
    row.
    """
    return _CURSOR.value(place, read_at, size)


class ReadAtFile(io.RawIOBase):
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
            raise StoreFailed(error) from error
        self._at = end
        return data
