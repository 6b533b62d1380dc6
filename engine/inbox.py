"""Jobs from the intake stream: into the ledger, or kept with the reason why not. Never dropped."""

import hashlib
import json
import reprlib
from collections.abc import Sequence
from typing import Any

import msgspec
import redis
import structlog
from sqlalchemy import Connection

from domain.errors import FieldError, InvalidJob, Refused
from domain.job import MAX_BYTES
from domain.refund import clean
from engine import tracing
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.redact import redacted_body
from engine.submit import Receipt, submit, submit_many
from ledger import rejected
from ledger.rejected import Rejection
from ledger.session import is_away
from signals.stream import Entry, Intake

log = structlog.get_logger(__name__)

KEPT = 1_048_576
HEAD = 4096


def take(engine: Engine, stream: Intake, entries: Sequence[Entry]) -> int:
    """Accept stream entries in one transaction, then acknowledge and remove them; answers how many were accepted.

    The order is the promise: an entry leaves the stream only after the ledger has committed what became of it.
    """
    if not entries:
        return 0
    try:
        return _take(engine, stream, entries)
    except redis.RedisError:
        raise  # away: everything stays in the stream
    except Exception as error:
        if is_away(error):
            raise
        log.exception("intake.failed", entries=len(entries))
        if len(entries) > 1:
            return sum(take(engine, stream, [entry]) for entry in entries)
        # One entry that no code of ours can digest must not stop those behind it; a person sees it.
        _reject(engine, stream, entries[0], InvalidJob(FieldError("#", f"cannot be processed: {type(error).__name__}")))

    return 0


def _reject(engine: Engine, stream: Intake, entry: Entry, problem: InvalidJob) -> None:
    refused = rejection(engine, entry.job, problem, f"stream:{entry.id}")
    keep(engine, [refused])
    stream.done([entry.id], [_copy(refused)])


def _copy(refused: Rejection) -> dict[str, str | bytes]:
    return {"id": refused.id, "source": refused.source, "errors": refused.errors, "job": refused.head}


def _take(engine: Engine, stream: Intake, entries: Sequence[Entry]) -> int:
    usual = [entry for entry in entries if entry.form is None]
    receipts = submit_many(
        engine,
        [entry.job for entry in usual],
        actor="stream",
        via="stream",
        traceparents=[tracing.sane(entry.traceparent) for entry in usual],
    )
    problems = [(entry, receipt.problem) for entry, receipt in zip(usual, receipts, strict=True)]
    problems += [(entry, _newer(entry.form)) for entry in entries if entry.form is not None]
    refused = [
        rejection(engine, entry.job, problem, f"stream:{entry.id}")
        for entry, problem in problems
        if problem is not None
    ]
    keep(engine, refused)
    stream.done(
        [entry.id for entry in entries],
        [_copy(each) for each in refused],
    )
    accepted = sum(receipt.refund is not None for receipt in receipts)
    log.info("intake.taken", accepted=accepted, rejected=len(refused))

    return accepted


def _newer(form: str) -> InvalidJob:
    """What says that it is of another form is not read as if it were of this one."""
    return InvalidJob(FieldError("#", f"form {form!r} is of a newer program than this one", "newer-form"))


def refuse_message(engine: Engine, message: Any, source: str) -> None:
    """Keep a message of a form that this program does not know as a dead letter under `source`."""
    raw = _text(message).encode("utf-8", "replace")
    problem = InvalidJob(FieldError("#", "the message has other arguments than `job`", "newer-form"))
    keep(engine, [rejection(engine, raw, problem, source)])


def take_one(engine: Engine, job: Any, source: str, *, actor: str, via: str, traceparent: str | None = None) -> Receipt:
    """Accept one job that came as a message; what cannot be accepted is kept as a dead letter under `source`.

    Raises only SQLAlchemyError: the ledger is away, or could not even keep it, and the message must be given back.
    """
    raw = job if isinstance(job, bytes) else _text(job).encode("utf-8", "replace")
    try:
        receipt = submit(engine, raw, actor=actor, via=via, traceparent=traceparent)
    except Exception as error:
        if is_away(error):
            raise
        log.exception("intake.failed", source=source)
        receipt = Receipt(problem=InvalidJob(FieldError("#", f"cannot be processed: {type(error).__name__}")))
    if receipt.problem is not None:
        keep(engine, [rejection(engine, raw, receipt.problem, source)])

    return receipt


def _text(job: Any) -> str:
    """A job as the JSON it should have been; Celery's own JSON also brings UUIDs, dates and Decimals back."""
    if isinstance(job, str):
        return job
    try:
        return json.dumps(job, default=str)
    except (TypeError, ValueError, RecursionError):
        return reprlib.repr(type(job)) if isinstance(job, int) else reprlib.repr(job)


def keep(engine: Engine, refused: Sequence[Rejection]) -> None:
    """Store refused jobs as dead letters; the same source again is the same dead letter."""
    if not refused:
        return

    def work(connection: Connection) -> None:
        rejected.keep(connection, refused)

    engine.ledger.run(work)


def rejection(engine: Engine, body: bytes, problem: InvalidJob | Refused, source: str) -> Rejection:
    """The dead letter of a job that cannot be accepted: its body sealed, beyond 1 MiB only its head and hash."""
    now = engine.clock()
    account, reference = _named(body)
    kept = body if len(body) <= KEPT else body[:HEAD]

    return Rejection(
        id=new_id("rj", now),
        at=now,
        source=source[:96],
        account=account,
        reference=reference,
        errors=errors_json(problem),
        body=engine.vault.seal(kept),
        size=len(body),
        body_hash=hashlib.sha256(body).hexdigest(),
        head=redacted_body(body, HEAD) if len(body) <= MAX_BYTES else b"",
    )


def errors_json(problem: InvalidJob | Refused) -> str:
    """Code and faults of a problem, as stored and shown."""
    errors = problem.errors or (FieldError("#", str(problem), problem.code),)

    return msgspec.json.encode(
        {"code": problem.code, "errors": [{"pointer": each.pointer, "detail": each.detail} for each in errors]}
    ).decode()


def _named(body: bytes) -> tuple[str | None, str | None]:
    """Account and reference of a job that may be anything."""
    if len(body) > MAX_BYTES:
        return None, None
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    if not isinstance(data, dict):
        return None, None
    account, reference = data.get("account"), data.get("reference")

    return (
        clean(account, 64) if isinstance(account, str) else None,
        clean(reference, 64) if isinstance(reference, str) else None,
    )
