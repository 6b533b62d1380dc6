"""The figures behind the charts: each minute is counted once it is over, and read as steps of a window."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import redis
from sqlalchemy import Connection

from domain.histogram import quantile
from engine.bootstrap import Engine
from engine.operate import switches
from ledger import figures, queries, samples
from ledger.samples import ANSWERED, COUNTED, MINUTE, TOOK, row
from signals.limits import Breaker
from signals.stream import INTAKE

#: A window in seconds and the step of its charts.
WINDOWS = {"1h": (3600, 60), "24h": (86_400, 1800), "7d": (604_800, 14_400)}
FLOW = ("accepted", "succeeded", "failed", "uncertain")
WAITING, OVERDUE, STREAM, BREAKER = "waiting", "overdue", "stream", "breaker"
POSITIONS = (Breaker.CLOSED, Breaker.HALF_OPEN, Breaker.OPEN)
# A minute's last events may be committed so many seconds after it.
LATE = 5
# After a longer silence the minutes before are left out.
CATCH_UP = 60 * MINUTE
KEPT = 8 * 86_400


def take(engine: Engine) -> int:
    """Count the minutes that are over and were not counted yet; answers how many. Done twice, nothing counts twice."""
    now = engine.clock()
    over = int(now - LATE) // MINUTE * MINUTE
    with engine.ledger.read() as connection:
        done = samples.last(connection)
    first = over - CATCH_UP if done is None else max(done + MINUTE, over - CATCH_UP)
    minutes = range(first, over, MINUTE)
    for minute in minutes:
        _count(engine, minute, is_latest=minute == minutes[-1])

    return len(minutes)


def _count(engine: Engine, minute: int, *, is_latest: bool) -> None:
    def work(connection: Connection) -> None:
        standing = _standing(connection, engine, minute) if is_latest else ()
        rows = [row(COUNTED, minute, 1), *samples.counted(connection, minute), *standing]
        samples.keep(connection, rows, forget_before=engine.clock() - KEPT)

    engine.ledger.run(work)


def _standing(connection: Connection, engine: Engine, minute: int) -> Iterator[dict[str, Any]]:
    """What stands now, as the minute's own."""
    yield row(WAITING, minute, figures.count_due(connection, list(engine.accounts), engine.clock()))
    yield row(OVERDUE, minute, int(queries.oldest_due(connection, engine.clock()) or 0))
    held = switches(engine)
    for name, account in engine.accounts.items():
        forced = switch.forced(engine.clock()) if (switch := held[name]) else None
        position = Breaker(forced) if forced else engine.limits.breaker(name, account.limit)
        yield row(BREAKER, minute, POSITIONS.index(position), account=name)
    try:
        if engine.quick is not None:
            length: Any = engine.quick.xlen(INTAKE)
            yield row(STREAM, minute, length)
    except redis.RedisError:
        return


# -- read ------------------------------------------------------------------------------------------------------------


def flow(engine: Engine, window: str) -> list[dict[str, Any]]:
    """What happened by step: refunds accepted, paid, refused, or gone where nobody knows. None: not counted."""
    found = _sums(engine, window, (COUNTED, *FLOW))

    return [
        {"at": at, **{name: found.get((at, name), {0: 0})[0] if (at, COUNTED) in found else None for name in FLOW}}
        for at in _slots(engine, window)
    ]


def durations(engine: Engine, window: str) -> list[dict[str, Any]]:
    """Seconds from acceptance until paid, by step: how many, median and 95th percentile."""
    return _spread(engine, window, TOOK)


def latencies(engine: Engine, window: str, account: str) -> list[dict[str, Any]]:
    """Seconds until an account's provider answered, by step."""
    return _spread(engine, window, ANSWERED, account)


def _spread(engine: Engine, window: str, name: str, account: str = "") -> list[dict[str, Any]]:
    found = _sums(engine, window, (name,), account)
    steps = [(at, found.get((at, name), {})) for at in _slots(engine, window)]

    return [
        {"at": at, "count": sum(counts.values()), "p50": quantile(counts, 0.5), "p95": quantile(counts, 0.95)}
        for at, counts in steps
    ]


def backlog(engine: Engine, window: str) -> list[dict[str, Any]]:
    """By step the most that waited: refunds due, seconds that the oldest was due, jobs in the stream."""
    names = (WAITING, OVERDUE, STREAM)
    seen = _peaks(engine, window, names)

    return [{"at": at, **{name: seen.get((at, name)) for name in names}} for at in _slots(engine, window)]


def bands(engine: Engine, window: str, account: str) -> list[dict[str, Any]]:
    """How an account's breaker stood: spans of time with one position each, None where nobody has looked."""
    seen = _peaks(engine, window, (BREAKER,), account)
    step = WINDOWS[window][1]
    spans = []
    for place, each in groupby(_slots(engine, window), key=lambda at: seen.get((at, BREAKER))):
        times = list(each)
        position = None if place is None else POSITIONS[place]
        spans.append({"from": times[0], "to": times[-1] + step, "position": position})

    return spans


def _sums(
    engine: Engine, window: str, names: tuple[str, ...], account: str = ""
) -> dict[tuple[int, str], dict[int, int]]:
    with engine.ledger.read() as connection:
        return samples.sums(connection, names, _slots(engine, window)[0], WINDOWS[window][1], account=account)


def _peaks(engine: Engine, window: str, names: tuple[str, ...], account: str = "") -> dict[tuple[int, str], int]:
    with engine.ledger.read() as connection:
        return samples.peaks(connection, names, _slots(engine, window)[0], WINDOWS[window][1], account=account)


def _slots(engine: Engine, window: str) -> range:
    """The steps of a window, the one under way among them."""
    seconds, step = WINDOWS[window]
    now = int(engine.clock())

    return range((now - seconds) // step * step + step, now + 1, step)
