"""CK+: posed sequences from neutral to the peak; only the peak frame is coded, and only the AUs
that are present.

    FACS/S005/001/S005_001_00000011_facs.txt            a line per AU: number and intensity in
                                                        scientific notation
    cohn-kanade-images/S005/001/S005_001_00000011.png   the picture of the same name

Intensity 0 in these files means "present, intensity not coded", so they are read as occurrence;
AUs that are not listed are absent.
"""

from pathlib import Path

import numpy as np

from ausl_dist.evaluate.datasets.base import (
    DataSet,
    Recording,
    first_folder,
    label_files,
    subfolders,
)
from ausl_dist.tables import read_rows, whole_number

UNITS = (1, 2, 4, 5, 6, 7, 9, 11, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26, 27)


def read(root: Path) -> list[Recording]:
    """One recording per subject, of its peak pictures; labels 0/1."""
    labels_folder = first_folder(root, "FACS", "FACS_labels/FACS")
    images_folder = first_folder(
        root, "cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images"
    )
    recordings = []
    for folder in subfolders(labels_folder):
        rows, images, missing = [], [], 0
        for path in label_files(folder, "*/*_facs.txt"):
            name = f"{path.stem.removesuffix('_facs')}.png"
            image = images_folder / folder.name / path.parent.name / name
            if not image.is_file():
                missing += 1
                continue
            present = {
                whole_number(row.cells[0], f"{path}, line {row.line}")
                for row in read_rows(path, blanks=True)
            }
            rows.append([int(unit in present) for unit in UNITS])
            images.append(image)
        labels = np.array(rows, np.int8).reshape(-1, len(UNITS))
        recordings.append(
            Recording(
                f"ck_plus:{folder.name}",
                folder.name,
                UNITS,
                labels,
                images=tuple(images),
                missing=missing,
            )
        )
    return recordings


DATA_SET = DataSet(name="ck_plus", kind="occurrence", action_units=UNITS, read=read)
