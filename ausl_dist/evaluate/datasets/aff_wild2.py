"""Aff-Wild2, as distributed for the ABAW challenges: videos from the web, occurrence of 12 AUs,
cropped pictures.

    AU_Detection_Challenge/Train_Set/VIDEO.txt       line 1 names the AUs; then a row per frame,
    AU_Detection_Challenge/Validation_Set/VIDEO.txt  0/1, -1 disregard
    cropped_aligned/VIDEO/00001.jpg                  row k is picture k, from 1; frames without a
                                                     face have no file

VIDEO may end in _left or _right: two persons of one video, who are different subjects. The
labels of the test set are not public.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    clean,
    first_folder,
    from_images,
    headed_rows,
    images_by_number,
    label_files,
    units_of,
)
from ausl_dist.tables import TableError, whole_number

UNITS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
PARTS = ("Train_Set", "Validation_Set")
FIRST_FRAME = 1


def read(root: Path) -> list[Recording]:
    """One recording per annotated video, its part in front of the name; labels 0/1/-1."""
    annotations = first_folder(root, "AU_Detection_Challenge", "annotations/AU_Set", "AU_Set")
    images_folder = first_folder(root, "cropped_aligned")
    recordings = []
    for part in PARTS:
        for path in label_files(annotations / part, "*.txt"):
            labels = _labels(path)
            numbers = list(range(FIRST_FRAME, FIRST_FRAME + len(labels)))
            images = images_by_number(images_folder / path.stem)
            name = f"{part}-{path.stem}".replace(".", "-")
            recordings.append(
                from_images(f"aff_wild2:{path.stem}", name, UNITS, labels, numbers, images)
            )
    return recordings


def _labels(path: Path) -> NDArray[np.int8]:
    """The rows of a file; TableError where an empty line leaves open which frame a row is."""
    header, rows = headed_rows(path)
    columns = units_of(header, UNITS, path)
    values = list[list[int]]()
    first = None
    for row in rows:
        where = f"{path}, line {row.line}"
        first = row.line if first is None else first
        if row.line - first != len(values):
            raise TableError(
                f"{where}: an empty line stands before it: rows go by their number"
            )
        values.append([whole_number(row.cells[columns[unit]], where) for unit in UNITS])
    return clean(values, "occurrence", str(path))


DATA_SET = DataSet(name="aff_wild2", kind="occurrence", action_units=UNITS, read=read)
