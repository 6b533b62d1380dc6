"""Personal data goes when its time is over, or when somebody asks; amounts, states and the journal stay."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection

from domain.errors import ConfigurationError, Refused
from domain.ids import first_id
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.people import SYSTEM, Actor, Verb, require
from ledger import erasure, journal, sealed
from ledger.erasure import Found
from ledger.models import rejected

log = structlog.get_logger(__name__)

#: Seconds that a worker gives to it at a time.
SLICE = 20.0

#: Hears how many refunds were looked at.
Heard = Callable[[int], None]


def _unheard(_count: int) -> None:
    pass


@dataclass(slots=True, kw_only=True)
class Erased:
    """What was erased, or would be: refunds and rejected jobs; and which stay, with the reason for each."""

    refunds: int = 0
    rejected_jobs: int = 0
    kept: dict[str, str] = field(default_factory=dict)


# -- when its time is over -------------------------------------------------------------------------------------------


def purge(engine: Engine, *, seconds: float = SLICE) -> Erased:
    """What beat does: erase what has been final for `[retention] personal`, for so many seconds; else nothing."""
    keep = engine.settings.retention.personal
    if keep is None:
        return Erased()

    return _purge(engine, SYSTEM, keep, _unheard, until=time.monotonic() + seconds)


def purge_now(engine: Engine, actor: Actor, heard: Heard, *, dry_run: bool = False) -> Erased:
    """The same to the end. `dry_run`: only count. Raises Refused where no time is set."""
    require(actor, Verb.ADMINISTER)
    keep = engine.settings.retention.personal
    if keep is None:
        raise Refused("retention-unset", "retention.personal says how long personal data is kept: it is not set")
    if dry_run:
        return _counted(_pages(engine, engine.clock() - keep), heard)

    return _purge(engine, actor.name, keep, heard)


def _purge(engine: Engine, actor: str, keep: float, heard: Heard, until: float = float("inf")) -> Erased:
    before = engine.clock() - keep
    done = Erased(rejected_jobs=engine.ledger.run(lambda connection: erasure.erase_closed(connection, before)))
    unbroken = True
    for found in _pages(engine, before):
        left = _erase(engine, actor, found, before=before, unbroken=unbroken)
        unbroken = unbroken and not left
        done.refunds += sum(not each.erased and each.id not in left for each in found)
        heard(len(found))
        if time.monotonic() > until:
            break
    if done.refunds or done.rejected_jobs:
        log.info("data.purged", refunds=done.refunds, rejected_jobs=done.rejected_jobs)

    return done


def _pages(engine: Engine, before: float) -> Iterator[list[Found]]:
    """All refunds since the last unbroken row of erased ones that are old enough: what was still open is met again."""
    with engine.ledger.read() as connection:
        after = erasure.place(connection)
    until = first_id("rf", before)
    while True:
        with engine.ledger.read() as connection:
            found = erasure.page(connection, after=after, until=until, before=before)
        if not found:
            return
        yield found
        after = found[-1].id


def _erase(engine: Engine, actor: str, found: Sequence[Found], *, before: float, unbroken: bool) -> set[str]:
    """Erase what is ready of a page; answers the ids that are left."""
    now = engine.clock()
    wanted = [each.id for each in found if each.needed is None and not each.erased]

    def work(connection: Connection) -> set[str]:
        gone = erasure.erase(connection, wanted, before=before, now=now) if wanted else []
        left = {each.id for each in found if not each.erased} - set(gone)
        if gone:
            _tell(connection, "data.purged", actor, now, refunds=len(gone), first=gone[0], last=gone[-1])
        if unbroken:
            _move_place(connection, found, left, now)
        return left

    return engine.ledger.run(work)


def _move_place(connection: Connection, found: Sequence[Found], left: set[str], now: float) -> None:
    """Up to the first that is left, which the next purge begins with."""
    ids = [each.id for each in found]
    first = next((place for place, each in enumerate(ids) if each in left), len(ids))
    if first:
        erasure.move_place(connection, ids[first - 1], now)


def _counted(pages: Iterable[Sequence[Found]], heard: Heard) -> Erased:
    done = Erased()
    for found in pages:
        done.refunds += sum(each.needed is None and not each.erased for each in found)
        heard(len(found))

    return done


# -- when somebody asks ----------------------------------------------------------------------------------------------


def erase(engine: Engine, actor: Actor, customer: str, *, reason: str, dry_run: bool = False) -> Erased:
    """Erase a customer's data, by e-mail address or the shop's reference of them, however lately a refund was final.

    What is open or in review stays, and is answered with the reason; asking again later erases it. Who, when and why is
    on record; the customer is not.
    """
    require(actor, Verb.ADMINISTER)
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")
    digest = engine.vault.index("email" if "@" in customer else "customer", customer)
    if digest is None:
        raise Refused("customer-required", "customer: an e-mail address or the shop's reference is required")
    found = list(_of_customer(engine, digest))
    jobs = list(_rejected_of(engine, digest))
    kept = {each.id: each.needed for each in found if each.needed is not None}
    wanted = [each.id for each in found if each.needed is None]
    if dry_run:
        return Erased(refunds=len(wanted), rejected_jobs=len(jobs), kept=kept)

    return _erase_customer(engine, actor, wanted, jobs, kept, reason)


def _of_customer(engine: Engine, digest: str) -> Iterator[Found]:
    after, now = "", engine.clock()
    while True:
        with engine.ledger.read() as connection:
            found = erasure.of_customer(connection, digest, after=after, before=now)
        if not found:
            return
        yield from found
        after = found[-1].id


def _erase_customer(
    engine: Engine, actor: Actor, wanted: Sequence[str], jobs: Sequence[str], kept: dict[str, str], reason: str
) -> Erased:
    done, now = Erased(kept=kept), engine.clock()
    for start in range(0, max(len(wanted), len(jobs)), erasure.BATCH):
        batch, bodies = (each[start : start + erasure.BATCH] for each in (wanted, jobs))

        def work(connection: Connection, batch: Any = batch, bodies: Any = bodies) -> tuple[list[str], list[str]]:
            gone = erasure.erase(connection, batch, before=now, now=now) if batch else []
            closed = erasure.erase_rejected(connection, bodies) if bodies else []
            if gone:
                erasure.erase_notifications(connection, gone)
            if gone or closed:
                told = {"reason": reason[:512], "refunds": gone, "rejected_jobs": closed}
                _tell(connection, "customer.erased", actor.name, now, **told)
            return gone, closed

        gone, closed = engine.ledger.run(work)
        done.refunds += len(gone)
        done.rejected_jobs += len(closed)
        done.kept |= {each: "it changed meanwhile" for each in batch if each not in gone}
        done.kept |= {each: "it is an open dead letter" for each in bodies if each not in closed}

    return done


def _rejected_of(engine: Engine, digest: str) -> Iterator[str]:
    """Rejected jobs that name this customer: few are kept, and all of them are opened."""
    after: sealed.Key | None = None
    while True:
        with engine.ledger.read() as connection:
            found = sealed.page(connection, rejected.c.body, after)
        if not found:
            return
        yield from (str(key[0]) for key, body in found if digest in _named(engine, body))
        after = found[-1][0]


def _named(engine: Engine, body: bytes) -> set[str | None]:
    """Hashes of the customer whom a job names that may be anything."""
    try:
        customer = msgspec.json.decode(engine.vault.open(body), type=_Job).customer
    except (msgspec.MsgspecError, ValueError, RecursionError, ConfigurationError):
        return set()
    email, reference = (each if isinstance(each, str) else None for each in (customer.email, customer.reference))

    return {engine.vault.index("email", email), engine.vault.index("customer", reference)}


class _Customer(msgspec.Struct):
    email: Any = None
    reference: Any = None


class _Job(msgspec.Struct):
    customer: _Customer


def _tell(connection: Connection, kind: str, actor: str, now: float, **data: Any) -> None:
    subject = f"erasure/{new_id('er', now)}"
    journal.append(connection, subject, kind, actor=actor, now=now, data=data)
