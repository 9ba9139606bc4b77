"""The cells of an .xlsx file's first sheet as text: all that label tables need, without a
spreadsheet library.
"""

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

MAX_PART_BYTES = 256 << 20
NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_rows(path: Path) -> list[list[str]]:
    """Rows of the first sheet; empty cells are empty texts.

    ValueError when the file is no such table.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            shared = _shared_texts(archive)
            sheets = sorted(
                name
                for name in archive.namelist()
                if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name)
            )
            if not sheets:
                raise ValueError(f"{path} has no worksheet")
            root = _parse(archive, sheets[0])
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError) as error:
        raise ValueError(f"{path} is not a readable .xlsx ({error}); save it as .csv") from error
    rows = []
    for row in root.iter(f"{NAMESPACE}row"):
        cells: dict[int, str] = {}
        for cell in row.iter(f"{NAMESPACE}c"):
            cells[_column(cell.get("r", ""), len(cells))] = _text(cell, shared)
        rows.append([cells.get(position, "") for position in range(max(cells, default=-1) + 1)])
    return rows


def _parse(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > MAX_PART_BYTES:
        raise ValueError(f"{name} is larger than {MAX_PART_BYTES} bytes: this is no label table")
    data = archive.read(name)
    if b"<!DOCTYPE" in data[:4096] or b"<!ENTITY" in data[:4096]:
        raise ValueError(f"{name} declares entities, which no spreadsheet does")
    return ElementTree.fromstring(data)


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    root = _parse(archive, "xl/sharedStrings.xml")
    return [
        "".join(text.text or "" for text in item.iter(f"{NAMESPACE}t"))
        for item in root.iter(f"{NAMESPACE}si")
    ]


def _text(cell: ElementTree.Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(text.text or "" for text in cell.iter(f"{NAMESPACE}t"))
    value = cell.findtext(f"{NAMESPACE}v") or ""
    return shared[int(value)] if cell.get("t") == "s" else value


def _column(reference: str, following: int) -> int:
    """Column of a reference such as 'AB12', from 0; cells may be left out of a row, so counting
    them is not enough.
    """
    letters = re.match(r"[A-Z]{1,3}", reference)
    if not letters:
        return following
    number = 0
    for letter in letters[0]:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1
