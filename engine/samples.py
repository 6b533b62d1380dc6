"""The figures behind the charts: each minute is counted once it is over, and read as steps of a window."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import redis
from sqlalchemy import Connection

from domain.histogram import quantile
from engine.bootstrap import Engine
from engine.operate import switches
from ledger import figures, queries, samples
from ledger.samples import ANSWERED, BREAKER, COUNTED, MINUTE, OVERDUE, STREAM, TOOK, WAITING, row
from signals.limits import Breaker
from signals.stream import INTAKE

#: A window in seconds and the step of its charts.
WINDOWS = {"1h": (3600, 60), "24h": (86_400, 1800), "7d": (604_800, 14_400)}
FLOW = ("accepted", "succeeded", "failed", "uncertain")
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
    if minutes:
        _sum_up(engine, over)

    return len(minutes)


def _count(engine: Engine, minute: int, *, is_latest: bool) -> None:
    def work(connection: Connection) -> None:
        standing = _standing(connection, engine, minute) if is_latest else ()
        rows = [row(COUNTED, minute, 1), *samples.counted(connection, minute), *standing]
        samples.keep(connection, rows)

    engine.ledger.run(work)


def _sum_up(engine: Engine, over: int) -> None:
    with engine.ledger.read() as connection:
        hours = samples.hours(connection, over)
    for hour in hours:
        engine.ledger.run(partial(samples.sum_up, hour=hour))
    engine.ledger.run(lambda connection: samples.forget(connection, engine.clock() - KEPT))


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


Steps = list[dict[str, Any]]
_Found = dict[tuple[int, str], dict[int, int]]


@dataclass(frozen=True, slots=True)
class Charts:
    """By step of a window, None where nobody has counted.

    `flow`: what became of refunds; `durations`: seconds from acceptance until paid; `backlog`: the most that waited.
    """

    flow: Steps
    durations: Steps
    backlog: Steps


def charts(engine: Engine, window: str) -> Charts:
    """All accounts together."""
    standing = (WAITING, OVERDUE, STREAM)
    found = _read(engine, window, (COUNTED, *FLOW, TOOK, *standing))
    slots = _slots(engine, window)
    counted = {at for at, name in found if name == COUNTED}

    return Charts(
        [{"at": at, **{each: _plain(found, at, each, 0) if at in counted else None for each in FLOW}} for at in slots],
        _spread(found, slots, TOOK),
        [{"at": at, **{each: _plain(found, at, each) for each in standing}} for at in slots],
    )


def account_charts(engine: Engine, window: str, account: str) -> tuple[Steps, Steps]:
    """Seconds until the provider answered, by step; and how the breaker stood: spans with one position each."""
    found = _read(engine, window, (ANSWERED, BREAKER), account)
    slots = _slots(engine, window)
    spans = []
    for place, each in groupby(slots, key=lambda at: _plain(found, at, BREAKER)):
        times = list(each)
        position = None if place is None else POSITIONS[place]
        spans.append({"from": times[0], "to": times[-1] + slots.step, "position": position})

    return _spread(found, slots, ANSWERED), spans


def _plain(found: _Found, at: int, name: str, nothing: int | None = None) -> int | None:
    return found.get((at, name), {}).get(0, nothing)


def _spread(found: _Found, slots: range, name: str) -> Steps:
    steps = [(at, found.get((at, name), {})) for at in slots]

    return [
        {"at": at, "count": sum(counts.values()), "p50": quantile(counts, 0.5), "p95": quantile(counts, 0.95)}
        for at, counts in steps
    ]


def _read(engine: Engine, window: str, names: tuple[str, ...], account: str = "") -> _Found:
    slots = _slots(engine, window)
    with engine.ledger.read() as connection:
        return samples.read(connection, names, slots[0], slots.step, account=account)


def _slots(engine: Engine, window: str) -> range:
    """The steps of a window, the one under way among them."""
    seconds, step = WINDOWS[window]
    now = int(engine.clock())

    return range((now - seconds) // step * step + step, now + 1, step)
