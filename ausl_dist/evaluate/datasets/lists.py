"""The list formats that code bases exchange, read as recordings: their users switch at no cost.

    ME-GraphAU   BP4D_train_img_path_fold1.txt, BP4D_train_label_fold1.txt
                 a path per line; rows of 0/1 with blanks between
    JAA-Net      BP4D_combine_1_2_path.txt, BP4D_combine_1_2_AUoccur.txt
                 the same; 9 unknown
    FG-Net,      train.csv
    LibreFace    image_path,au1,au2,…; intensities in LibreFace's DISFA
    FMAE         BP4D_train1.json
                 a JSON object per line: img_path, AUs (those present; 999 fills the rest)

FMAE's lists cannot tell absent from unknown: what was 9 in BP4D is absent there. Subjects are
read from the paths.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.datasets import bp4d, disfa
from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Kind,
    Recording,
    au_columns,
    clean,
    headed_rows,
)
from ausl_dist.tables import TableError, read_lines, read_rows, shown, whole_number

MAX_PATH = 1024  # characters
SUBJECT_PATTERNS = {
    "bp4d": re.compile(r"(?<![A-Za-z0-9])2?([FM])(\d{2,3})(?=[/_\\])"),
    "bp4d_plus": re.compile(r"(?<![A-Za-z0-9])([FM])(\d{3})(?=[/_\\])"),
    "disfa": re.compile(r"(SN)(\d{3})"),
}
UNITS = {"bp4d": bp4d.UNITS, "bp4d_plus": bp4d.UNITS, "disfa": disfa.OCCURRENCE_UNITS}


@dataclass(frozen=True)
class Listed:
    """One line of a list."""

    path: str
    labels: list[int]


def read_list(list_file: Path, data_set: str, images: Path) -> list[Recording]:
    """Recordings by subject of a list of `data_set` (bp4d, bp4d_plus or disfa), its paths under
    the folder `images`, named after the list.

    The format is told from the file's name. Pictures that do not exist are counted in
    `missing`. ValueError for a list of no known format.
    """
    if data_set not in SUBJECT_PATTERNS:
        raise ValueError(
            f"lists are read for {', '.join(SUBJECT_PATTERNS)}, not for {data_set!r}"
        )
    units = UNITS[data_set]
    name = list_file.name
    kind: Kind = "occurrence"
    if "_img_path_" in name:
        labels_file = list_file.with_name(name.replace("_img_path_", "_label_"))
        lines = _paired(list_file, labels_file, len(units))
    elif name.endswith("_path.txt"):
        labels_file = list_file.with_name(name.removesuffix("_path.txt") + "_AUoccur.txt")
        lines = _paired(list_file, labels_file, len(units))
    elif list_file.suffix == ".csv":
        units, kind, lines = _csv(list_file)
    elif list_file.suffix in (".json", ".jsonl"):
        lines = _fmae(list_file, units)
    else:
        raise ValueError(
            f"{list_file}: no list format has this name; known: *_img_path_fold1.txt (ME-GraphAU), "
            "*_path.txt (JAA-Net), *.csv (FG-Net, "
            "LibreFace), *.json (FMAE)"
        )
    return _by_subject(lines, data_set, units, kind, images, list_file)


def as_listed(data_set: DataSet, recordings: Sequence[Recording]) -> DataSet:
    """The data set with the action units and the kind of labels of its lists: occurrence unless
    some label is an intensity.

    Raises ValueError for lists of different action units.
    """
    units = {recording.action_units for recording in recordings}
    if len(units) != 1:
        raise ValueError(
            "the lists hold labels of different action units: "
            f"{' and '.join(map(str, sorted(units))) or 'none'}"
        )
    if any((recording.labels > 1).any() for recording in recordings):
        return replace(
            data_set, kind="intensity", action_units=units.pop(), occurrence_units=()
        )
    return replace(
        data_set,
        kind="occurrence",
        action_units=units.pop(),
        occurrence_units=(),
        positive_from=1,
    )


def _paired(paths_file: Path, labels_file: Path, width: int) -> list[Listed]:
    if not labels_file.is_file():
        raise FileNotFoundError(
            f"{labels_file} must lie beside {paths_file}: it holds the labels of its lines"
        )
    paths = [text for _, text in read_lines(paths_file)]
    rows = list[list[int]]()
    for row in read_rows(labels_file, blanks=True):
        where = f"{labels_file}, line {row.line}"
        cells = [cell for cell in row.cells if cell]
        if len(cells) != width:
            raise TableError(f"{where}: {len(cells)} labels, {width} action units are expected")
        rows.append([whole_number(cell, where) for cell in cells])
    if len(paths) != len(rows):
        raise TableError(
            f"{paths_file} has {len(paths)} lines, {labels_file} {len(rows)}: "
            "they are not of one list"
        )
    return [Listed(path, row) for path, row in zip(paths, rows, strict=True)]


def _csv(path: Path) -> tuple[tuple[int, ...], Kind, list[Listed]]:
    header, rows = headed_rows(path)
    header = [cell.lower() for cell in header]
    columns = au_columns(header, str(path))
    if "image_path" not in header or not columns:
        raise TableError(
            f"{path}: its first line must name image_path and the action units (au1, au2, …)"
        )
    units = tuple(sorted(columns))
    place = header.index("image_path")
    lines = []
    for row in rows:
        where = f"{path}, line {row.line}"
        labels = [whole_number(row.cells[columns[unit]], where) for unit in units]
        lines.append(Listed(row.cells[place], labels))
    values = {value for line in lines for value in line.labels}
    return units, "intensity" if values & {2, 3, 4, 5} else "occurrence", lines


def _fmae(path: Path, units: tuple[int, ...]) -> list[Listed]:
    lines = []
    for number, text in read_lines(path):
        try:
            entry = json.loads(text)
            file, listed = entry["img_path"], entry["AUs"]
            if not (isinstance(file, str) and isinstance(listed, list)):
                raise TypeError("img_path must be a text, AUs a list")
            present = {whole_number(str(value), "AUs") for value in listed}
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise TableError(
                f"{path}, line {number}: a JSON object with img_path and AUs is expected ({error})"
            ) from error
        lines.append(Listed(file, [int(unit in present) for unit in units]))
    return lines


def _by_subject(
    lines: Iterable[Listed],
    data_set: str,
    units: tuple[int, ...],
    kind: Kind,
    images: Path,
    list_file: Path,
) -> list[Recording]:
    where = str(list_file)
    # the lists of several folds hold the same subjects
    prefix = re.sub(r"[^A-Za-z0-9_-]", "-", list_file.stem)
    found: dict[str, list[tuple[Path, list[int]]]] = {}
    missing: dict[str, int] = {}
    for line in lines:
        subject = _subject(line.path, data_set, where)
        if "\0" in line.path or len(line.path) > MAX_PATH:
            raise TableError(f"{where}: {shown(line.path)} is no path")
        picture = images / line.path
        if not picture.resolve().is_relative_to(images.resolve()):
            raise ValueError(f"{where}: {line.path!r} leads out of {images}")
        found.setdefault(subject, [])
        if picture.is_file():
            found[subject].append((picture, line.labels))
        else:
            missing[subject] = missing.get(subject, 0) + 1
    recordings = []
    for subject, rows in found.items():
        labels: NDArray[np.int8] = (
            clean((row for _, row in rows), kind, where)
            if rows
            else np.zeros((0, len(units)), np.int8)
        )
        pictures = tuple(path for path, _ in rows)
        name = f"{prefix}-{subject}"
        recordings.append(
            Recording(
                f"{data_set}:{subject}",
                name,
                units,
                labels,
                images=pictures,
                missing=missing.get(subject, 0),
            )
        )
    return recordings


def _subject(path: str, data_set: str, where: str) -> str:
    match = SUBJECT_PATTERNS[data_set].search(path)
    if not match:
        raise ValueError(f"{where}: {path!r} names no subject of {data_set}")
    return f"{match[1]}{int(match[2]):03d}"
