"""The work of every peer that uses processes, threads or greenlets: one refund, two commits, one request.

The attempt is on record before the request leaves; the answer and the refund's end after it. One idempotency key per
refund. SQLAlchemy Core, and an httpx client with a warm connection for each of those who work at the same time.
"""

import json
import os
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from sqlalchemy import Engine, create_engine, text

TAKE = text("UPDATE refund SET state = 'sending', updated_at = :now WHERE id = :id AND state = 'queued' RETURNING *")
START = text("INSERT INTO attempt (refund_id, no, started_at) VALUES (:id, 1, :now)")
END = text("UPDATE attempt SET ended_at = :now, http_status = :status, answer = :answer WHERE refund_id = :id")
CLOSE = text("UPDATE refund SET state = :state, provider_refund_id = :found, updated_at = :now WHERE id = :id")

_database: Engine | None = None
_clients: "queue.LifoQueue[httpx.Client]" = queue.LifoQueue()


def database() -> Engine:
    """This process's connections, opened after the fork."""
    global _database  # noqa: PLW0603 - one per process
    if _database is None:
        _database = create_engine(os.environ["PEER_DATABASE"], pool_size=100)
    return _database


def forget() -> None:
    """Close the connections: the next refund is in another database."""
    global _database  # noqa: PLW0603 - one per process
    if _database is not None:
        _database.dispose()
        _database = None


@contextmanager
def client() -> Iterator[httpx.Client]:
    """A client with a warm connection that nobody else is using: sharing one makes httpx search its pool."""
    try:
        taken = _clients.get_nowait()
    except queue.Empty:
        taken = httpx.Client(base_url=os.environ["PEER_PROVIDER"], timeout=30)
    yield taken
    _clients.put(taken)


def take(refund_id: str) -> dict[str, object] | None:
    """Take the refund and put the attempt on record, in one commit; None where somebody else has it."""
    given = {"id": refund_id, "now": time.time()}
    with database().begin() as connection:
        row = connection.execute(TAKE, given).one_or_none()
        if row is None:
            return None
        connection.execute(START, given)

    return {"payment": row.payment, "amount": row.amount, "currency": row.currency, "reference": row.id}


def send(refund_id: str, body: dict[str, object]) -> tuple[int, str]:
    """Ask the provider; status and body of its answer."""
    with client() as http:
        answer = http.post("/refunds", json=body, headers={"Idempotency-Key": refund_id})

    return answer.status_code, answer.text


def record(refund_id: str, status: int, answer: str) -> None:
    """Put the answer on record and close the refund, in one commit."""
    body = json.loads(answer)
    given = {"id": refund_id, "now": time.time()}
    with database().begin() as connection:
        connection.execute(END, {**given, "status": status, "answer": answer})
        connection.execute(CLOSE, {**given, "state": body["status"], "found": body["id"]})


def pay(refund_id: str) -> None:
    """Pay one refund."""
    body = take(refund_id)
    if body is not None:
        record(refund_id, *send(refund_id, body))


def wanted() -> list[str]:
    """The refunds named on the command line: `FIRST LAST`."""
    first, last = map(int, sys.argv[1:3])
    return [f"rf_{number}" for number in range(first, last + 1)]
