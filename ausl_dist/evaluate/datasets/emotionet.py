"""EmotioNet, the manually coded part: one row per picture from the web, occurrence of 12 AUs.

    emotionet_facs_24600.xlsx, or the same table saved as .csv    columns URL and 'AU 1', 'AU 2', …
    (quotes included); 999 unknown images/NAME.jpg                                               the
    pictures that could still be downloaded, under their own names

Nobody knows who is who: each picture is a subject of its own, and the split is by picture, as in
the published protocol.
"""

import csv
import io
from pathlib import Path

from ausl_dist.evaluate.datasets.base import (
    IMAGE_SUFFIXES,
    DataSet,
    Recording,
    au_columns,
    clean,
    first_folder,
    read_text,
    to_int,
)
from ausl_dist.evaluate.datasets.spreadsheet import read_rows

UNITS = (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43)


def read(root: Path) -> list[Recording]:
    """One recording per picture that lies in images/; labels 0/1/-1."""
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in (".xlsx", ".csv"))
    if not tables:
        raise FileNotFoundError(
            f"{root} has no emotionet_facs_24600.xlsx (or .csv): give the folder that holds it as "
            "root="
        )
    rows = (
        read_rows(tables[0])
        if tables[0].suffix.lower() == ".xlsx"
        else list(csv.reader(io.StringIO(read_text(tables[0]))))
    )
    header = rows[0]
    columns = au_columns(header, str(tables[0]))
    places = {cell.strip().strip("'\"").upper(): position for position, cell in enumerate(header)}
    if "URL" not in places or set(UNITS) - set(columns):
        raise ValueError(
            f"{tables[0]}: its first row must name URL and 'AU k' for k in {list(UNITS)}"
        )
    images = {
        path.name: path
        for path in first_folder(root, "images").iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    recordings = []
    for number, row in enumerate(rows[1:], 2):
        file = row[places["URL"]].strip().strip("'\"").rsplit("/", 1)[-1]
        if file in images:
            where = f"{tables[0]}, row {number}"
            labels = clean(
                [[to_int(row[columns[unit]], where) for unit in UNITS]], "occurrence", where
            )
            name = f"row{number:05d}"
            recordings.append(
                Recording(f"emotionet:{name}", name, UNITS, labels, images=(images[file],))
            )
    return recordings


DATA_SET = DataSet(name="emotionet", kind="occurrence", action_units=UNITS, read=read)
