"""DISFA+: 9 subjects, all of them also in DISFA, posed and spontaneous trials, intensities of
12 AUs.

    Labels/SN001/TRIAL/AU1.txt      # comments, then `000.jpg 0` per line
    Images/SN001/TRIAL/000.jpg      pictures by name, from 0

Subjects carry DISFA's names, so that training on one and testing on the other is seen as the
leak that it is.
"""

from pathlib import Path

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    clean,
    first_folder,
    from_images,
    images_by_number,
    subfolders,
)
from ausl_dist.evaluate.datasets.disfa import UNITS
from ausl_dist.tables import TableError, read_text, whole_number

MAX_BYTES = 4 << 20  # of one label file; the published ones have 20 KB
SUBJECTS = tuple(f"SN{number:03d}" for number in (1, 3, 4, 7, 9, 10, 13, 25, 27))


def read(root: Path) -> list[Recording]:
    """One recording per trial; labels 0-5."""
    labels_folder, images_folder = first_folder(root, "Labels"), first_folder(root, "Images")
    recordings = []
    for folder in (
        trial for subject in subfolders(labels_folder) for trial in subfolders(subject)
    ):
        subject, trial = folder.parent.name, folder.name
        columns = [_read_unit(folder / f"AU{unit}.txt") for unit in UNITS]
        numbers = sorted(set.intersection(*(set(column) for column in columns)))
        if not numbers:
            raise TableError(f"{folder}: no picture is labelled for all action units")
        labels = clean(
            ([column[number] for column in columns] for number in numbers),
            "intensity",
            str(folder),
        )
        name = f"{subject}_{trial}".replace(" ", "_")
        images = images_by_number(images_folder / subject / trial)
        recordings.append(from_images(f"disfa:{subject}", name, UNITS, labels, numbers, images))
    return recordings


def _read_unit(path: Path) -> dict[int, int]:
    values: dict[int, int] = {}
    for number, line in enumerate(read_text(path, MAX_BYTES).splitlines(), 1):
        cells, where = line.split(), f"{path}, line {number}"
        if not cells or line.lstrip().startswith("#"):
            continue
        if len(cells) != 2:
            raise TableError(
                f"{where}: {line[:60]!r} should be a picture's name and an intensity"
            )
        picture, value = whole_number(Path(cells[0]).stem, where), whole_number(cells[1], where)
        if values.setdefault(picture, value) != value:
            raise TableError(f"{where}: picture {picture} was {values[picture]} before")
    return values


DATA_SET = DataSet(
    name="disfa_plus",
    kind="intensity",
    action_units=UNITS,
    read=read,
    subjects=SUBJECTS,
    frames=57_150,
    positive_from=2,
)
