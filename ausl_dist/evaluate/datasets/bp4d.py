"""BP4D: 41 subjects, 8 tasks, occurrence of 12 AUs, and the FERA 2015 intensities of 5.

AUCoding/AU_OCC/F001_T1.csv        header 0,1,2,…,99: column k is AU k; 9 unknown; only the
                                   coded 20 s are listed; the last of the 100 columns is 1
                                   where the face is occluded: such frames are left out
AU Intensity Codes3.0/AU06/F001_T1_AU06.csv
                                   frame,intensity without a header; 9 unknown
F001/T1/0001.jpg, F001/T1/001.jpg  pictures by number, padded in several ways; or
F001_T1.mp4, 2F01_T1.avi, 2F01_01.avi
                                   videos, whose first frame is frame 1; old releases number
                                   the tasks otherwise
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    clean,
    first_folder,
    frame_values,
    from_images,
    headed_rows,
    images_by_number,
    label_files,
    units_of,
    videos_by_key,
)
from ausl_dist.tables import TableError, whole_number

UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
INTENSITY_UNITS = (6, 10, 12, 14, 17)
SUBJECTS = (
    *(f"F{number:03d}" for number in range(1, 24)),
    *(f"M{number:03d}" for number in range(1, 19)),
)
OLD_TASKS = dict(
    zip(
        ("01", "03", "07", "08", "09", "10", "11", "13"),
        ("T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8"),
        strict=True,
    )
)
VIDEO_NAME = re.compile(r"2?([FM])(\d{2,3})_(T\d{1,2}|\d{2})", re.ASCII)
FIRST_VIDEO_FRAME = 1
LABEL_NAME = re.compile(r"[FM]\d{3}_T\d{1,2}\.csv", re.ASCII)
INTENSITY_NAME = re.compile(r"[FM]\d{3}_T\d{1,2}(_AU06)?\.csv", re.ASCII)
OCCLUDED_COLUMN = "99"  # no AU has this number


def read_occurrence(root: Path) -> list[Recording]:
    """Recordings of every file of AU_OCC; labels 0/1/-1."""
    media = Media(root)
    recordings = []
    for path in label_files(first_folder(root, "AUCoding/AU_OCC", "AU_OCC"), LABEL_NAME):
        numbers, labels = read_coded_csv(path, UNITS)
        subject, task = path.stem.split("_")[:2]
        recordings.append(media.recording("bp4d", subject, task, UNITS, labels, numbers))
    return recordings


def read_intensity(root: Path) -> list[Recording]:
    """Recordings of the FERA 2015 intensities; a frame is kept when it is listed for every AU."""
    folder = first_folder(root, "AU Intensity Codes3.0", "AUCoding/AU_INT", "AU_INT")
    media = Media(root)
    recordings = []
    for path in label_files(folder / "AU06", INTENSITY_NAME):
        subject, task = path.stem.split("_")[:2]
        columns = [
            frame_values(_intensity_file(folder, subject, task, unit))
            for unit in INTENSITY_UNITS
        ]
        numbers = sorted(set.intersection(*(set(column) for column in columns)))
        labels = clean(
            ([column[number] for column in columns] for number in numbers),
            "intensity",
            str(path),
        )
        recordings.append(
            media.recording("bp4d", subject, task, INTENSITY_UNITS, labels, numbers)
        )
    return recordings


def read_coded_csv(path: Path, units: tuple[int, ...]) -> tuple[list[int], NDArray[np.int8]]:
    """Frame numbers and occurrence labels [N, K] of one coded file: columns by the names in its
    header, occluded frames left out.
    """
    header, rows = headed_rows(path)
    columns = units_of(header, units, path)
    occluded = len(header) - 1 if header[-1] == OCCLUDED_COLUMN else None
    found: dict[int, list[int]] = {}
    for row in rows:
        where = f"{path}, line {row.line}"
        if occluded is not None and whole_number(row.cells[occluded], where) == 1:
            continue
        frame = whole_number(row.cells[0], where)
        values = [whole_number(row.cells[columns[unit]], where) for unit in units]
        if found.setdefault(frame, values) != values:
            raise TableError(f"{where}: frame {frame} was given before with other labels")
    if not found:
        return [], np.zeros((0, len(units)), np.int8)
    return list(found), clean(found.values(), "occurrence", str(path))


def _intensity_file(folder: Path, subject: str, task: str, unit: int) -> Path:
    name = f"{subject}_{task}_AU{unit:02d}.csv"
    for path in (
        folder / f"AU{unit:02d}" / name,
        folder / f"AU{unit:02d}" / f"{subject}_{task}.csv",
    ):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder}/AU{unit:02d} has no file {name}: the copy is incomplete")


class Media:
    """Finds the pictures of a subject's task: a folder of images, or a video under any of its
    names.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._videos = videos_by_key(root.rglob("*"), _subject_and_task)

    def recording(
        self,
        data_set: str,
        subject: str,
        task: str,
        units: tuple[int, ...],
        labels: NDArray[np.int8],
        numbers: list[int],
    ) -> Recording:
        """The labels joined to their pictures.

        A video's frame k is its k-th picture, counted from 1.
        """
        name, who = f"{subject}_{task}", f"{data_set}:{subject}"
        for folder in (
            self._root / subject / task,
            self._root / "images" / subject / task,
            self._root / "2D+3D" / subject / task,
        ):
            images = images_by_number(folder)
            if images:
                return from_images(who, name, units, labels, numbers, images)
        video = self._videos.get((subject, task))
        if video is None:
            return Recording(who, name, units, labels[:0], images=(), missing=len(numbers))
        return Recording(
            who,
            name,
            units,
            labels,
            video=video,
            pictures=np.array(numbers, np.int32) - FIRST_VIDEO_FRAME,
        )


def _subject_and_task(path: Path) -> tuple[str, str] | None:
    match = VIDEO_NAME.fullmatch(path.stem)
    if match is None:
        return None
    return f"{match[1]}{int(match[2]):03d}", OLD_TASKS.get(match[3], match[3])


OCCURRENCE = DataSet(
    name="bp4d",
    kind="occurrence",
    action_units=UNITS,
    read=read_occurrence,
    subjects=SUBJECTS,
    frames=146_847,
    rates=dict(
        zip(
            UNITS,
            (21.1, 17.1, 20.3, 46.1, 54.9, 59.4, 56.2, 46.6, 16.9, 34.3, 16.5, 15.1),
            strict=True,
        )
    ),
)
INTENSITY = DataSet(
    name="bp4d_intensity",
    kind="intensity",
    action_units=INTENSITY_UNITS,
    read=read_intensity,
    subjects=SUBJECTS,
)
