"""Per-frame action-unit labels from tables, for the frames that a clip shows.

    one table:         source,frame,AU1,AU2,…      a row for each labelled frame of each source
    a folder:          NAME.csv or NAME.txt for the source NAME.mp4, with frame,AU1,AU2,…
                       or, without the column `frame`, row k for frame k (the layout of Aff-Wild2)

Frames are numbered from 0 in the source's own frame rate; `first_frame` says what the first one is
called (DISFA counts from 1). Values are intensities 0 to 5 or occurrences 0 and 1; an empty field,
-1, 9 (BP4D) or 999 (EmotioNet) is unknown, as is every frame without a row. `thinned` makes a
random share of the labelled frames all there is.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.settings import LabelSettings

UNKNOWN = -1
_UNKNOWN_TEXTS = frozenset({"", "-1", "9", "999"})
_UNIT_COLUMN = re.compile(r"['\"]?\s*AU[ _]?0*(\d{1,2})['\"]?", re.IGNORECASE)
MAX_FRAME = 1 << 31
MAX_FIELD_CHARACTERS = 4096


class LabelError(ValueError):
    """A table that cannot be read; a build stops rather than lose labels silently."""


@dataclass(frozen=True)
class Labels:
    """The labels of one source."""

    units: tuple[int, ...]  # FACS numbers of the columns
    frames: NDArray[np.int64]  # N, increasing
    values: NDArray[np.int8]  # N K

    def rows(self, source_frames: Sequence[int]) -> NDArray[np.int8]:
        """int8 [T, K] for these source frames; UNKNOWN where there is no row."""
        wanted = np.asarray(source_frames, np.int64)
        result = np.full((len(wanted), len(self.units)), UNKNOWN, np.int8)
        if len(self.frames):
            at = np.minimum(np.searchsorted(self.frames, wanted), len(self.frames) - 1)
            found = self.frames[at] == wanted
            result[found] = self.values[at[found]]
        return result


def thinned(labels: Labels, source: str, settings: LabelSettings) -> Labels:
    """`settings.share` of a source's labelled frames: which ones follows from seed and source name
    alone.
    """
    if settings.share == 1:
        return labels
    seed = hashlib.sha256(f"{settings.seed}\n{source}".encode()).digest()
    kept = (
        np.random.default_rng(np.frombuffer(seed, np.uint32)).random(len(labels.frames))
        < settings.share
    )
    return Labels(labels.units, labels.frames[kept], labels.values[kept])


class LabelTables:
    """Labels by source name.

    Every source of a corpus is labelled with the same units, known or not.
    """

    def __init__(self, path: Path, *, first_frame: int = 0) -> None:
        self._first_frame = first_frame
        self._folder = path if path.is_dir() else None
        if self._folder is None:
            self._tables = _read_table(path, first_frame)
            self.units = next(iter(self._tables.values())).units
            return
        self._files = {
            file.stem: file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in (".csv", ".txt")
        }
        if not self._files:
            raise LabelError(f"{path} holds no .csv or .txt file of labels")
        self.units = next(
            iter(_read_table(next(iter(self._files.values())), first_frame).values())
        ).units

    def of(self, source: str) -> Labels:
        """The labels of a source; without any row where it has none.

        Raises LabelError for a table that cannot be read.
        """
        nothing = Labels(self.units, np.zeros(0, np.int64), np.zeros((0, len(self.units)), np.int8))
        if self._folder is None:
            return self._tables.get(source, nothing)
        file = self._files.get(Path(source).stem) or self._files.get(Path(source).name)
        if file is None:
            return nothing
        labels = next(iter(_read_table(file, self._first_frame).values()))
        if labels.units != self.units:
            raise LabelError(
                f"{file} has action units {labels.units}, other tables {self.units}: "
                "one corpus has one list"
            )
        return labels


def _read_table(path: Path, first_frame: int) -> dict[str, Labels]:
    """Labels by source name ("" in a table without that column)."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(_bounded(file, path))
        try:
            header = [column.strip() for column in next(lines, [])]
            units = {
                index: int(match[1])
                for index, column in enumerate(header)
                if (match := _UNIT_COLUMN.fullmatch(column))
            }
            if not units:
                raise LabelError(
                    f"{path}: the first line must name the columns, such as frame,AU1,AU2; "
                    f"it is {header[:8]}"
                )
            rows = dict[str, dict[int, list[int]]]()
            for number, line in enumerate(lines):
                if not any(field.strip() for field in line):
                    continue
                if len(line) != len(header):
                    raise LabelError(
                        f"{path} line {number + 2} has {len(line)} fields, "
                        f"the first line {len(header)}"
                    )
                fields = dict(zip(header, line, strict=True))
                frame = (
                    _number(fields["frame"], path, number + 2) - first_frame
                    if "frame" in fields
                    else number
                )
                if not 0 <= frame < MAX_FRAME:
                    raise LabelError(
                        f"{path} line {number + 2}: frame {frame + first_frame} lies before "
                        "first_frame or is absurd"
                    )
                rows.setdefault(fields.get("source", ""), {})[frame] = [
                    _value(line[i], path, number + 2) for i in units
                ]
        except csv.Error as error:
            raise LabelError(f"{path} is no table of labels ({error})") from error
    if not rows:
        raise LabelError(f"{path} holds no labels")
    return {source: _labels(tuple(units.values()), frames) for source, frames in rows.items()}


def _bounded(lines: Iterator[str], path: Path) -> Iterator[str]:
    for line in lines:
        if len(line) > MAX_FIELD_CHARACTERS:
            raise LabelError(
                f"{path} has a line of more than {MAX_FIELD_CHARACTERS} characters: "
                "it is no table of labels"
            )
        yield line


def _labels(units: tuple[int, ...], frames: dict[int, list[int]]) -> Labels:
    order = sorted(frames)
    return Labels(
        units,
        np.array(order, np.int64),
        np.array([frames[frame] for frame in order], np.int8).reshape(len(order), len(units)),
    )


def _value(text: str, path: Path, line: int) -> int:
    if text.strip() in _UNKNOWN_TEXTS:
        return UNKNOWN
    value = _number(text, path, line)
    if not 0 <= value <= 5:
        raise LabelError(
            f"{path} line {line}: {text.strip()[:40]!r} is no intensity (0 to 5, or -1 for unknown)"
        )
    return value


def _number(text: str, path: Path, line: int) -> int:
    match = re.fullmatch(r"\s*(-?\d{1,12})(?:\.0*)?\s*", text)
    if not match:
        raise LabelError(f"{path} line {line}: {text.strip()[:40]!r} is no whole number")
    return int(match[1])
