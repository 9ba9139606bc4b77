"""Per-frame action-unit labels from tables, for the frames that a clip shows.

    --labels TABLE      source,frame,AU1,AU2,…   a row for each labelled frame of each source
    --labels FOLDER     F001/T1.csv for the source F001/T1.mp4, with frame,AU1,AU2,… or without a
                        column for the frame: row k labels frame k (Aff-Wild2)

        tables + names of the sources ──▶ LabelTables ──▶ Labels of a source ──▶ rows of its frames

Columns are described in `label_table.py`; how a table finds its source in `names.py`. Frames
are numbered from 0 in the source's own frame rate; `first_frame` says what a table calls the
first one (DISFA: 1), and has to be said where the images of a folder count from 1. Values
are intensities 0 to 5 or occurrences 0 and 1; an empty field, -1, 9 (BP4D) or 999 (EmotioNet)
is unknown, as is every frame without a row. Where a table has both sides of a unit but not the
unit itself, this is added: the stronger side. `thinned` makes a random share of the labelled
frames all there is.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.label_table import (
    MAX_TABLE_BYTES,
    UNIT_COLUMN,
    UNKNOWN,
    Columns,
    Rows,
    read_columns,
    read_table,
)
from ausl_dist.corpus.names import Names
from ausl_dist.corpus.settings import LabelSettings
from ausl_dist.files import sha256_of
from ausl_dist.tables import TableError, has_system_part, read_rows
from ausl_dist.units import with_both, without_both

TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".txt"))
# frames beyond the end that a table may label: players and codecs count a few more or fewer
MAX_BEYOND, SPARE_FRAMES = 1.25, 25
MAX_SHOWN = 3  # names in a message
MAX_REMEMBERED = 1 << 16  # names that are no source

LabelError = TableError  # a table that cannot be read: a build stops rather than lose labels


@dataclass(frozen=True)
class Labels:
    """The labels of one source."""

    units: tuple[int, ...]  # FACS numbers of the columns
    frames: NDArray[np.int64]  # N, increasing
    values: NDArray[np.int8]  # N K
    table: str = ""  # where they stand
    assumed_first_frame: bool = False  # nobody said what the first frame is called

    def rows(self, source_frames: Sequence[int]) -> NDArray[np.int8]:
        """int8 [T, K] for these source frames; UNKNOWN where there is no row."""
        wanted = np.asarray(source_frames, np.int64)
        result = np.full((len(wanted), len(self.units)), UNKNOWN, np.int8)
        if len(self.frames):
            at = np.minimum(np.searchsorted(self.frames, wanted), len(self.frames) - 1)
            found = self.frames[at] == wanted
            result[found] = self.values[at[found]]
        return result

    def check(self, source: str, source_frames: int) -> None:
        """Raise LabelError when these cannot be the labels of a source of so many frames."""
        if not len(self.frames) or not source_frames:
            return
        first, last = int(self.frames[0]), int(self.frames[-1])
        if first >= source_frames:
            raise LabelError(
                f"{self.table} labels the frames {first} to {last} of {source}, which has "
                f"{source_frames}: not one is labelled"
            )
        if last >= MAX_BEYOND * source_frames + SPARE_FRAMES:
            raise LabelError(
                f"{self.table} labels frames up to {last} of {source}, which has {source_frames}: "
                "it is of another video or another frame rate, or the video is cut short"
            )
        if self.assumed_first_frame and first == 1 and last == source_frames:
            raise LabelError(
                f"{self.table} labels the frames 1 to {last} of {source}, which has 0 to "
                f"{source_frames - 1}: it counts from 1; say so with --first-frame 1"
            )

    def check_images(self, source: str, first_image: int) -> None:
        """Raise LabelError where nobody has said whether a folder's images, the first of which
        has this number, are frames from 0 or by their own numbers.
        """
        if self.assumed_first_frame and first_image > 0 and len(self.frames) and self.frames[0]:
            raise LabelError(
                f"{self.table} labels the frames from {int(self.frames[0])} on of {source}, whose "
                f"images count from {first_image}: where frame 1 is image 1, say so with "
                "--first-frame 1; where it is the second image, with --first-frame 0"
            )


def thinned(labels: Labels, source: str, settings: LabelSettings) -> Labels:
    """`settings.share` of a source's labelled frames: which ones follows from seed and source
    name alone.
    """
    if settings.share == 1:
        return labels
    seed = hashlib.sha256(f"{settings.seed}\n{source}".encode()).digest()
    drawn = np.random.default_rng(np.frombuffer(seed, np.uint32)).random(len(labels.frames))
    kept = drawn < settings.share
    return Labels(labels.units, labels.frames[kept], labels.values[kept], labels.table)


@dataclass(frozen=True)
class Match:
    """Which sources have labels, and which tables or rows have no source."""

    labelled: int
    sources: int
    unmet: int
    examples: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        text = f"labels for {self.labelled} of {self.sources} sources"
        if self.unmet:
            names = ", ".join(self.examples) + (
                ", …" if self.unmet > len(self.examples) else ""
            )
            text += f"; {self.unmet} names in the tables are no source of this build: {names}"
        return text


class LabelTables:
    """Labels by source: which table is whose is decided here, before any video is read.

    Every source of a corpus is labelled with the same units, known or not. Raises LabelError
    for a name that means two sources, two tables of one source, and tables that meet no source
    at all.
    """

    def __init__(
        self, path: Path, sources: Iterable[str], *, first_frame: int | None = None
    ) -> None:
        self._path, self._first_frame = path, first_frame
        self._names = Names(sources)
        self._read: dict[str, Labels] = {}  # of tables that name their sources
        self._files: dict[str, Path] = {}  # tables of one source each
        self._unmet: dict[str, None] = {}
        self._units: tuple[int, ...] | None = None
        folder = path if path.is_dir() else path.parent
        for file in label_files(path):
            name = file.relative_to(folder).with_suffix("").as_posix()
            if path.is_dir() and not self._names.find(name) and not _names_a_unit(file):
                self._pass_over(name)  # a README, say
            elif _first_line(file).source is not None:
                self._read_many(file)
            else:
                self._assign(file, name)
        if not self._read and not self._files:
            raise LabelError(self._no_match())
        if self._units is None:
            units = tuple(_first_line(next(iter(self._files.values()))).units)
            self._units = (*units, *without_both(units))

    @property
    def units(self) -> tuple[int, ...]:
        assert self._units is not None
        return self._units

    @property
    def match(self) -> Match:
        examples = tuple(list(self._unmet)[:MAX_SHOWN])
        labelled = len(self._read) + len(self._files)
        return Match(labelled, len(self._names.sources), len(self._unmet), examples)

    def check(self) -> None:
        """Read every table once, so that a wrong one stops a build before its first video."""
        for source in self._files:
            self.of(source)

    def of(self, source: str) -> Labels:
        """The labels of a source; without any row where it has none.

        Raises LabelError for a table that cannot be read.
        """
        if source in self._read:
            return self._read[source]
        if source not in self._files:
            nothing = np.zeros((0, len(self.units)), np.int8)
            return Labels(self.units, np.zeros(0, np.int64), nothing)
        file = self._files[source]
        columns, lines = read_table(file, self._first_frame)
        rows = Rows()
        for count, (_, row) in enumerate(lines):
            values = columns.values(row)
            rows.add(columns.frame_of(row, count), values, columns.face_of(row))
        if not rows.frames:
            raise LabelError(f"{file} holds no labels")
        return self._labels(columns, rows)

    def _assign(self, file: Path, name: str) -> None:
        source = self._source_of(name, str(file))
        if source is None:
            return
        before = self._files.setdefault(source, file)
        if before != file:
            raise LabelError(f"{before} and {file} both are tables of {source}: keep one")

    def _read_many(self, file: Path) -> None:
        columns, lines = read_table(file, self._first_frame)
        if columns.frame is None:
            raise LabelError(f"{file} names its sources, but no column names the frame")
        found: dict[str, Rows] = {}
        known: dict[str, str | None] = {}
        for name, row in lines:
            if name not in known:
                if len(known) >= MAX_REMEMBERED:
                    known.clear()
                known[name] = self._source_of(name, f"{file} line {row.line}")
            source = known[name]
            values, frame = columns.values(row), columns.frame_of(row, 0)
            if source is not None:
                found.setdefault(source, Rows()).add(frame, values, columns.face_of(row))
        if not known:
            raise LabelError(f"{file} holds no labels")
        for source, rows in found.items():
            if source in self._read:
                raise LabelError(
                    f"{self._read[source].table} and {file} both have rows of {source}: keep one"
                )
            self._read[source] = self._labels(columns, rows)

    def _source_of(self, name: str, where: str) -> str | None:
        found = self._names.find(name)
        if len(found) > 1:
            raise LabelError(
                f"{where}: {name!r} may mean {found[0]} or {found[1]}: write the path as the "
                "source has it"
            )
        if not found:
            self._pass_over(name)
            return None
        return found[0]

    def _pass_over(self, name: str) -> None:
        if len(self._unmet) < MAX_REMEMBERED:
            self._unmet[name] = None

    def _labels(self, columns: Columns, rows: Rows) -> Labels:
        frames, values = _in_order(columns, rows)
        units, values = with_both(tuple(columns.units), values)
        if self._units is None:
            self._units = units
        if units != self._units:
            raise LabelError(
                f"{columns.path} has action units {units}, other tables {self._units}: one corpus "
                "has one list"
            )
        if len(rows.faces) > 1:
            raise LabelError(
                f"{columns.path} holds several faces (face_id {', '.join(sorted(rows.faces))}): "
                "which of them is followed cannot be told; keep one"
            )
        assumed = self._first_frame is None and columns.frame is not None
        return Labels(units, frames, values, str(columns.path), assumed)

    def _no_match(self) -> str:
        names, sources = list(self._unmet), self._names.sources
        if not names:
            return f"{self._path} holds no table of labels (.csv, .tsv or .txt)"
        return (
            f"{self._path}: not one of its {len(names)} names is a source of this build. It names "
            f"{', '.join(map(repr, names[:MAX_SHOWN]))}; the sources are called "
            f"{', '.join(map(repr, sources[:MAX_SHOWN]))}"
        )


def label_files(path: Path) -> list[Path]:
    """The tables at a path: itself, or those in a folder; without what a system left there."""
    if not path.is_dir():
        return [path]
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in TABLE_SUFFIXES
        and not has_system_part(file.relative_to(path).as_posix())
        and file.is_file()
    ]


def labels_digest(path: Path) -> str:
    """Changes with the content and the place of every table."""
    base = path if path.is_dir() else path.parent
    lines = [
        f"{file.relative_to(base).as_posix()}:{sha256_of(file)}\n" for file in label_files(path)
    ]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _first_line(file: Path) -> Columns:
    header = next(read_rows(file, max_bytes=MAX_TABLE_BYTES), None)
    if header is None:
        raise LabelError(f"{file} is empty")
    return read_columns(file, header.cells)


def _names_a_unit(file: Path) -> bool:
    """Whether the first line of a file has a column of an action unit, so that it is a table."""
    header = next(read_rows(file, max_bytes=MAX_TABLE_BYTES), None)
    return header is not None and any(
        UNIT_COLUMN.fullmatch(cell.strip("'\" ")) for cell in header.cells
    )


def _in_order(columns: Columns, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Frames, increasing and each once, with their values [N, K]."""
    frames = np.array(rows.frames, np.int64)
    values = np.array(rows.values, np.int8).reshape(len(frames), len(columns.units))
    order = np.argsort(frames, kind="stable")
    frames, values = frames[order], values[order]
    again = np.flatnonzero(frames[1:] == frames[:-1]) + 1
    for at in again:
        if (values[at] != values[at - 1]).any():
            raise LabelError(
                f"{columns.path}: frame {int(frames[at]) + columns.first_frame} is given twice, "
                f"as {values[at - 1].tolist()} and {values[at].tolist()}"
            )
    return np.delete(frames, again), np.delete(values, again, axis=0)
