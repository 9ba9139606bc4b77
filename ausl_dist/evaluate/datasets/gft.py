"""GFT: 96 subjects in groups of three, occurrence of 10 AUs.

    AU_occur/SUBJECT.csv    header that names the frame and the AUs; one row per frame; anything
                            but 0 and 1 is unknown
    SUBJECT.mp4             videos, whose first frame is frame 1

The layout of the released meta-data could not be checked here: columns are taken by name, and
`python -m tools.verify_labels gft DIR` says what was found. The standard split has 78 subjects
to train on and 18 to test.
"""

from pathlib import Path

import numpy as np

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    clean,
    first_folder,
    headed_rows,
    label_files,
    units_of,
    videos_by_key,
)
from ausl_dist.tables import TableError, whole_number

UNITS = (1, 2, 4, 6, 10, 12, 14, 15, 23, 24)
FIRST_VIDEO_FRAME = 1


def read(root: Path) -> list[Recording]:
    """One recording per subject; labels 0/1/-1."""
    folder = first_folder(root, "AU_occur", "AU_OCC", "meta-data/AU_occur")
    tables = {path.stem: path for path in label_files(folder, "*.csv")}
    videos = videos_by_key(
        root.rglob("*"), lambda path: path.stem if path.stem in tables else None
    )
    recordings = []
    for name, path in tables.items():
        rows = _rows(path)
        labels = clean(rows.values(), "occurrence", str(path))
        video, subject = videos.get(name), f"gft:{name}"
        if video is None:
            nothing = Recording(
                subject, name, UNITS, labels[:0], images=(), missing=len(labels)
            )
            recordings.append(nothing)
        else:
            pictures = np.array(list(rows), np.int32) - FIRST_VIDEO_FRAME
            found = Recording(subject, name, UNITS, labels, video=video, pictures=pictures)
            recordings.append(found)
    return recordings


def _rows(path: Path) -> dict[int, list[int]]:
    """Labels by frame; whatever is neither 0 nor 1 as -1."""
    header, rows = headed_rows(path)
    columns = units_of(header, UNITS, path)
    found: dict[int, list[int]] = {}
    for row in rows:
        where = f"{path}, line {row.line}"
        frame = whole_number(row.cells[0], where)
        raw = [whole_number(row.cells[columns[unit]], where) for unit in UNITS]
        values = [value if value in (0, 1) else -1 for value in raw]
        if found.setdefault(frame, values) != values:
            raise TableError(f"{where}: frame {frame} was given before with other labels")
    return found


DATA_SET = DataSet(name="gft", kind="occurrence", action_units=UNITS, read=read, frames=172_800)
