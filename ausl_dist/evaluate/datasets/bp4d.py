"""BP4D: 41 subjects, 8 tasks, occurrence of 12 AUs, and the FERA 2015 intensities of 5.

AUCoding/AU_OCC/F001_T1.csv                header 0,1,2,…,99: column k is AU k; 9 unknown; only the
coded 20 s are listed;
                                           the last of the 100 columns is 1 where the face is
                                           occluded: such frames are left out
AU Intensity Codes3.0/AU06/F001_T1_AU06.csv    frame,intensity without a header; 9 unknown
F001/T1/0001.jpg, F001/T1/001.jpg          pictures by number, padded in several ways F001_T1.mp4,
2F01_T1.avi, 2F01_01.avi      or videos, whose first frame is frame 1; old releases number the tasks
otherwise
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    au_columns,
    clean,
    first_folder,
    from_images,
    images_by_number,
    read_text,
    to_int,
)

UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
INTENSITY_UNITS = (6, 10, 12, 14, 17)
SUBJECTS = (
    *(f"F{number:03d}" for number in range(1, 24)),
    *(f"M{number:03d}" for number in range(1, 19)),
)
OLD_TASKS = {
    "01": "T1",
    "03": "T2",
    "07": "T3",
    "08": "T4",
    "09": "T5",
    "10": "T6",
    "11": "T7",
    "13": "T8",
}
VIDEO_NAME = re.compile(r"2?([FM])(\d{2,3})_(T\d+|\d{2})")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv")
FIRST_VIDEO_FRAME = 1
OCCLUDED_COLUMN = "99"  # no AU has this number


def read_occurrence(root: Path) -> list[Recording]:
    """Recordings of every file of AU_OCC; labels 0/1/-1."""
    media = Media(root)
    recordings = []
    for path in sorted(first_folder(root, "AUCoding/AU_OCC", "AU_OCC").glob("*_T*.csv")):
        numbers, labels = read_coded_csv(path, UNITS)
        subject, task = path.stem.split("_")[:2]
        recordings.append(media.recording("bp4d", subject, task, UNITS, labels, numbers))
    return recordings


def read_intensity(root: Path) -> list[Recording]:
    """Recordings of the FERA 2015 intensities; a frame is kept when it is listed for every AU."""
    folder = first_folder(root, "AU Intensity Codes3.0", "AUCoding/AU_INT", "AU_INT")
    media = Media(root)
    recordings = []
    for path in sorted((folder / "AU06").glob("*_T*.csv")):
        subject, task = path.stem.split("_")[:2]
        columns = []
        for unit in INTENSITY_UNITS:
            matches = sorted((folder / f"AU{unit:02d}").glob(f"{subject}_{task}*.csv"))
            if not matches:
                raise FileNotFoundError(
                    f"{folder}/AU{unit:02d} has no file {subject}_{task}_AU{unit:02d}.csv: "
                    "the copy is incomplete"
                )
            columns.append(_frame_values(matches[0]))
        numbers = sorted(set.intersection(*(set(column) for column in columns)))
        labels = clean(
            ([column[number] for column in columns] for number in numbers), "intensity", str(path)
        )
        recordings.append(media.recording("bp4d", subject, task, INTENSITY_UNITS, labels, numbers))
    return recordings


def read_coded_csv(path: Path, units: tuple[int, ...]) -> tuple[list[int], NDArray[np.int8]]:
    """Frame numbers and occurrence labels [N, K] of one coded file: columns by the names in its
    header, occluded frames left out.
    """
    lines = [line.split(",") for line in read_text(path).splitlines() if line.strip()]
    columns = au_columns(lines[0], str(path)) if lines else {}
    missing = [unit for unit in units if unit not in columns]
    if missing:
        raise ValueError(
            f"{path}: its header has no column for AU {missing}; the first line must name the "
            "columns"
        )
    rows = [(number, line) for number, line in enumerate(lines[1:], 2) if len(line) > 1]
    short = [number for number, line in rows if len(line) < len(lines[0])]
    if short:
        raise ValueError(
            f"{path}, line {short[0]}: fewer columns than its header names: the file is cut"
        )
    if lines[0][-1].strip() == OCCLUDED_COLUMN:
        rows = [
            (number, line)
            for number, line in rows
            if to_int(line[len(lines[0]) - 1], f"{path}, line {number}") != 1
        ]
    frames = [to_int(line[0], f"{path}, line {number}") for number, line in rows]
    values = (
        [to_int(line[columns[unit]], f"{path}, line {number}") for unit in units]
        for number, line in rows
    )
    return frames, clean(values, "occurrence", str(path))


def _frame_values(path: Path) -> dict[int, int]:
    """Value by frame of a file without header."""
    cells = (line.split(",") for line in read_text(path).splitlines() if line.strip())
    return {to_int(cell[0], str(path)): to_int(cell[1], str(path)) for cell in cells}


class Media:
    """Finds the pictures of a subject's task: a folder of images, or a video under any of its
    names.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._videos: dict[tuple[str, str], Path] = {}
        for path in sorted(path for suffix in VIDEO_SUFFIXES for path in root.rglob(f"*{suffix}")):
            match = VIDEO_NAME.fullmatch(path.stem)
            if match:
                task = OLD_TASKS.get(match[3], match[3])
                self._videos.setdefault((f"{match[1]}{int(match[2]):03d}", task), path)

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
