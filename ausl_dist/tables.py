"""Rows and numbers of tables that somebody else wrote, bounded: the one reader of label files.

    file ──▶ read_rows ──▶ Row (line, cells) ──▶ whole_number ──▶ an int that fits anywhere

Whatever a file holds, the end is a value or a TableError that names the file and the line.
Lines come one at a time; only what the caller keeps takes memory.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ausl_dist.files import check_plain

MAX_TEXT_BYTES = 64 << 20
MAX_ROWS = 1 << 19  # the largest published list has 200,000
MAX_LINE_CHARACTERS = 1 << 16  # OpenFace writes 714 columns, about 6,000 characters
MAX_NUMBER_CHARACTERS = 40
MAX_NUMBER = 1 << 31
MAX_SHOWN = 40  # characters of foreign text in a message
DELIMITERS = ",;\t"

# What operating systems leave beside files: never anybody's data.
_SYSTEM_NAMES = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"),
        *("system volume information", "__macosx", "icon\r", "lost+found"),
        *("@eadir", "#recycle", "#snapshot"),  # of disk stations
    )
)

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


class TableError(ValueError):
    """A table that cannot be read; the message names the file, the line and what is wrong."""


class Row(NamedTuple):
    """One line that is not empty."""

    line: int  # in the file, from 1
    cells: list[str]  # without blanks at their ends


def is_system_file(name: str) -> bool:
    """Whether a file or folder is the system's own (`._a.jpg`, `.DS_Store`, `Thumbs.db`) and is
    passed over wherever inputs are listed; other hidden files count as such, too.
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def has_system_part(path: str) -> bool:
    """Whether any part of a relative path is the system's own."""
    return any(is_system_file(part) for part in path.split("/") if part not in ("", ".", ".."))


def read_rows(
    path: Path,
    *,
    max_bytes: int = MAX_TEXT_BYTES,
    max_rows: int = MAX_ROWS,
    blanks: bool = False,
) -> Iterator[Row]:
    """The rows of a text with a delimiter, which its first line shows: comma, semicolon or tab;
    with `blanks` (and none of those in it) runs of blanks.

    Raises TableError for a file too large, lines too long or too many, and text that is no
    table.
    """
    _check_size(path, max_bytes)
    with open(path, newline="", encoding=_encoding(path), errors="replace") as file:
        lines = _bounded(file, path)
        first = next((line for line in lines if line[1].strip()), None)
        if first is None:
            return
        delimiter = max(DELIMITERS, key=first[1].count)
        at_blanks = blanks and delimiter not in first[1]
        rows = (
            _split_at_blanks(first, lines)
            if at_blanks
            else _split(first, lines, delimiter, path)
        )
        for count, row in enumerate(rows):
            if count >= max_rows:
                raise TableError(f"{path} has more than {max_rows} rows: this is no label file")
            yield row


def read_lines(
    path: Path, *, max_bytes: int = MAX_TEXT_BYTES, max_rows: int = MAX_ROWS
) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not empty, with their numbers from 1; TableError as above."""
    _check_size(path, max_bytes)
    with open(path, encoding=_encoding(path), errors="replace") as file:
        for count, (number, line) in enumerate(_bounded(file, path)):
            if count >= max_rows:
                raise TableError(
                    f"{path} has more than {max_rows} lines: this is no label file"
                )
            if line.strip():
                yield number, line.strip()


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """A text file of at most `max_bytes`; TableError with the path when it is larger or no
    text.
    """
    _check_size(path, max_bytes)
    try:
        return path.read_text(encoding=_encoding(path))
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not text ({error.reason})") from error


def number(text: str, where: str) -> float:
    """A number as label files write it (1, ' 1', '1', 1.0, 1.0e+00), of less than 2^31.

    TableError, which begins with `where`, for anything else.
    """
    plain = text.strip().strip("'\"").strip()
    if len(plain) > MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(plain):
        raise TableError(f"{where}: {shown(text)} is not a number")
    value = float(plain)
    if not abs(value) < MAX_NUMBER:
        raise TableError(f"{where}: {shown(text)} is too large to be a label or a frame")
    return value


def whole_number(text: str, where: str) -> int:
    """A whole number as label files write it; see `number`."""
    value = number(text, where)
    if not value.is_integer():
        raise TableError(f"{where}: {shown(text)} is not a whole number")
    return int(value)


def shown(text: str) -> str:
    """The start of foreign text, quoted, for a message."""
    plain = text.strip()
    return repr(plain[:MAX_SHOWN]) + ("…" if len(plain) > MAX_SHOWN else "")


def _encoding(path: Path) -> str:
    """UTF-8, or what Excel calls Unicode text."""
    with open(path, "rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _check_size(path: Path, max_bytes: int) -> None:
    try:
        size = check_plain(path)
    except ValueError as error:
        raise TableError(str(error)) from error
    if size > max_bytes:
        raise TableError(f"{path} is larger than {max_bytes} bytes: this is no label file")


def _bounded(file: IO[str], path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    while line := file.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise TableError(
                f"{path} has a line of more than {MAX_LINE_CHARACTERS} characters: "
                "it is no table of labels"
            )
        yield number, line


def _split(
    first: tuple[int, str], rest: Iterator[tuple[int, str]], delimiter: str, path: Path
) -> Iterator[Row]:
    line = first[0]

    def texts() -> Iterator[str]:
        nonlocal line
        yield first[1]
        for number, text in rest:
            line = number
            yield text

    reader = csv.reader(texts(), delimiter=delimiter)
    try:
        for cells in reader:
            plain = [cell.strip() for cell in cells]
            if any(plain):
                yield Row(line, plain)
    except csv.Error as error:
        raise TableError(f"{path} is no table ({error})") from error


def _split_at_blanks(first: tuple[int, str], rest: Iterator[tuple[int, str]]) -> Iterator[Row]:
    yield Row(first[0], first[1].split())
    for line, text in rest:
        if text.strip():
            yield Row(line, text.split())
