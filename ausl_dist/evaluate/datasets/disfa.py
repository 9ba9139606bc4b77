"""DISFA: 27 subjects, one video each of two cameras, intensities of 12 AUs in every frame.

    ActionUnit_Labels/SN001/SN001_au1.txt        frame,intensity without a header; **frames start
                                                 at 1**, so label k is picture k - 1
    Videos_LeftCamera/LeftVideoSN001_comp.avi    also Video_LeftCamera, and names in other case;
                                                 SN010 has 4844 frames, the others 4845

Labels change in 0.25 % of frames: an error of one frame cannot be seen in any score, only in
`python -m tools.verify_labels`.
"""

import re
from pathlib import Path

import numpy as np

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    clean,
    first_folder,
    frame_values,
    subfolders,
    videos_by_key,
)

UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
OCCURRENCE_UNITS = (1, 2, 4, 6, 9, 12, 25, 26)
SUBJECTS = tuple(
    f"SN{number:03d}" for number in (*range(1, 14), 16, 17, 18, 21, *range(23, 33))
)
FIRST_FRAME = 1
CAMERAS = {side: (f"Videos_{side}Camera", f"Video_{side}Camera") for side in ("Left", "Right")}


def read(root: Path, camera: str = "Left") -> list[Recording]:
    """One recording per subject; labels 0-5. `camera` is Left (as most papers) or Right."""
    labels_folder = first_folder(root, "ActionUnit_Labels")
    videos = _videos(root, camera)
    recordings = []
    for folder in subfolders(labels_folder):
        subject = folder.name
        columns = [_read_unit(folder / f"{subject}_au{unit}.txt") for unit in UNITS]
        numbers = sorted(columns[0])
        if any(sorted(column) != numbers for column in columns):
            raise ValueError(
                f"{folder}: the files of its action units list different frames: "
                "the copy is damaged"
            )
        if numbers[0] != FIRST_FRAME:
            raise ValueError(
                f"{folder}: frames start at {numbers[0]}, in DISFA at {FIRST_FRAME}: "
                "these labels were renumbered"
            )
        labels = clean(
            ([column[number] for column in columns] for number in numbers),
            "intensity",
            str(folder),
        )
        video = videos.get(subject)
        if video is None:
            recordings.append(
                Recording(
                    f"disfa:{subject}",
                    subject,
                    UNITS,
                    labels[:0],
                    images=(),
                    missing=len(numbers),
                )
            )
        else:
            pictures = np.array(numbers, np.int32) - FIRST_FRAME
            recordings.append(
                Recording(
                    f"disfa:{subject}", subject, UNITS, labels, video=video, pictures=pictures
                )
            )
    return recordings


def _read_unit(path: Path) -> dict[int, int]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: DISFA has 12 label files per subject")
    return frame_values(path)


def _videos(root: Path, camera: str) -> dict[str, Path]:
    """Video by subject. The case of names differs between releases."""
    if camera not in CAMERAS:
        raise ValueError(f"camera must be Left or Right, not {camera!r}")
    name = re.compile(rf"{camera}Video(SN\d{{3}})(?:_comp)?", re.IGNORECASE | re.ASCII)

    def subject(path: Path) -> str | None:
        match = name.fullmatch(path.stem)
        return match[1].upper() if match else None

    return videos_by_key(first_folder(root, *CAMERAS[camera]).iterdir(), subject)


DATA_SET = DataSet(
    name="disfa",
    kind="intensity",
    action_units=UNITS,
    read=read,
    subjects=SUBJECTS,
    frames=130_814,
    rates=dict(zip(OCCURRENCE_UNITS, (5.0, 4.0, 15.0, 7.9, 4.2, 12.9, 27.8, 8.9), strict=True)),
    positive_from=2,
    occurrence_units=OCCURRENCE_UNITS,
)
