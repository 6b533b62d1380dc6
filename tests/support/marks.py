"""What must not be found anywhere: a customer, their bank account, every secret of a running system."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from redis import Redis
from sqlalchemy import select

from ledger import models
from ledger.session import Ledger

CUSTOMER = {
    "reference": "kunde-quetzal-4711",
    "email": "quetzal.feder@kunde.example",
    "first_name": "Wolfgangine",
    "last_name": "Quetzalfeder",
    "phone": "+4915166778899",
    "document": "X9T8Z7Q6P5",
    "address": {"street": "Rosenzweigallee", "city": "Hinterobersdorf"},
}
BANK_ACCOUNT = {
    "account_number": "88776655443",
    "iban": "DE89370400440532013000",
    "bic": "QUETZDEFFXX",
    "bank_name": "Bank of Quetzals",
    "holder_document": "H7G6F5E4D3",
}


def texts(value: Any) -> Iterator[str]:
    """Every text inside a value, short ones aside: they are found by chance."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, str) and len(value) >= 8:
        yield value


def forms(mark: str) -> set[bytes]:
    """How a text may be written somewhere: as it is, in JSON, in an address, in base64."""
    escaped = json.dumps(mark)[1:-1]

    return {each.encode() for each in (mark, escaped, quote(mark, safe=""), quote_plus(mark))} | {
        base64.b64encode(mark.encode())
    }


def found(marks: Iterable[str], content: bytes) -> set[str]:
    """The marks that stand in this content, in any form and in any case."""
    lower = content.lower()

    return {mark for mark in marks if any(form.lower() in lower for form in forms(mark))}


def everything_in_redis(client: "Redis") -> bytes:
    """All keys and values."""
    readers: dict[bytes, Any] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    kept: Any = client.keys()

    types: Any = {key: client.type(key) for key in kept}

    return repr([(key, readers[types[key]](key)) for key in kept]).encode()


def everything_in_the_database(ledger: Ledger) -> bytes:
    """All rows; on SQLite also what the file still has of old ones."""
    with ledger.read() as connection:
        rows = [row for table in models.metadata.sorted_tables for row in connection.execute(select(table))]
    parts = [value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row]
    if ledger.sqlite:
        path = Path(str(ledger.url.database))
        parts += [file.read_bytes() for file in path.parent.glob(f"{path.name}*")]

    return b"\n".join(parts)
