"""Aff-Wild2, as distributed for the ABAW challenges: videos from the web, occurrence of 12 AUs,
cropped pictures.

    AU_Detection_Challenge/Train_Set/VIDEO.txt   line 1 names the AUs; then a row per frame, 0/1, -1
    disregard AU_Detection_Challenge/Validation_Set/VIDEO.txt cropped_aligned/VIDEO/00001.jpg
    row k is picture k, from 1; frames without a face have no file

VIDEO may end in _left or _right: two persons of one video, who are different subjects. The labels
of the test set are not public.
"""

from pathlib import Path

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

UNITS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
PARTS = ("Train_Set", "Validation_Set")
FIRST_FRAME = 1


def read(root: Path) -> list[Recording]:
    """One recording per annotated video, its part in front of the name; labels 0/1/-1."""
    annotations = first_folder(root, "AU_Detection_Challenge", "annotations/AU_Set", "AU_Set")
    images_folder = first_folder(root, "cropped_aligned")
    recordings = []
    for part in PARTS:
        for path in sorted((annotations / part).glob("*.txt")):
            lines = [line.split(",") for line in read_text(path).splitlines() if line.strip()]
            columns = au_columns(lines[0], str(path)) if lines else {}
            if set(UNITS) - set(columns):
                raise ValueError(
                    f"{path}: its first line must name AU {list(UNITS)}, it names {sorted(columns)}"
                )
            values = (
                [to_int(line[columns[unit]], f"{path}, line {n}") for unit in UNITS]
                for n, line in enumerate(lines[1:], 2)
            )
            labels = clean(values, "occurrence", str(path))
            numbers = list(range(FIRST_FRAME, FIRST_FRAME + len(labels)))
            images = images_by_number(images_folder / path.stem)
            name = f"{part}-{path.stem}".replace(".", "-")
            recordings.append(
                from_images(f"aff_wild2:{path.stem}", name, UNITS, labels, numbers, images)
            )
    return recordings


DATA_SET = DataSet(name="aff_wild2", kind="occurrence", action_units=UNITS, read=read)
