"""How things stand: for `status`, and, with questions to everybody, for `doctor`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis
import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from domain.reconcile import Kind
from domain.state import State
from engine import rotation
from engine.account import Account
from engine.ask import ping
from engine.bootstrap import Engine
from engine.operate import switches
from engine.tick import BEAT
from ledger import accounts, external, notification, queries, reconcile, rejected, webhooks, workers
from ledger.pooling import hands_around
from providers.base import Health
from providers.transport import Transport
from signals.limits import Breaker

log = structlog.get_logger(__name__)

OLD_UNKNOWN = 900.0
OVERDUE = 300.0
# A webhook endpoint that has failed for so long is a person's business.
FAILING = 3600.0
SKEW = 2.0
#: Who was heard within so many seconds works.
HEARD = 10.0


class Grade(StrEnum):
    """How good something is."""

    FINE = "fine"
    ATTENTION = "attention"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    grade: Grade
    says: str


def status(engine: Engine) -> dict[str, Any]:
    """The overview: states, what needs a person, how old the oldest due refund is, who works."""
    now = engine.clock()
    with engine.ledger.read() as connection:
        states = engine.finals.counts(connection) | queries.count_standing(connection)
        overview: dict[str, Any] = {
            "states": {state: states.get(state, 0) for state in State},
            "dead_letters": states.get(State.REVIEW, 0) + states.get(State.REVERSED, 0),
            "rejected_jobs": rejected.count_open(connection),
            "approvals_open": queries.open_approvals(connection),
            "over_refunded_payments": len(queries.over_refunded(connection)),
            "external_open": external.count_open(connection),
            "differences_open": reconcile.open_count(connection),
            "duplicates_open": reconcile.open_count(connection, (Kind.DUPLICATE_AT_PROVIDER,)),
            "notifications_unmatched": notification.count_unmatched(connection),
            "notifications_refused_24h": sum(notification.refused_since(connection, now - 86_400).values()),
            "paused": accounts.paused(connection),
            "oldest_due_seconds": queries.oldest_due(connection, now),
            "unknown": {
                currency: {"count": count, "amount": amount}
                for currency, (count, amount) in queries.unknown_sums(connection).items()
            },
            "webhooks": webhooks.troubled(connection, now - FAILING),
            "events_waiting": queries.waiting_events(connection),
            "workers": [each for each in workers.listed(connection) if now - each["beat_at"] < 10],  # noqa: PLR2004
        }
    overview["grade"] = _grade(overview)

    return overview


def _grade(overview: dict[str, Any]) -> Grade:
    overdue = (overview["oldest_due_seconds"] or 0.0) > OVERDUE
    if overdue or overview["over_refunded_payments"] or overview["duplicates_open"]:
        return Grade.UNHEALTHY
    needs: tuple[str, ...] = ("dead_letters", "rejected_jobs", "approvals_open", "external_open")
    needs += ("differences_open", "notifications_unmatched")

    return (
        Grade.ATTENTION if any(overview[each] for each in needs) or any(overview["webhooks"].values()) else Grade.FINE
    )


async def doctor(engine: Engine) -> list[Finding]:
    """Look at everything: database, Redis, beat, clock, every account's address and credentials."""
    findings = [*_database(engine), *_keys(engine), *_redis(engine), *_beat(engine)]
    findings += [await _account(account) for account in engine.accounts.values()]

    return findings


def _database(engine: Engine) -> list[Finding]:
    name = engine.ledger.url.render_as_string(hide_password=True)
    try:
        with engine.ledger.read() as connection:
            durable = undurable(engine, connection)
            skew = _skew(engine, connection)
            unbalanced = queries.balances(connection)
            orphaned = queries.accounts_with_open_refunds(connection) - set(engine.accounts)
        pooled = hands_around(engine.ledger)
    except SQLAlchemyError as error:
        return [Finding("database", Grade.UNHEALTHY, f"{name}: {type(error).__name__}")]

    return [
        Finding("database", Grade.FINE, name),
        Finding("durability", Grade.FINE if not durable else Grade.UNHEALTHY, durable or "commits reach the disk"),
        Finding(
            "pooling",
            Grade.UNHEALTHY if pooled else Grade.FINE,
            "a pooler shares connections by transaction: what a session sets or prepares is lost, or another's"
            if pooled
            else "a connection is our own as long as it is open",
        ),
        Finding("clock", Grade.FINE if skew < SKEW else Grade.ATTENTION, f"{skew:.2f} s from the database's"),
        Finding(
            "books",
            Grade.FINE if not unbalanced else Grade.UNHEALTHY,
            "reservations equal the open refunds" if not unbalanced else f"{len(unbalanced)} payments do not add up",
        ),
        *(
            Finding(f"account {name}", Grade.UNHEALTHY, "has open refunds and is not configured: nobody works on them")
            for name in sorted(orphaned)
        ),
    ]


def _keys(engine: Engine) -> list[Finding]:
    """Whether what is sealed opens, and whether older keys are still needed."""
    try:
        keys = rotation.standing(engine)
    except SQLAlchemyError:
        return []
    again = "run `refundry keys rotate-encryption`"
    if keys.lately.unreadable:
        grade, says = Grade.UNHEALTHY, f"{keys.lately.unreadable} of the newest values open with none of them"
    elif not keys.older and not keys.lately.older:
        grade, says = Grade.FINE, "one, which opens what was sealed lately"
    elif keys.done_at is None:
        grade, says = Grade.ATTENTION, f"older ones may still be needed: {again}"
    elif keys.lately.older:
        grade, says = Grade.ATTENTION, f"somebody still seals with an older one: restart every process, then {again}"
    else:
        grade, says = Grade.FINE, "the first has sealed everything: the others can be removed"

    return [Finding("encryption keys", grade, says)]


def undurable(engine: Engine, connection: Connection) -> str:
    """What makes commits less than durable; empty when nothing does."""
    if engine.ledger.sqlite:
        level = connection.execute(text("PRAGMA synchronous")).scalar()
        return "" if level is not None and level >= 2 else f"PRAGMA synchronous is {level}, FULL is needed"  # noqa: PLR2004
    wrong = [
        f"{name} is {value}"
        for name in ("fsync", "synchronous_commit", "full_page_writes")
        if (value := connection.execute(text(f"SHOW {name}")).scalar()) not in ("on", "remote_apply", "remote_write")
    ]

    return ", ".join(wrong)


def _skew(engine: Engine, connection: Any) -> float:
    if engine.ledger.sqlite:
        return 0.0
    theirs: float = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar()

    return abs(engine.clock() - theirs)


def _redis(engine: Engine) -> list[Finding]:
    if engine.redis is None:
        return [Finding("redis", Grade.UNHEALTHY, "not configured")]
    try:
        engine.redis.ping()
        memory: Any = engine.redis.info("memory")
        persistence: Any = engine.redis.info("persistence")
    except redis.RedisError as error:
        return [Finding("redis", Grade.UNHEALTHY, type(error).__name__)]
    policy = memory.get("maxmemory_policy", "?")
    kept = bool(persistence.get("aof_enabled"))

    return [
        Finding("redis", Grade.FINE, "answers"),
        Finding(
            "redis eviction",
            Grade.FINE if policy == "noeviction" else Grade.ATTENTION,
            f"maxmemory-policy is {policy}" + ("" if policy == "noeviction" else ", noeviction is needed"),
        ),
        Finding(
            "redis persistence",
            Grade.FINE if kept else Grade.ATTENTION,
            "append-only file on" if kept else "append-only file off: jobs still in the stream die with Redis",
        ),
    ]


def _beat(engine: Engine) -> list[Finding]:
    try:
        with engine.ledger.read() as connection:
            last = workers.last_beat(connection, BEAT)
            worker = workers.last_beat(connection, "worker")
            heard = workers.listed(connection)
    except SQLAlchemyError:
        return []
    now = engine.clock()
    silent = last is None or now - last > 10  # noqa: PLR2004
    nobody = worker is None or now - worker > 10  # noqa: PLR2004

    return [
        Finding(
            "beat",
            Grade.ATTENTION if silent else Grade.FINE,
            "silent: workers ring for themselves" if silent else f"{now - (last or now):.1f} s ago",
        ),
        Finding("workers", Grade.UNHEALTHY if nobody else Grade.FINE, "nobody works" if nobody else "at work"),
        *_releases([each["details"] for each in heard if each["kind"] == "worker" and now - each["beat_at"] < HEARD]),
    ]


def _releases(workers_say: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Which programs work, by their own word; those before 0.1.0 say nothing."""
    found = Counter(f"{each.get('release', '?')} (schema {each.get('schema', '?')})" for each in workers_say)
    told = ", ".join(f"{count} of {release}" for release, count in sorted(found.items()))
    mixed = "" if len(found) < 2 else ": an upgrade is under way, or was not finished"  # noqa: PLR2004

    return [Finding("releases", Grade.ATTENTION if mixed else Grade.FINE, f"{told}{mixed}")] if found else []


async def _account(account: Account) -> Finding:
    transport = Transport(connect_timeout=account.connect_timeout, read_timeout=min(account.read_timeout, 15.0))
    try:
        health = await ping(account, transport)
    finally:
        await transport.close()
    grades = {Health.OK: Grade.FINE, Health.NO_CHECK: Grade.FINE}
    words = {
        Health.OK: "answers, credentials accepted where they can be tried",
        Health.NO_CHECK: "the provider offers no harmless call to try the credentials with",
        Health.CREDENTIALS_REFUSED: "refuses the credentials",
        Health.UNREACHABLE: "does not answer",
    }

    return Finding(f"account {account.name}", grades.get(health, Grade.UNHEALTHY), words[health])


def reachable(engine: Engine) -> dict[str, str]:
    """Whether database and Redis answer, in a word each."""
    try:
        with engine.ledger.read() as connection:
            connection.execute(text("SELECT 1"))
        database = "ok"
    except SQLAlchemyError:
        database = "unreachable"

    return {"database": database, "redis": _redis_word(engine)}


def _redis_word(engine: Engine) -> str:
    if engine.quick is None:
        return "not configured"
    try:
        engine.quick.ping()
    except redis.RedisError:
        return "unreachable"

    return "ok"


Samples = list[tuple[list[str], float]]


def figures(engine: Engine, queues: Sequence[str]) -> dict[str, tuple[str, list[str], Samples]]:
    """What a metrics collector shows of ledger and Redis: name, words, labels and samples."""
    overview = status(engine)
    redis_answers = _redis_word(engine) == "ok"  # an absent figure is no nought
    now = engine.clock()
    with engine.ledger.read() as connection:
        unknown_since = queries.oldest_unknown(connection)
        beat = workers.last_beat(connection, BEAT)
        differing: Samples = [([kind], float(count)) for kind, count in reconcile.open_kinds(connection).items()]
    unknown = [([currency], float(each["amount"])) for currency, each in overview["unknown"].items()]

    return {
        "state": ("Refunds in each state.", ["state"], [([name], n) for name, n in overview["states"].items()]),
        "oldest_due_seconds": (
            "Since when the oldest due refund waits.",
            [],
            [([], overview["oldest_due_seconds"] or 0.0)],
        ),
        "unknown_amount": ("Money of unknown outcome, in minor units.", ["currency"], unknown),
        "unknown_oldest_seconds": (
            "Since when the outcome of a refund is unknown.",
            [],
            [([], 0.0 if unknown_since is None else now - unknown_since)],
        ),
        "beat_age_seconds": ("Since when beat was not heard.", [], [] if beat is None else [([], now - beat)]),
        "recon_open": ("Open differences of reconciliation.", ["kind"], differing),
        "rejected_open": ("Rejected jobs that nobody has closed.", [], [([], overview["rejected_jobs"])]),
        "breaker_state": (
            "0 closed, 1 half open, 2 open.",
            ["account", "provider"],
            _breakers(engine) if redis_answers else [],
        ),
        "queue_depth": (
            "Doorbells waiting in each queue.",
            ["queue"],
            _depths(engine, queues) if redis_answers else [],
        ),
    }


_POSITIONS = {Breaker.CLOSED: 0.0, Breaker.HALF_OPEN: 1.0, Breaker.OPEN: 2.0}


def _breakers(engine: Engine) -> Samples:
    """As they are held by hand, else as they stand."""
    now = engine.clock()
    held = {
        name: Breaker(position)
        for name, each in switches(engine).items()
        if each is not None and (position := each.forced(now)) is not None
    }

    return [
        (
            [account.name, account.provider.name],
            _POSITIONS[held.get(account.name) or engine.limits.breaker(account.name, account.limit)],
        )
        for account in engine.accounts.values()
    ]


def _depths(engine: Engine, queues: Sequence[str]) -> Samples:
    assert engine.quick is not None
    depths: list[Any] = [engine.quick.llen(name) for name in queues]

    return [([name], float(depth)) for name, depth in zip(queues, depths, strict=True)]
