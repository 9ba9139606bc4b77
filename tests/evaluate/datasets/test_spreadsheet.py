"""A spreadsheet of any content takes little memory, and is a table or a sentence."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ausl_dist.evaluate.datasets.spreadsheet import read_rows
from ausl_dist.tables import TableError
from tests.support.fuzz import MAX_BYTES, fuzz, inputs, patience, peak, reset_peak

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
SHEET = "xl/worksheets/sheet1.xml"


def workbook(path: Path, body: str, shared: str | None = None, method: int = 8) -> Path:
    """An .xlsx with these rows, and shared texts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(
            SHEET, f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>'
        )
        if shared is not None:
            archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{MAIN}">{shared}</sst>')
    path.write_bytes(buffer.getvalue())
    return path


def test_cells_of_every_kind_are_read(tmp_path: Path) -> None:
    body = (
        '<row r="1"><c r="A1" t="s"><v>1</v></c><c r="C1" t="s"><v>0</v></c></row>'
        '<row r="2"><c r="A2"><v>1.5</v></c><c r="B2" t="inlineStr"><is><t>in</t></is></c>'
        '<c r="C2" t="str"><f>A2&amp;"x"</f><v>made</v></c></row><row r="3"/>'
    )
    shared = "<si><t>plain</t></si><si><r><t>in </t></r><r><t>runs</t></r></si>"
    path = workbook(tmp_path / "a.xlsx", body, shared)
    assert read_rows(path) == [["in runs", "", "plain"], ["1.5", "in", "made"], []]


BOMBS: dict[str, Callable[[Path], Path]] = {
    "rows": lambda path: workbook(path, "<row/>" * 600_000),
    "cells": lambda path: workbook(path, '<row><c r="A1"/></row>' * 600_000),
    "columns": lambda path: workbook(path, '<row><c r="XFD1"/></row>' * 9_000),
    "beyond": lambda path: workbook(path, '<row><c r="ZZZ1"/></row>'),
    "depth": lambda path: workbook(path, "<row>" * 1_000_000),
    "text": lambda path: workbook(path, f"<row><c><v>{'x' * 60_000_000}</v></c></row>"),
    "texts": lambda path: workbook(path, "<row/>", "<si/>" * 2_200_000),
    "attribute": lambda path: workbook(path, f'<row x="{"y" * 60_000_000}"/>'),
    "lzma": lambda path: workbook(path, "<row/>", method=zipfile.ZIP_LZMA),
    "shared": lambda path: workbook(path, '<row><c t="s"><v>7</v></c></row>', "<si/>"),
    "minus": lambda path: workbook(path, '<row><c t="s"><v>-1</v></c></row>', "<si/>"),
    "digits": lambda path: workbook(
        path, f'<row><c t="s"><v>{"9" * 5000}</v></c></row>', "<si/>"
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_cannot_ask_for_much_memory(name: str, tmp_path: Path) -> None:
    path = BOMBS[name](tmp_path / "bomb.xlsx")
    reset_peak()
    before = peak()
    with pytest.raises(TableError, match=r"bomb\.xlsx is not a readable"):
        read_rows(path)
    assert peak() - before < MAX_BYTES


def test_entities_and_many_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(SHEET, '<!DOCTYPE a [<!ENTITY b "c">]><worksheet>&b;</worksheet>')
    with pytest.raises(TableError, match="entities"):
        read_rows(path)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"xl/{number}.xml", "")
    with pytest.raises(TableError, match="very many parts"):
        read_rows(path)
    path.write_bytes(b"PK")
    with pytest.raises(TableError, match="no zip"):
        read_rows(path)


@patience
def test_any_bytes_are_read_or_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", "<row><c><v>1</v></c></row>" * 9, "<si><t>a</t></si>")
    count = inputs(100)
    assert sum(1 for _ in fuzz([path], lambda: read_rows(path), count)) == count
