"""The rows of a settlement file, as texts with the numbers of their lines: CSV in any encoding, or a sheet of XLSX."""

import codecs
import csv
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any, TextIO

import openpyxl

from domain.errors import Refused
from domain.settlement import Notation

MAX_SIZE = 4 * 1024**3
# What a workbook may unpack to, how many times its size, and how large what is held in memory: all but its sheets.
MAX_UNPACKED = 2 * 1024**3
MAX_RATIO = 100
MAX_STRINGS = 96 * 1024**2
MAX_COLUMNS = 200
MAX_LINES = 5_000_000
MAX_CELL = 4096
# Characters of one row of CSV, with the lines that its quoted cells go on in.
MAX_ROW = 1024**2

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DELIMITERS = ",;\t|"

Row = tuple[int, list[str]]


def digest(path: Path, progress: Callable[[int], None] = lambda _done: None) -> str:
    """The SHA-256 of a file."""
    seen = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1024 * 1024):
            seen.update(part)
            progress(stream.tell())

    return seen.hexdigest()


def rows(path: Path, notation: Notation) -> Iterator[Row]:
    """The rows of a file, one at a time. Raises Refused for what is no such file, or would be too much."""
    if path.stat().st_size > MAX_SIZE:
        raise Refused("file-too-large", f"{path.name}: larger than {MAX_SIZE} bytes")
    found = _sheet(path, notation) if zipfile.is_zipfile(path) else _lines(path, notation)
    for count, row in enumerate(found, 1):
        if count > MAX_LINES:
            raise Refused("file-too-large", f"{path.name}: more than {MAX_LINES} lines")
        yield row


def _lines(path: Path, notation: Notation) -> Iterator[Row]:
    encoding = _encoding(path, notation.encoding)
    # Half a character is a fault of its line, not of the file.
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as stream:
        try:
            delimiter = notation.delimiter or _delimiter(stream.readline(65_536))
            stream.seek(0)
            lines = _Lines(stream, path.name)
            reader = csv.reader(lines, delimiter=delimiter)
            last = 0
            while True:
                lines.left = MAX_ROW
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield last + 1, [f"\udcff{error}"]
                    last = reader.line_num
                    continue
                if cells is None:
                    return
                if any(cells):
                    yield last + 1, cells
                last = reader.line_num
        except UnicodeError:
            raise Refused("file-unreadable", f"{path.name}: it is not written in {encoding}") from None


class _Lines:
    """The lines of a stream; Refused where those of one row, for which `left` is set anew, are too long."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.left = MAX_ROW
        self._stream = stream
        self._name = name
        self._no = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self.left + 1)
        if not line:
            raise StopIteration
        self._no += 1
        self.left -= len(line)
        if self.left < 0:
            raise Refused("file-unreadable", f"{self._name}: line {self._no}: a row of more than {MAX_ROW} characters")

        return line


def _encoding(path: Path, configured: str) -> str:
    with path.open("rb") as stream:
        head = stream.read(4)

    return next((name for mark, name in _MARKS if head.startswith(mark)), configured)


def _delimiter(heading: str) -> str:
    """The one of the usual ones that stands most often in the line of headings."""
    return max(_DELIMITERS, key=heading.count)


def _sheet(path: Path, notation: Notation) -> Iterator[Row]:
    _refuse_bombs(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except Exception as error:  # noqa: BLE001 - whatever a broken archive makes the reader say, it is no workbook
        raise Refused("file-unreadable", f"{path.name}: no workbook ({type(error).__name__})") from None
    with closing(book):
        names = book.sheetnames
        if notation.sheet is not None and notation.sheet not in names:
            raise Refused("file-unreadable", f"{path.name}: there is no sheet {notation.sheet!r}")
        sheet: Any = book[notation.sheet or names[0]]
        sheet.reset_dimensions()
        for no, cells in enumerate(sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS), 1):
            if any(cell is not None for cell in cells):
                yield no, [_text(cell) for cell in cells]


def _refuse_bombs(path: Path) -> None:
    """Look at what an archive says of itself; its reader stops at the sizes that it names."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        raise Refused("file-unreadable", f"{path.name}: a broken archive") from None
    unpacked = sum(each.file_size for each in members)
    if unpacked > MAX_UNPACKED or unpacked > MAX_RATIO * max(path.stat().st_size, 1024):
        raise Refused("file-too-large", f"{path.name}: it unpacks to {unpacked} bytes")
    # The table of texts is found by its type, whatever its name.
    if any(each.file_size > MAX_STRINGS for each in members if not each.filename.startswith("xl/worksheets/")):
        raise Refused("file-too-large", f"{path.name}: too many texts for a workbook; save it as CSV")


def _text(cell: Any) -> str:
    """A cell as it would stand in CSV: a number in the digits that a person sees, a date in ISO 8601."""
    if cell is None:
        return ""
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)

    return str(cell)
