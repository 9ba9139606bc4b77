"""The cells of an .xlsx file's first sheet as text: all that label tables need, without a
spreadsheet library.

    file ──zip, bounded──▶ XML in pieces ──▶ rows, one at a time

No tree is built, and everything that a small file could ask much memory for has a bound: bytes
after unpacking, rows, cells, depth.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from xml.parsers import expat

from ausl_dist.tables import MAX_ROWS, TableError

MAX_FILE_BYTES = 64 << 20
MAX_DIRECTORY_BYTES = (
    1 << 20
)  # the list of parts at the end of the zip; a workbook has about twenty
MAX_PART_BYTES = 256 << 20  # read in pieces
MAX_TEXT_CHARACTERS = 32 << 20  # of all cells
MAX_CELLS = 1 << 21  # empty ones before a cell's column included
MAX_COLUMNS = 1 << 14  # what the format has
MAX_DEPTH = 32
MAX_TOKEN_BYTES = 1 << 20
PIECE_BYTES = 64 << 10
_END_OF_ZIP = b"PK\x05\x06"
_SHEET = re.compile(r"xl/worksheets/sheet(\d{1,9})\.xml")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_rows(path: Path) -> list[list[str]]:
    """Rows of the first sheet; empty cells are empty texts.

    TableError when the file is no such table, or is larger than a table of labels may be.
    """
    with _errors(path):
        _check_ends(path)
        with zipfile.ZipFile(path) as archive:
            names = {info.filename: info for info in archive.infolist()}
            sheets = sorted((name for name in names if _SHEET.fullmatch(name)), key=_number)
            if not sheets:
                raise TableError("it has no worksheet")
            shared = _Texts()
            if "xl/sharedStrings.xml" in names:
                _parse(archive, names["xl/sharedStrings.xml"], shared)
            sheet = _Sheet(shared.texts)
            _parse(archive, names[sheets[0]], sheet)
    return sheet.rows


class _SheetHandler:
    """What is told of each element; a name comes without its namespace."""

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def text(self, text: str) -> None: ...

    def end(self, name: str) -> None: ...


class _Text:
    """Text that comes in pieces, and not too much of it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._total = 0

    def add(self, piece: str) -> None:
        self._total += len(piece)
        if self._total > MAX_TEXT_CHARACTERS:
            raise TableError(f"it holds more than {MAX_TEXT_CHARACTERS} characters of text")
        self._pieces.append(piece)

    def take(self) -> str:
        text = "".join(self._pieces)
        self._pieces.clear()
        return text


class _Texts(_SheetHandler):
    """The shared texts: <si> with one <t>, or with several in runs."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._text, self._inside = _Text(), False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name == "t"

    def text(self, text: str) -> None:
        if self._inside:
            self._text.add(text)

    def end(self, name: str) -> None:
        self._inside = False
        if name == "si":
            if len(self.texts) >= MAX_CELLS:
                raise TableError(f"it has more than {MAX_CELLS} texts")
            self.texts.append(self._text.take())


class _Sheet(_SheetHandler):
    """<row> of <c r="AB12" t="s"> with <v>, or <is><t>."""

    def __init__(self, shared: list[str]) -> None:
        self.rows: list[list[str]] = []
        self._shared = shared
        self._text, self._inside, self._cells = _Text(), False, 0
        self._row: list[str] = []
        self._kind, self._column = "", 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            self._row = []
        elif name == "c":
            self._kind = attributes.get("t", "")
            self._column = _column(attributes.get("r", ""), len(self._row))
            self._text.take()
        self._inside = name == ("t" if self._kind == "inlineStr" else "v")

    def text(self, text: str) -> None:
        if self._inside:
            self._text.add(text)

    def end(self, name: str) -> None:
        self._inside = False
        if name == "c":
            self._put(self._value())
        elif name == "row":
            if len(self.rows) >= MAX_ROWS:
                raise TableError(f"it has more than {MAX_ROWS} rows")
            self.rows.append(self._row)
            self._row = []

    def _put(self, text: str) -> None:
        grown = max(self._column + 1 - len(self._row), 0)
        self._cells += grown
        if self._cells > MAX_CELLS or self._column >= MAX_COLUMNS:
            raise TableError(f"it has more than {MAX_CELLS} cells, or {MAX_COLUMNS} columns")
        self._row += [""] * grown
        self._row[self._column] = text

    def _value(self) -> str:
        text = self._text.take()
        if self._kind != "s":
            return text
        plain = text.strip()
        at = int(plain) if re.fullmatch(r"\d{1,9}", plain, re.ASCII) else len(self._shared)
        if at >= len(self._shared):
            raise TableError(f"a cell names the shared text {plain[:20]!r}, which is not there")
        return self._shared[at]


def _parse(archive: zipfile.ZipFile, info: zipfile.ZipInfo, handler: _SheetHandler) -> None:
    if info.file_size > MAX_PART_BYTES or info.compress_type not in _METHODS:
        raise TableError(
            f"{info.filename} is larger than {MAX_PART_BYTES} bytes, or packed in an unusual way"
        )
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = fed = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise TableError(f"{info.filename} is nested more than {MAX_DEPTH} deep")
        handler.start(name.rpartition("}")[2], attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(name.rpartition("}")[2])

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    with archive.open(info) as part:
        for piece in _pieces(part):
            fed += len(piece)
            parser.Parse(piece, False)
            if (
                fed - parser.CurrentByteIndex > MAX_TOKEN_BYTES
            ):  # each piece would go over it again
                raise TableError(f"{info.filename} holds a name or tag of {fed} bytes and more")
    parser.Parse(b"", True)


def _refuse_doctype(*_: object) -> None:
    raise TableError("it declares a document type or entities, which no spreadsheet does")


def _pieces(part: IO[bytes]) -> Iterator[bytes]:
    while piece := part.read(PIECE_BYTES):
        yield piece


def _check_ends(path: Path) -> None:
    """Look at the end of the zip before its list of parts is read into memory."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise TableError(f"it is larger than {MAX_FILE_BYTES} bytes")
    with open(path, "rb") as file:
        file.seek(max(size - (1 << 16) - 22, 0))
        tail = file.read()
    at = tail.rfind(_END_OF_ZIP)
    if at < 0 or int.from_bytes(tail[at + 12 : at + 16], "little") > MAX_DIRECTORY_BYTES:
        raise TableError("it is no zip, or one of very many parts")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file becomes one sentence that names it."""
    try:
        yield
    except (
        *(TableError, zipfile.BadZipFile, zlib.error, expat.ExpatError, EOFError, KeyError),
        *(NotImplementedError, RuntimeError, UnicodeError, OverflowError),
    ) as error:
        text = str(error) or type(error).__name__
        raise TableError(f"{path} is not a readable .xlsx: {text}; save it as .csv") from error


def _number(name: str) -> int:

    found = _SHEET.fullmatch(name)
    assert found is not None
    return int(found[1])


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
