"""The tasks. Each is a doorbell: losing one costs a second, doubling one costs a lease check."""

import time
from typing import Any

from celery.exceptions import Reject
from sqlalchemy.exc import SQLAlchemyError

from engine import door, erasure, samples, schedule, tracing
from engine import tick as rounds
from engine.inbox import refuse_message, take_one
from tasks.app import app
from tasks.runtime import runtime

# Seconds to wait before a job goes back to its queue while the database is away.
LEDGER_AWAY = 1.0


@app.task(name="refunds.submit", bind=True, max_retries=0)
def submit(self: Any, *given: Any, **named: Any) -> None:
    """Accept one refund job from a Celery shop: `refunds.submit(job)`.

    As safe as a Redis list can be, and no safer: between the moment in which a worker takes a message off the list and
    the moment in which it notes that, the message exists nowhere, and a worker killed there loses it; a Redis that
    forgets loses it too. Once the ledger has committed the job nothing loses it. A shop that must not lose any sends
    the job again under the same `reference` until it sees the refund, or uses the intake stream or the HTTP API, which
    acknowledge only after that commit.

    A message with other arguments, of a newer producer perhaps, is kept as a dead letter: Celery itself would drop it.
    """
    engine, source = runtime().engine, f"celery:{self.request.id}"
    try:
        if len(given) + len(named) == 1 and named.keys() <= {"job"}:
            (job,) = (*given, *named.values())
            trace = tracing.sane(self.request.get("traceparent"))
            take_one(engine, job, source, actor="celery", via="celery", traceparent=trace)
        else:
            refuse_message(engine, {"args": given, "kwargs": named}, source)
    except SQLAlchemyError as error:  # neither accepted nor kept: acknowledged, it would be lost
        time.sleep(LEDGER_AWAY)
        raise Reject(error, requeue=True) from None


@app.task(name="refunds.send", max_retries=0)
def send(account: str) -> None:
    """Send what is due of an account."""
    runtime().turn("send", account)


@app.task(name="refunds.recover", max_retries=0)
def recover(account: str) -> None:
    """Find out about lost answers of an account."""
    runtime().turn("recover", account)


@app.task(name="refunds.poll", max_retries=0)
def poll(account: str) -> None:
    """Ask about pending refunds of an account."""
    runtime().turn("poll", account)


@app.task(name="refunds.deliver", max_retries=0)
def deliver(endpoint: str) -> None:
    """Send what is due to a webhook endpoint."""
    runtime().deliver(endpoint)


@app.task(name="refunds.notify", max_retries=0)
def notify(account: str) -> None:
    """Look at what an account's provider has told us."""
    runtime().begin("notify", account)


@app.task(name="refunds.reconcile", max_retries=0)
def reconcile(account: str) -> None:
    """Go on with the reconciliation of an account."""
    runtime().begin("reconcile", account)


@app.task(name="refunds.bulk", max_retries=0)
def bulk(operation: str) -> None:
    """Go on with a bulk operation."""
    runtime().begin("bulk", operation)


@app.task(name="refunds.compare", max_retries=0)
def compare() -> None:
    """Start the reconciliations that are due, and go on with those that were left; each minute."""
    schedule.start_due(runtime().engine)


@app.task(name="refunds.tick", max_retries=0)
def tick() -> None:
    """Ring every account with due work; each second."""
    rounds.beat(runtime().engine)


@app.task(name="refunds.housekeep", max_retries=0)
def housekeep() -> None:
    """Expire, anchor, forget, count what happened; each minute."""
    rounds.housekeep(runtime().engine)
    door.housekeep(runtime().engine)
    samples.take(runtime().engine)


@app.task(name="refunds.purge", max_retries=0)
def purge() -> None:
    """Erase personal data whose time is over; every ten minutes."""
    erasure.purge(runtime().engine)
