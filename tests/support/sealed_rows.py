"""Rows with a value in every sealed column, so that no walk over them can forget one."""

from typing import Any

from sqlalchemy import Connection, insert, select

from engine.bootstrap import Engine
from ledger import models
from ledger.sealed import COLUMNS, name_of

NOW = 1_700_000_000.0


def _rows(no: int, sealed: bytes) -> dict[Any, dict[str, Any]]:
    refund_id = f"rf_{no:026d}"

    return {
        models.attempt: {
            "refund_id": refund_id,
            "no": no,
            "handle": "h",
            "method": "POST",
            "url": "https://provider.example",
            "headers": "[]",
            "body": sealed,
            "body_hash": "0" * 64,
            "fingerprint": "f",
            "started_at": NOW,
            "worker": "w",
            "fence": 1,
            "answer": sealed,
        },
        models.webhook_endpoint: {
            "id": f"we_{no}",
            "url": "https://shop.example",
            "types": "[]",
            "accounts": "[]",
            "secrets": sealed,
            "created_by": "ada",
            "created_at": NOW,
            "changed_by": "ada",
            "changed_at": NOW,
        },
        models.webhook_attempt: {"delivery": f"wd_{no}", "at": NOW, "ms": 1, "answer": sealed},
        models.rejected: {
            "id": f"rj_{no}",
            "at": NOW,
            "source": f"stream:{no}",
            "errors": "{}",
            "body": sealed,
            "size": 1,
            "body_hash": "0" * 64,
        },
        models.notification: {
            "id": f"nt_{no}",
            "account": "us",
            "key": f"{no}",
            "kind": "refund",
            "verified": True,
            "body": sealed,
            "size": 1,
            "body_hash": "0" * 64,
            "state": "done",
            "received_at": NOW,
            "last_at": NOW,
        },
        models.approval: {
            "id": f"ap_{no}",
            "difference_id": f"df_{no}",
            "kind": "accept",
            "rule": "r",
            "params": "{}",
            "snapshot": "{}",
            "evidence": sealed,
            "reason": "r",
            "requested_by": "ada",
            "requested_at": NOW,
            "expires_at": NOW,
            "status": "expired",
        },
    }


def fill(engine: Engine, *numbers: int, content: bytes = b"what is sealed") -> None:
    """One row with these numbers in every table that has a sealed column, but `refund`."""

    def work(connection: Connection) -> None:
        for no in numbers:
            for table, values in _rows(no, engine.vault.seal(content)).items():
                connection.execute(insert(table).values(values))

    engine.ledger.run(work)


def everything(engine: Engine) -> dict[str, list[bytes]]:
    """Every sealed value, by column, in the order of their rows."""
    with engine.ledger.read() as connection:
        return {
            name_of(column): [
                bytes(value)
                for value in connection.execute(select(column).order_by(*column.table.primary_key)).scalars()
                if value
            ]
            for column in COLUMNS
        }
