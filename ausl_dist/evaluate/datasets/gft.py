"""GFT: 96 subjects in groups of three, occurrence of 10 AUs.

    AU_occur/SUBJECT.csv    header that names the frame and the AUs; one row per frame; anything but
    0 and 1 is unknown SUBJECT.mp4             videos, whose first frame is frame 1

The layout of the released meta-data could not be checked here: columns are taken by name, and
`python -m tools.verify_labels gft DIR` says what was found. The standard split has 78 subjects to train on
and 18 to test.
"""

from pathlib import Path

import numpy as np

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    au_columns,
    clean,
    first_folder,
    read_text,
    to_int,
)

UNITS = (1, 2, 4, 6, 10, 12, 14, 15, 23, 24)
FIRST_VIDEO_FRAME = 1


def read(root: Path) -> list[Recording]:
    """One recording per subject; labels 0/1/-1."""
    recordings = []
    for path in sorted(
        first_folder(root, "AU_occur", "AU_OCC", "meta-data/AU_occur").glob("*.csv")
    ):
        lines = [line.split(",") for line in read_text(path).splitlines() if line.strip()]
        columns = au_columns(lines[0], str(path)) if lines else {}
        if set(UNITS) - set(columns):
            raise ValueError(
                f"{path}: its first line must name AU {list(UNITS)}, it names {sorted(columns)}"
            )
        numbers = [to_int(line[0], f"{path}, line {n}") for n, line in enumerate(lines[1:], 2)]
        raw = [
            [to_int(line[columns[unit]], f"{path}, line {n}") for unit in UNITS]
            for n, line in enumerate(lines[1:], 2)
        ]
        labels = clean(
            ([value if value in (0, 1) else -1 for value in row] for row in raw),
            "occurrence",
            str(path),
        )
        videos = sorted(root.rglob(f"{path.stem}.mp4")) + sorted(root.rglob(f"{path.stem}.avi"))
        subject = f"gft:{path.stem}"
        if videos:
            pictures = np.array(numbers, np.int32) - FIRST_VIDEO_FRAME
            recordings.append(
                Recording(subject, path.stem, UNITS, labels, video=videos[0], pictures=pictures)
            )
        else:
            recordings.append(
                Recording(subject, path.stem, UNITS, labels[:0], images=(), missing=len(labels))
            )
    return recordings


DATA_SET = DataSet(name="gft", kind="occurrence", action_units=UNITS, read=read, frames=172_800)
