"""One table of per-frame labels: what its columns are, and its rows by the name they give.

    source,frame,AU1,AU2,…                                     one table for many sources
    frame,AU1,AU2,…                                            of one source
    AU1,AU2,…                                                  row k is frame k (Aff-Wild2)
    frame, face_id, timestamp, confidence, success, AU01_r, …  what OpenFace writes
    frame,AU6,L12,R12,AU14_left,AU14_right                     units of one side

A column is known by its name, whatever its case; one that is not is refused, since a frame
column that goes unrecognised would label other frames. OpenFace counts frames from 1, gives
intensities with a fraction (rounded here), and zeros where it found no face (unknown here); its
AU28_c has no intensity and is passed over.
"""

import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ausl_dist import units
from ausl_dist.tables import Row, TableError, number, read_rows, shown, whole_number

UNKNOWN = -1
MAX_TABLE_BYTES = 16 << 30
MAX_TABLE_ROWS = 1 << 31
MAX_UNITS = 64

_UNKNOWN_TEXTS = frozenset({"", "-1", "9", "999"})
UNIT_COLUMN = re.compile(units.NAME + r"(_[rc])?", re.IGNORECASE | re.ASCII)
SOURCE_COLUMNS = (
    *("source", "video", "file", "filename", "name", "path", "clip"),
    *("videoname", "videoid", "videofile", "videopath", "filepath", "sourcename", "sourcefile"),
)
FRAME_COLUMNS = (
    *("frame", "frameid", "frameno", "framenr", "framenum", "framenumber"),
    *("frameindex", "frameidx", "framecount"),
)
FACE_COLUMN = "faceid"
SUCCESS_COLUMN = "success"
OPENFACE_COLUMNS = ("frame", "timestamp", "confidence", SUCCESS_COLUMN)
# Read past: times and beliefs, and the families of gaze, pose, landmarks and shape of OpenFace.
_OTHER_COLUMNS = frozenset(("timestamp", "time", "seconds", "confidence"))
_OTHER_FAMILIES = re.compile(
    r"gaze_[\w]+|eye_lmk_[\w]+|pose_[TR][xyz]|[xyXYZ]_\d+|p_(scale|rx|ry|rz|tx|ty|\d+)"
)


@dataclass(frozen=True)
class Columns:
    """Where in a row what stands."""

    path: Path
    width: int
    units: dict[int, int]  # unit, as in units.py: position, in the table's order
    fractions: bool  # intensities may have a fraction
    source: int | None
    frame: int | None
    face: int | None
    success: int | None
    first_frame: int  # what the table calls the first frame

    def values(self, row: Row) -> list[int]:
        """The labels of a row; UNKNOWN throughout where the table says that no face was found."""
        where = f"{self.path} line {row.line}"
        if len(row.cells) != self.width:
            raise TableError(
                f"{where} has {len(row.cells)} fields, the first line {self.width}"
            )
        if self.success is not None and number(row.cells[self.success], where) == 0:
            return [UNKNOWN] * len(self.units)
        return [_value(row.cells[at], where, self.fractions) for at in self.units.values()]

    def frame_of(self, row: Row, count: int) -> int:
        """The frame of a row, from 0; `count` rows stand before it."""
        if self.frame is None:
            return count
        where = f"{self.path} line {row.line}"
        frame = whole_number(row.cells[self.frame], where)
        if frame < self.first_frame:
            raise TableError(
                f"{where}: frame {frame} lies before the first, which is {self.first_frame}; "
                "say with --first-frame what the tables call it"
            )
        return frame - self.first_frame

    def name_of(self, row: Row) -> str:
        return row.cells[self.source] if self.source is not None else ""

    def face_of(self, row: Row) -> str:
        return row.cells[self.face] if self.face is not None else ""


class Rows:
    """The labelled frames of one source while its table goes by: 8 + K bytes for each."""

    def __init__(self) -> None:
        self.frames = array("q")
        self.values = array("b")
        self.faces: set[str] = set()

    def add(self, frame: int, values: Sequence[int], face: str) -> None:
        self.frames.append(frame)
        self.values.extend(values)
        if len(self.faces) < 2:
            self.faces.add(face)


def read_table(
    path: Path, first_frame: int | None
) -> tuple[Columns, Iterator[tuple[str, Row]]]:
    """The columns of a table, and its rows with the name that each gives ("" without such a
    column).

    `first_frame` None is 0, or 1 where OpenFace wrote the table. Raises TableError.
    """
    rows = read_rows(path, max_bytes=MAX_TABLE_BYTES, max_rows=MAX_TABLE_ROWS)
    header = next(rows, None)
    if header is None:
        raise TableError(f"{path} is empty")
    columns = read_columns(path, header.cells, first_frame)
    return columns, _named(columns, rows)


def read_columns(path: Path, header: Sequence[str], first_frame: int | None = None) -> Columns:
    """What the first line of a table says; TableError for a column that is not known."""
    names = [cell.strip("'\" ") for cell in header]
    places = dict[str, int]()
    found = dict[tuple[int, str], int]()
    for at, name in enumerate(names):
        if (match := UNIT_COLUMN.fullmatch(name)) and (unit := _unit_of(match)):
            _once(found, (unit, (match[5] or "").lower()), at, path, names)
        elif kind := _kind_of(name):
            if kind != "other":
                _once(places, kind, at, path, names)
        else:
            raise TableError(_unknown_column(path, name, header))
    if not found:
        raise TableError(
            f"{path}: the first line must name the columns, such as frame,AU1,AU2; it is "
            f"{[cell[:40] for cell in header[:8]]}"
        )
    chosen = _choose(path, found, names)
    if len(chosen) > MAX_UNITS:
        raise TableError(
            f"{path} names {len(chosen)} action units: at most {MAX_UNITS} are read"
        )
    if "frame" not in places and len(names) > len(found):
        raise TableError(
            f"{path}: no column names the frame ({', '.join(FRAME_COLUMNS)}); only a table of "
            f"action units alone is read as a row for each frame, and this one is {names[:8]}"
        )
    if first_frame is None:
        plain = {_squeezed(name) for name in names}
        first_frame = int(plain >= set(OPENFACE_COLUMNS))
    return Columns(
        path=path,
        width=len(names),
        units=chosen,
        fractions=any(suffix == "_r" for _, suffix in found),
        source=places.get("source"),
        frame=places.get("frame"),
        face=places.get("face"),
        success=places.get("success"),
        first_frame=first_frame,
    )


def _unit_of(match: re.Match[str]) -> int | None:
    return units.number_of(match[1] or match[2], match[3], match[4])


def _named(columns: Columns, rows: Iterator[Row]) -> Iterator[tuple[str, Row]]:
    line = None
    for row in rows:
        if columns.frame is None and line is not None and row.line != line + 1:
            raise TableError(
                f"{columns.path} line {line + 1} is empty, and its rows have no frame numbers: "
                "which frame the next row labels cannot be told"
            )
        line = row.line
        yield columns.name_of(row) if len(row.cells) == columns.width else "", row


def _kind_of(name: str) -> str | None:
    """source, frame, face, success, other; None for a column that is not known."""
    plain = _squeezed(name)
    if plain in SOURCE_COLUMNS:
        return "source"
    if plain in FRAME_COLUMNS:
        return "frame"
    if plain == FACE_COLUMN:
        return "face"
    if plain == SUCCESS_COLUMN:
        return "success"
    return "other" if plain in _OTHER_COLUMNS or _OTHER_FAMILIES.fullmatch(name) else None


def _squeezed(name: str) -> str:
    return re.sub(r"[ _\-.]", "", name).lower()


def _once(places: dict[Any, int], key: Any, at: int, path: Path, names: Sequence[str]) -> None:
    if key in places:
        raise TableError(
            f"{path}: the columns {names[places[key]]!r} and {names[at]!r} are the same thing; "
            "keep one"
        )
    places[key] = at


def _choose(
    path: Path, found: dict[tuple[int, str], int], names: Sequence[str]
) -> dict[int, int]:
    """Column by unit: intensities where there are any, since presence is another scale."""
    suffixes = {suffix for _, suffix in found}
    if "" in suffixes and len(suffixes) > 1:
        mixed = [names[at] for at in found.values()][:8]
        raise TableError(f"{path}: columns with and without _r or _c are mixed: {mixed}")
    wanted = "_r" if "_r" in suffixes else min(suffixes)
    return {unit: at for (unit, suffix), at in found.items() if suffix == wanted}


def _unknown_column(path: Path, name: str, header: Sequence[str]) -> str:
    if len(header) == 1 or not any(
        _kind_of(cell) or UNIT_COLUMN.match(cell) for cell in header
    ):
        return (
            f"{path}: the first line must name the columns, such as frame,AU1,AU2; it is "
            f"{[cell[:40] for cell in header[:8]]}"
        )
    return (
        f"{path}: the column {shown(name)} is not known. Known are action units (AU1, AU01, "
        "'AU 1', AU01_r, AU01_c; of one side L12, AU12L, AU12_left), the source "
        f"({', '.join(SOURCE_COLUMNS)}), the frame ({', '.join(FRAME_COLUMNS)}), and what "
        "OpenFace writes beside them: rename it, or take it out"
    )


def _value(text: str, where: str, fractions: bool) -> int:
    if text.strip("'\" ") in _UNKNOWN_TEXTS:
        return UNKNOWN
    value = number(text, where) if fractions else float(whole_number(text, where))
    if value in (-1.0, 9.0, 999.0):
        return UNKNOWN
    if not 0 <= value <= 5:
        raise TableError(f"{where}: {shown(text)} is no intensity (0 to 5, or -1 for unknown)")
    return math.floor(value + 0.5)
