"""The rival: a plain Celery task per refund, as a good team would write it.

Late acknowledgement, prefetch of one, no result backend, connections kept open. Three commits: the attempt is on
record before the request leaves, the answer after it, then the refund is closed. One idempotency key per refund.
A second task that does nothing shows what Celery itself costs.

    celery -A benchmarks.plain_celery worker --pool=prefork -c 16

It reads `PLAIN_BROKER`, `PLAIN_DATABASE` and `PLAIN_PROVIDER`, and imports nothing of the project.
"""

import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from celery import Celery
from celery.signals import setup_logging, worker_ready
from sqlalchemy import Engine, create_engine, text

app = Celery("plain", broker=os.environ.get("PLAIN_BROKER"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 600, "max_connections": 200},
)

SCHEMA = """
CREATE TABLE refund (
    id text PRIMARY KEY, payment text NOT NULL, amount bigint NOT NULL, currency text NOT NULL, state text NOT NULL,
    provider_refund_id text, created_at double precision NOT NULL, updated_at double precision NOT NULL
);
CREATE TABLE attempt (
    refund_id text NOT NULL REFERENCES refund (id), no integer NOT NULL, started_at double precision NOT NULL,
    ended_at double precision, http_status integer, answer text, PRIMARY KEY (refund_id, no)
);
"""
TAKE = text("UPDATE refund SET state = 'sending', updated_at = :now WHERE id = :id AND state = 'queued' RETURNING *")
START = text("INSERT INTO attempt (refund_id, no, started_at) VALUES (:id, 1, :now)")
END = text("UPDATE attempt SET ended_at = :now, http_status = :status, answer = :answer WHERE refund_id = :id")
CLOSE = text("UPDATE refund SET state = :state, provider_refund_id = :found, updated_at = :now WHERE id = :id")

_database: Engine | None = None
_clients: "queue.LifoQueue[httpx.Client]" = queue.LifoQueue()


@setup_logging.connect
def _quiet(**_kwargs: object) -> None:
    """No line per task: that would be the rival's handicap, not its design."""


@worker_ready.connect
def _say(**_kwargs: object) -> None:
    """For whoever waits."""
    print("ready.", flush=True)


def database() -> Engine:
    """This process's connections, opened after the fork."""
    global _database  # noqa: PLW0603 - one per process
    if _database is None:
        _database = create_engine(os.environ["PLAIN_DATABASE"], pool_size=100)
    return _database


@contextmanager
def client() -> Iterator[httpx.Client]:
    """A client with a warm connection that nobody else is using: sharing one makes httpx search its pool."""
    try:
        taken = _clients.get_nowait()
    except queue.Empty:
        taken = httpx.Client(base_url=os.environ["PLAIN_PROVIDER"], timeout=30)
    yield taken
    _clients.put(taken)


@app.task(name="refund")
def refund(refund_id: str) -> None:
    """Pay one refund."""
    with database().begin() as connection:
        row = connection.execute(TAKE, {"id": refund_id, "now": time.time()}).one_or_none()
    if row is None:
        return
    with database().begin() as connection:
        connection.execute(START, {"id": refund_id, "now": time.time()})
    with client() as http:
        answer = http.post(
            "/refunds",
            json={"payment": row.payment, "amount": row.amount, "currency": row.currency, "reference": row.id},
            headers={"Idempotency-Key": row.id},
        )
    body = answer.json()
    with database().begin() as connection:
        given = {"id": refund_id, "now": time.time(), "status": answer.status_code, "answer": answer.text}
        connection.execute(END, given)
        connection.execute(CLOSE, {"id": refund_id, "now": time.time(), "state": body["status"], "found": body["id"]})


@app.task(name="nothing")
def nothing(_number: int) -> None:
    """What a message costs."""
