"""What every labelled data set becomes: recordings of one subject each, with cleaned labels and
the pictures they belong to.

    folder as the data set is distributed ──reader──▶ Recording, Recording, …

A reader is one small file per data set. All of them go through `ausl_dist.tables` and the
functions here for the traps that they share: labels are parsed as whole numbers and never
compared as text; 9, -1 and 999 become unknown; files are taken by their published names and
suffixes; a picture is found by the number in its name whatever its padding.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ausl_dist.tables import Row, TableError, is_system_file, read_rows, whole_number

Key = TypeVar("Key")
Kind = Literal["occurrence", "intensity"]
UNKNOWN_CODES = frozenset((-1, 9, 999))
HIGHEST: dict[Kind, int] = {"occurrence": 1, "intensity": 5}
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp"))
VIDEO_SUFFIXES = frozenset((".avi", ".mp4", ".mkv", ".mov", ".m4v", ".webm"))


@dataclass(frozen=True)
class Recording:
    """Labelled pictures of one subject, in time order.

    `pictures` are positions in the video, from 0, or None where `images` names a file per row.
    A row whose picture does not exist is left out by the reader and counted in `missing`.
    """

    # DATASET:SUBJECT; data sets that share people share the name, so that a leak between them
    # is seen
    subject: str
    name: str  # unique in the data set; letters, digits, '_' and '-'
    action_units: tuple[int, ...]
    labels: NDArray[np.int8]  # N K, -1 unknown
    video: Path | None = None
    pictures: NDArray[np.int32] | None = None  # N
    images: tuple[Path, ...] = ()  # N
    missing: int = 0

    def __post_init__(self) -> None:
        count = len(self.pictures) if self.pictures is not None else len(self.images)
        if self.labels.shape != (count, len(self.action_units)):
            raise ValueError(
                f"{self.name}: labels {self.labels.shape} for {count} pictures and "
                f"{len(self.action_units)} action units"
            )
        if self.pictures is not None and len(self.pictures) and int(self.pictures.min()) < 0:
            raise ValueError(
                f"{self.name}: a label stands before the first picture: "
                "the frame numbers of its label file start too low"
            )


@dataclass(frozen=True)
class DataSet:
    """A data set: how to read it, and what a right copy must show."""

    name: str
    kind: Kind
    action_units: tuple[int, ...]  # in the order of the published tables
    read: Callable[[Path], list[Recording]] = field(repr=False)
    # expected, without the name of the data set; empty where unknown
    subjects: tuple[str, ...] = ()
    frames: int | None = None  # labelled frames of a whole copy
    # per cent positive by AU, in a whole copy
    rates: Mapping[int, float] = field(default_factory=dict)
    positive_from: int = 1  # occurrence from this intensity on
    # where occurrence is evaluated on fewer units than intensity
    occurrence_units: tuple[int, ...] = ()


def label_rows(path: Path, width: int | None = None) -> Iterator[Row]:
    """The rows of a label file that have no header; TableError for one of another width."""
    for row in read_rows(path):
        if width is not None and len(row.cells) != width:
            raise TableError(
                f"{path}, line {row.line}: {len(row.cells)} fields instead of {width}"
            )
        yield row


def headed_rows(path: Path) -> tuple[list[str], Iterator[Row]]:
    """The header of a label file and the rows below it, none of them shorter; TableError where
    there is no header or a row is cut.
    """
    rows = read_rows(path)
    header = next(rows, None)
    if header is None:
        raise TableError(f"{path} is empty")
    return header.cells, _not_shorter(path, len(header.cells), rows)


def _not_shorter(path: Path, width: int, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if len(row.cells) < width:
            raise TableError(
                f"{path}, line {row.line}: fewer columns than its header names: the file is cut"
            )
        yield row


def frame_values(path: Path) -> dict[int, int]:
    """Value by frame of a file of `frame,value` without a header; TableError for a frame that
    is given twice with unequal values.
    """
    values: dict[int, int] = {}
    for row in label_rows(path, 2):
        where = f"{path}, line {row.line}"
        frame, value = (whole_number(cell, where) for cell in row.cells)
        if values.setdefault(frame, value) != value:
            raise TableError(f"{where}: frame {frame} was {values[frame]} before")
    if not values:
        raise TableError(f"{path} holds no labels")
    return values


def units_of(header: Sequence[str], units: Sequence[int], path: Path) -> dict[int, int]:
    """Column by unit of those that a data set has; TableError that names those that are
    missing.
    """
    columns = au_columns(header, str(path))
    missing = [unit for unit in units if unit not in columns]
    if missing:
        raise TableError(
            f"{path}: its first line must name AU {list(units)}; it has no column for {missing}"
        )
    return columns


def label_files(folder: Path, names: str | re.Pattern[str]) -> list[Path]:
    """The files of a folder with these names (a glob, or a pattern of the whole name), sorted,
    but for what a system left there.
    """
    found = [
        path
        for path in folder.glob(names if isinstance(names, str) else "*")
        if isinstance(names, str) or names.fullmatch(path.name)
    ]
    return [path for path in sorted(found) if not is_system_file(path.name)]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, but for those of a system."""
    found = (path for path in sorted(folder.iterdir()) if path.is_dir())
    return [path for path in found if not is_system_file(path.name)]


def videos_by_key(files: Iterable[Path], key: Callable[[Path], Key | None]) -> dict[Key, Path]:
    """Videos by what `key` makes of their names (None: not one of the data set's); TableError
    for two of one key.
    """
    found: dict[Key, Path] = {}
    for path in sorted(files):
        if path.suffix.lower() not in VIDEO_SUFFIXES or is_system_file(path.name):
            continue
        name = key(path)
        if name is not None and found.setdefault(name, path) != path:
            raise TableError(f"{found[name]} and {path} are videos of the same: keep one")
    return found


def clean(values: Iterable[Iterable[int]], kind: Kind, where: str) -> NDArray[np.int8]:
    """Labels [N, K] as int8 with 9, -1 and 999 as -1; ValueError for a value that the data set
    cannot have.
    """
    rows = [list(row) for row in values]
    if not rows or len({len(row) for row in rows}) != 1:
        raise TableError(f"{where}: no labels, or rows of unequal length")
    raw = np.array(rows, np.int64)
    unknown = np.isin(raw, list(UNKNOWN_CODES))
    wrong = ~unknown & ((raw < 0) | (raw > HIGHEST[kind]))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{where}: label {raw[row, column]} in row {row + 1}: {kind} is 0 to {HIGHEST[kind]}, "
            "unknown is 9, -1 or 999"
        )
    return np.where(unknown, -1, raw).astype(np.int8)


def au_columns(header: Iterable[str], where: str) -> dict[int, int]:
    """Column by AU number from a header: '1', 'AU1', 'AU01', "'AU 1'", 'AU01_r' are all AU 1.

    Other columns are passed over.
    """
    columns: dict[int, int] = {}
    for position, cell in enumerate(header):
        match = re.fullmatch(
            r"(?:AU)?[ _]?0*(\d{1,2})(?:_[a-z]+)?",
            cell.strip().strip("'\"").strip(),
            re.IGNORECASE,
        )
        if match and (number := int(match[1])) > 0:
            if number in columns:
                raise ValueError(f"{where}: two columns for AU {number}")
            columns[number] = position
    return columns


def images_by_number(folder: Path) -> dict[int, Path]:
    """The images of a folder by the last number in their names, whatever the padding (1.jpg,
    001.jpg, frame_0001.jpg).
    """
    found: dict[int, Path] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        numbers = re.findall(r"\d+", path.stem)
        if path.suffix.lower() in IMAGE_SUFFIXES and numbers and not is_system_file(path.name):
            number = int(numbers[-1])
            if number in found:
                raise ValueError(
                    f"{found[number]} and {path} are both picture {number}: "
                    "two paddings are mixed in one folder; keep one"
                )
            found[number] = path
    return found


def from_images(
    subject: str,
    name: str,
    units: tuple[int, ...],
    labels: NDArray[np.int8],
    numbers: list[int],
    images: Mapping[int, Path],
) -> Recording:
    """A recording of the labelled pictures that exist, found by number."""
    rows = [row for row, number in enumerate(numbers) if number in images]
    return Recording(
        subject,
        name,
        units,
        labels[rows],
        images=tuple(images[numbers[row]] for row in rows),
        missing=len(numbers) - len(rows),
    )


def first_folder(root: Path, *names: str) -> Path:
    """The first of these folders that exists under `root`; FileNotFoundError that lists them."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(
        f"{root} has none of the folders {', '.join(names)}: give the folder that holds them as "
        "root="
    )
