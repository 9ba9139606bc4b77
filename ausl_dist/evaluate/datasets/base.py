"""What every labelled data set becomes: recordings of one subject each, with cleaned labels and the
pictures they belong to.

    folder as the data set is distributed ──reader──▶ Recording, Recording, …

A reader is one small file per data set. All of them go through the functions here for the traps
that they share: labels are parsed as whole numbers and never compared as text, 9, -1 and 999 become
unknown, and a picture is found by the number in its name whatever its padding.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["occurrence", "intensity"]
UNKNOWN_CODES = frozenset((-1, 9, 999))
HIGHEST: dict[Kind, int] = {"occurrence": 1, "intensity": 5}
MAX_TEXT_BYTES = 256 << 20
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp"))


@dataclass(frozen=True)
class Recording:
    """Labelled pictures of one subject, in time order.

    `pictures` are positions in the video, from 0, or None where `images` names a file per row. A
    row whose picture does not exist is left out by the reader and counted in `missing`.
    """

    # DATASET:SUBJECT; data sets that share people share the name, so that a leak between them is
    # seen
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


def read_text(path: Path) -> str:
    """A text file of at most MAX_TEXT_BYTES; ValueError with the path when it is larger or no text."""
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"{path} is larger than {MAX_TEXT_BYTES} bytes: this is no label file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text ({error})") from error


def to_int(text: str, where: str) -> int:
    """A whole number as label files write them: 1, ' 1', 1.0, 1.0000000e+00.

    ValueError for anything else.
    """
    try:
        value = float(text.strip().strip("'\""))
    except ValueError as error:
        raise ValueError(f"{where}: {text.strip()[:40]!r} is not a number") from error
    if not value.is_integer():
        raise ValueError(f"{where}: {text.strip()[:40]!r} is not a whole number")
    return int(value)


def clean(values: Iterable[Iterable[int]], kind: Kind, where: str) -> NDArray[np.int8]:
    """Labels [N, K] as int8 with 9, -1 and 999 as -1; ValueError for a value that the data set
    cannot have.
    """
    raw = np.array([list(row) for row in values], np.int64)
    if raw.ndim != 2:
        raise ValueError(f"{where}: no labels, or rows of unequal length")
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
            r"(?:AU)?[ _]?0*(\d{1,2})(?:_[a-z]+)?", cell.strip().strip("'\"").strip(), re.IGNORECASE
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
        if path.suffix.lower() in IMAGE_SUFFIXES and numbers:
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
