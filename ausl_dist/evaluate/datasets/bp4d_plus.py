"""BP4D+: 140 subjects, 10 tasks. Its label columns are packed: column 5 is AU 6, not AU 5. They
are taken by the names in the header alone.

    AUCoding/AU_OCC/F001_T1.csv    header 0,1,2,4,5,6,7,9,… or Frame,AU01,AU02,…; 9 unknown
    F001_T1.mp4                    videos, whose first frame is frame 1

Subjects are other people than those of BP4D, though they carry the same letters and numbers.
"""

from pathlib import Path

from ausl_dist.evaluate.datasets.base import DataSet, Recording, first_folder, label_files
from ausl_dist.evaluate.datasets.bp4d import LABEL_NAME, UNITS, Media, read_coded_csv

SUBJECTS = (
    *(f"F{number:03d}" for number in range(1, 83)),
    *(f"M{number:03d}" for number in range(1, 59)),
)


def read(root: Path) -> list[Recording]:
    """Recordings of every coded file; labels 0/1/-1."""
    media = Media(root)
    recordings = []
    folder = first_folder(root, "AUCoding/AU_OCC", "AU_OCC", "AUCoding")
    for path in label_files(folder, LABEL_NAME):
        numbers, labels = read_coded_csv(path, UNITS)
        subject, task = path.stem.split("_")[:2]
        recordings.append(media.recording("bp4d_plus", subject, task, UNITS, labels, numbers))
    return recordings


DATA_SET = DataSet(
    name="bp4d_plus",
    kind="occurrence",
    action_units=UNITS,
    read=read,
    subjects=SUBJECTS,
    frames=197_756,
)
