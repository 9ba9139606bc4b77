"""Features of videos as a table on disk: CSV with nothing but Python, Parquet where pyarrow is
installed.

    (video, [(frame, track, seconds)], scores and features n K+D)
        ──▶ rows video, frame, seconds, track, AU01_…, …, f0000, f0001, …

Rows are written as they come, to a temporary file that gets its name at the end; frames without
a face have no row.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from torch import Tensor

from ausl_dist.files import naming
from ausl_dist.packages import require
from ausl_dist.release.over_time import Row

SUFFIXES = (".csv", ".parquet")


def check_table(path: Path) -> None:
    """Raise ValueError where no table is written by this name, or its package is lacking."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the table is written as {' or '.join(SUFFIXES)}; name it so")
    if path.suffix == ".parquet":
        require("a table in Parquet")


class _Sink(Protocol):
    def write(self, video: str, rows: list[Row], values: Tensor) -> None: ...
    def close(self) -> None: ...


class TableWriter:
    """A table under construction; use it with `with`, an error inside leaves no file behind."""

    def __init__(self, path: Path, dim: int, scores: Sequence[str] = ()) -> None:
        """`scores` are the headings of the columns that stand before the `dim` features."""
        check_table(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._temporary = path, path.with_name(f".{path.name}.{os.getpid()}.tmp")
        names = [*scores, *(f"f{index:04d}" for index in range(dim))]
        self._sink: _Sink = (
            _Csv(self._temporary, names)
            if path.suffix == ".csv"
            else _Parquet(self._temporary, names)
        )
        self.rows = 0

    def write(self, video: str, rows: list[Row], values: Tensor) -> None:
        """Append rows (frame, track, seconds) and values [n, K + D] of a video: scores, then
        features.
        """
        with naming(self._path):
            self._sink.write(video, rows, values)
        self.rows += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with naming(self._path):
                self._sink.close()
            if kind is None:
                os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


class _Csv:
    def __init__(self, path: Path, names: list[str]) -> None:
        self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115 - closed in close()
        self._file.write(",".join(["video", "frame", "seconds", "track", *names]) + "\n")

    def write(self, video: str, rows: list[Row], values: Tensor) -> None:
        quoted = (
            '"' + video.replace('"', '""') + '"'
            if any(mark in video for mark in ',"\n\r')
            else video
        )
        for (frame, track, seconds), numbers in zip(rows, values.tolist(), strict=True):
            self._file.write(
                f"{quoted},{frame},{seconds:.4f},{track},"
                + ",".join(f"{value:.7g}" for value in numbers)
                + "\n"
            )

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, names: list[str]) -> None:
        import pyarrow
        import pyarrow.parquet

        self._arrow: Any = pyarrow
        columns = [
            ("video", pyarrow.string()),
            ("frame", pyarrow.int64()),
            ("seconds", pyarrow.float64()),
            ("track", pyarrow.int64()),
        ]
        self._schema = pyarrow.schema(
            [*columns, *((name, pyarrow.float32()) for name in names)]
        )
        self._writer: Any = pyarrow.parquet.ParquetWriter(path, self._schema)

    def write(self, video: str, rows: list[Row], values: Tensor) -> None:
        frames, tracks, seconds = zip(*rows, strict=True)
        arrays = [[video] * len(rows), frames, seconds, tracks, *values.numpy().T]
        self._writer.write_table(
            self._arrow.table(
                dict(zip(self._schema.names, arrays, strict=True)), schema=self._schema
            )
        )

    def close(self) -> None:
        self._writer.close()
