"""EmotioNet, the manually coded part: one row per picture from the web, occurrence of 12 AUs.

    emotionet_facs_24600.xlsx    columns URL and 'AU 1', 'AU 2', … (quotes included); 999 unknown;
                                 or the same table saved as emotionet_facs_24600.csv
    images/NAME.jpg              the pictures that could still be downloaded, under their own names

Nobody knows who is who: each picture is a subject of its own, and the split is by picture, as
in the published protocol.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ausl_dist.evaluate.datasets.base import (
    IMAGE_SUFFIXES,
    DataSet,
    Recording,
    clean,
    first_folder,
    units_of,
)
from ausl_dist.evaluate.datasets.spreadsheet import read_rows as read_sheet
from ausl_dist.tables import TableError, is_system_file, read_rows, whole_number

TABLE_NAME = re.compile(r"emotionet_facs\w*\.(xlsx|csv)", re.IGNORECASE | re.ASCII)
UNITS = (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43)


def read(root: Path) -> list[Recording]:
    """One recording per picture that lies in images/; labels 0/1/-1."""
    table = _table(root)
    rows = list(_rows(table))
    header = rows[0] if rows else []
    columns = units_of(header, UNITS, table)
    places = {cell.strip("'\" ").upper(): position for position, cell in enumerate(header)}
    if "URL" not in places:
        raise TableError(
            f"{table}: its first row must name URL and 'AU k' for k in {list(UNITS)}"
        )
    images = {
        path.name: path
        for path in first_folder(root, "images").iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_system_file(path.name)
    }
    recordings = []
    width = 1 + max(places["URL"], *(columns[unit] for unit in UNITS))
    for number, row in enumerate(rows[1:], 2):
        where = f"{table}, row {number}"
        if not any(row):
            continue
        if len(row) < width:
            raise TableError(f"{where} has {len(row)} cells, its first row names {width}")
        file = row[places["URL"]].strip("'\" ").rsplit("/", 1)[-1]
        if file in images:
            values = [[whole_number(row[columns[unit]], where) for unit in UNITS]]
            labels = clean(values, "occurrence", where)
            name = f"row{number:05d}"
            recordings.append(
                Recording(f"emotionet:{name}", name, UNITS, labels, images=(images[file],))
            )
    return recordings


def _table(root: Path) -> Path:
    """The one file with the published name, a spreadsheet before its copy as .csv."""
    found = [path for path in sorted(root.iterdir()) if TABLE_NAME.fullmatch(path.name)]
    stems = {path.stem for path in found}
    if len(stems) > 1:
        raise ValueError(f"{root} has the tables {', '.join(sorted(stems))}: keep one")
    if not found:
        raise FileNotFoundError(
            f"{root} has no emotionet_facs_24600.xlsx (or .csv): give the folder that holds it as "
            "root="
        )
    return found[-1]  # .csv sorts before .xlsx


def _rows(table: Path) -> Iterable[list[str]]:
    if table.suffix.lower() == ".xlsx":
        return ([cell.strip() for cell in row] for row in read_sheet(table))
    return (row.cells for row in read_rows(table))


DATA_SET = DataSet(name="emotionet", kind="occurrence", action_units=UNITS, read=read)
