"""Refund jobs out of a file: JSON, JSON lines or CSV, read as they come, each with its place in the file."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from cli.errors import Unusable
from domain.errors import FieldError, InvalidJob, InvalidMoney
from domain.job import MAX_BYTES
from domain.money import parse as parse_money

Body = dict[str, Any] | bytes


class FileFormat(StrEnum):
    """How a file of jobs is written."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


SUFFIXES = {".jsonl": FileFormat.JSONL, ".ndjson": FileFormat.JSONL, ".csv": FileFormat.CSV}
#: Columns of CSV that are no text.
NUMBERS = frozenset({"expect_refundable"})
AMOUNTS = {"amount": "currency", "payment.amount": "payment.currency"}
LISTS = frozenset({"items", "custom_references"})
_WHOLE = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, slots=True)
class Line:
    """One job and its line (of JSON: its number), or why there is none."""

    number: int
    body: Body | None
    problem: InvalidJob | None = None


def format_of(name: str) -> FileFormat:
    """By the file's suffix, else JSON."""
    return SUFFIXES.get(Path(name).suffix.lower(), FileFormat.JSON)


def read(stream: BinaryIO, how: FileFormat, account: str | None) -> Iterator[Line]:
    """The jobs of a stream. `account` is taken where a job names none. Raises Unusable for what is no such file."""
    readers: dict[FileFormat, Callable[[BinaryIO], Iterator[Line]]] = {
        FileFormat.JSON: _json,
        FileFormat.JSONL: _jsonl,
        FileFormat.CSV: _csv,
    }
    for line in readers[how](stream):
        yield line if account is None else _with_account(line, account)


def _with_account(line: Line, account: str) -> Line:
    body = line.body
    if isinstance(body, bytes):
        try:
            body = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return line  # the door says what is wrong with it
    if not isinstance(body, dict) or "account" in body:
        return line

    return Line(line.number, {"account": account, **body})


def _json(stream: BinaryIO) -> Iterator[Line]:
    """One job, or a list of jobs."""
    try:
        given = json.loads(stream.read())
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not JSON: {error}; say --format jsonl or csv if it is that") from None
    for number, job in enumerate(given if isinstance(given, list) else [given], 1):
        yield Line(number, job if isinstance(job, dict) else json.dumps(job).encode())


def _jsonl(stream: BinaryIO) -> Iterator[Line]:
    """One job in each line; a line that is too long is never held in memory."""
    number = 0
    while line := stream.readline(MAX_BYTES + 2):
        number += 1
        whole = line.endswith(b"\n") or len(line) < MAX_BYTES + 2
        while not whole:
            rest = stream.readline(MAX_BYTES)
            whole = not rest or rest.endswith(b"\n")
        if line.strip():
            yield Line(number, line.strip(b"\r\n"))


def _csv(stream: BinaryIO) -> Iterator[Line]:
    """Named columns, dotted for nested members."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        yield from _csv_lines(text)
    except UnicodeDecodeError:
        raise Unusable("the CSV file is not UTF-8") from None
    except csv.Error as error:
        raise Unusable(f"the CSV file cannot be read: {error}") from None
    finally:
        text.detach()


def _csv_lines(text: io.TextIOWrapper) -> Iterator[Line]:
    head = text.readline()
    names = [name.strip() for name in next(csv.reader([head], delimiter=_delimiter(head)), [])]
    if not names or "" in names or len(set(names)) < len(names):
        raise Unusable("the first line of a CSV file names its columns, each once, such as reference,payment.id,amount")
    rows = csv.reader(text, delimiter=_delimiter(head))
    for cells in rows:
        if any(cell.strip() for cell in cells):
            yield _row(rows.line_num + 1, names, cells)


def _delimiter(head: str) -> str:
    return ";" if ";" in head and "," not in head else ","


def _row(number: int, names: list[str], cells: list[str]) -> Line:
    if len(cells) != len(names):
        return Line(number, None, _fault("#", f"the line has {len(cells)} cells, the head names {len(names)} columns"))
    job: dict[str, Any] = {}
    try:
        for name, cell in zip(names, cells, strict=True):
            if cell.strip():
                _put(job, name, cell.strip())
    except InvalidJob as problem:
        return Line(number, None, problem)

    return Line(number, job)


def _put(job: dict[str, Any], name: str, cell: str) -> None:
    if name in AMOUNTS:
        amount, currency = _amount(name, cell)
        _set(job, name, amount)
        if currency is not None:
            _set(job, AMOUNTS[name], currency)
        return
    _set(job, name, _value(name, cell))


def _amount(name: str, cell: str) -> tuple[int, str | None]:
    """Minor units, or major ones with their currency."""
    if _WHOLE.fullmatch(cell):
        return int(cell), None
    try:
        money = parse_money(cell)
    except InvalidMoney:
        pointer = "#/" + name.replace(".", "/")
        raise _fault(pointer, f"{cell[:40]!r}: whole minor units (1250) or an amount like '12.50 EUR'") from None

    return money.amount, money.currency


def _value(name: str, cell: str) -> Any:
    if name in NUMBERS or name.endswith(".quantity"):
        return int(cell) if _WHOLE.fullmatch(cell) else cell
    if name not in LISTS:
        return cell
    try:
        return json.loads(cell)
    except ValueError:
        raise _fault(f"#/{name}", "a JSON list is expected") from None


def _set(job: dict[str, Any], name: str, value: Any) -> None:
    """Dotted names make nested members; what two columns set must be the same."""
    *parents, last = name.split(".")
    place = job
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise _fault("#/" + name.replace(".", "/"), f"{parent} is a value already")
        place = inner
    if place.get(last, value) != value:
        raise _fault("#/" + name.replace(".", "/"), f"both {place[last]} and {value} are given")
    place[last] = value


def _fault(pointer: str, detail: str) -> InvalidJob:
    return InvalidJob(FieldError(pointer, detail))
