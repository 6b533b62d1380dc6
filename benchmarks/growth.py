"""Row 3: what a claim, a submission, a poll and a search cost with ten thousand rows, a million, ten million.

    python -m benchmarks --only growth

The ledgers stand side by side in one PostgreSQL, and the rounds go from one to the next, so that all see the same
machine. Their rows are made inside PostgreSQL with the real indexes, of a thousand accounts beside the measured one,
all but a backlog of the same size final; no attempts and events, for no measured statement reads them. Each statement
is the product's own, in a transaction of its own that is committed.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text

from benchmarks.ground import Ground, Installation, job, smartpay
from benchmarks.measured import Row, short, spread
from domain.job import canonical, parse
from engine.bootstrap import Engine, bootstrap
from engine.pump import BATCH
from engine.submit import submit, submit_many
from ledger import queries, refunds
from ledger.queries import Filter

SIZES = {"10 thousand": 10_000, "1 million": 1_000_000, "10 million": 10_000_000}
SMALL = {"10 thousand": 10_000, "100 thousand": 100_000}
BACKLOG = 4_500  # each lane is claimed from in every round
ROUNDS = 15
SINGLE = 10
ALLOWED = 1.2
#: On the disk while they are made: heap, indexes, write-ahead log.
BYTES_PER_ROW = 4_000

# Every index is dropped while the rows are made and made again after: that takes a third of the time.
ROWS = """
INSERT INTO refund (id, account, provider, reference, payment_ref, payment_id, order_id, state, amount, currency,
  resolved, handle, job, content_hash, email_hash, due_at, chain, attempts, version, since, provider_refund_id,
  provider_status, created_at, updated_at, final_at)
SELECT 'rf_' || lpad(to_hex(n), 26, '0'),
  CASE WHEN n > :history THEN 'shop' ELSE 'account-' || n % 1000 END, 'smartpay', 'shop-' || n,
  'payment_shop_' || n, 'payment_shop_' || n, 'order_' || n,
  CASE WHEN n > :history + :backlog THEN 'pending' WHEN n > :history THEN 'queued'
       WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END,
  1000, 'JPY', true, 'a0000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'),
  replace(:job, '@', n::text),
  md5(n::text) || md5('c' || n), md5('e' || n % 500000) || md5('m' || n % 500000),
  CASE WHEN n > :history + :backlog THEN :due + (n - :history - :backlog) * :spacing
       WHEN n > :history THEN 1.0 + n / 1e9 END, md5('h' || n) || md5('i' || n),
  CASE WHEN n > :history + :backlog OR n <= :history THEN 1 ELSE 0 END, 3, 1700000000 + n * 3,
  CASE WHEN n > :history + :backlog OR n <= :history THEN 'refund_' || n END, 'succeeded',
  1700000000 + n * 3, 1700000000 + n * 3, CASE WHEN n <= :history THEN 1700000000 + n * 3 END
FROM generate_series(1, :rows) AS n
"""
PAYMENTS = """
INSERT INTO payment (account, ref, currency, captured, reserved, refunded, created_at)
SELECT account, payment_ref, 'JPY', 2000, CASE WHEN due_at IS NULL THEN 0 ELSE 1000 END,
  CASE WHEN state = 'succeeded' THEN 1000 ELSE 0 END, created_at FROM refund
"""
TERMS = """
INSERT INTO search_term SELECT handle, id FROM refund UNION ALL SELECT order_id, id FROM refund
UNION ALL SELECT email_hash, id FROM refund
"""


def measure(*, quick: bool) -> list[Row]:
    """The claim's row with its bar, and one for everything else."""
    sizes = SMALL if quick else SIZES
    _room_for(sum(sizes.values()))
    with Ground() as ground:
        engines = {name: _filled(ground, name, rows) for name, rows in sizes.items()}
        taken: dict[str, dict[str, list[float]]] = {}
        for number in range(3 if quick else 1 + ROUNDS):
            for name, engine in engines.items():
                for what, act in MEASURED.items():
                    cost = act(engine, number)
                    if number:  # the first round opens connections and prepares statements
                        taken.setdefault(what, {}).setdefault(name, []).append(cost)
        for engine in engines.values():
            engine.close()

    return rows_of(taken, list(sizes))


def rows_of(taken: dict[str, dict[str, list[float]]], sizes: list[str]) -> list[Row]:
    """The claim against its bar, and every cost at every size."""
    small, large = sizes[0], sizes[-1]
    claim = taken[f"claim of {BATCH} to send"]
    ratio = spread(claim[large]).median / spread(claim[small]).median
    costs = {
        f"{what}, {size}": spread(values, "ms") for what, by_size in taken.items() for size, values in by_size.items()
    }

    return [
        Row(
            what=f"cost of a claim with {large} rows against {small}",
            figure=f"{short(ratio)} times",
            bar=f"at most {ALLOWED} times",
            holds=ratio <= ALLOWED,
            details={name: figure for name, figure in costs.items() if name.startswith("claim")},
        ),
        Row(
            what="cost as the ledger grows",
            figure=", ".join(
                f"{what} {short(spread(by_size[large]).median / spread(by_size[small]).median)} times"
                for what, by_size in taken.items()
            ),
            details=costs,
            raw=[
                {"what": what, "rows": size, "ms": value}
                for what, by_size in taken.items()
                for size, values in by_size.items()
                for value in values
            ],
        ),
    ]


# -- what is measured ----------------------------------------------------------------------------------------------


def _timed(act: Callable[[], object], times: int = 1) -> float:
    """Milliseconds for each."""
    started = time.perf_counter()
    for _ in range(times):
        act()

    return 1000 * (time.perf_counter() - started) / times


def _claim(lane: str) -> Callable[[Engine, int], float]:
    def act(engine: Engine, _number: int) -> float:
        now = engine.clock()

        def work(connection: Connection) -> int:
            claimed = refunds.claim(
                connection, lane, "shop", limit=BATCH, now=now, until=now + 3600, worker="benchmark", alone=False
            )
            return len(claimed)

        def claim() -> None:
            assert engine.ledger.run(work) == BATCH

        return _timed(claim)

    return act


def _submit(engine: Engine, number: int) -> float:
    return _timed(lambda: submit(engine, job("shop", 10**9 + number), actor="benchmark", via="benchmark"))


def _submit_batch(engine: Engine, number: int) -> float:
    first = 2 * 10**9 + number * BATCH
    jobs = [job("shop", each) for each in range(first, first + BATCH)]

    return _timed(lambda: submit_many(engine, jobs, actor="benchmark", via="benchmark"))


def _look(ask: Callable[[Connection, int], Any]) -> Callable[[Engine, int], float]:
    def act(engine: Engine, number: int) -> float:
        def once() -> None:
            with engine.ledger.read() as connection:
                ask(connection, 1 + number * 97)

        return _timed(once, SINGLE)

    return act


MEASURED: dict[str, Callable[[Engine, int], float]] = {
    f"claim of {BATCH} to send": _claim("send"),
    f"claim of {BATCH} to poll": _claim("poll"),
    "what is due, every lane": _look(lambda connection, _: refunds.due_lanes(connection, ["shop"], time.time())),
    "submit one": _submit,
    f"submit {BATCH}": _submit_batch,
    "find by any id": _look(lambda connection, n: queries.find(connection, f"shop-{n}")),
    "search a payment": _look(
        lambda connection, n: queries.page(connection, Filter(payment_id=f"payment_shop_{n}"), limit=50)
    ),
    "newest page": _look(lambda connection, _: queries.page(connection, Filter(), limit=50)),
    "page of one account": _look(lambda connection, _: queries.page(connection, Filter(accounts=("shop",)), limit=50)),
    "dead letters": _look(lambda connection, _: queries.dead(connection, limit=50)),
}


# -- the rows ------------------------------------------------------------------------------------------------------


def _room_for(rows: int) -> None:
    """RuntimeError where the disk has no room for so many rows."""
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, rows * BYTES_PER_ROW
    if free < needed:
        raise RuntimeError(f"{needed / 1e9:.0f} GB of disk are needed for {rows:,} rows, {free / 1e9:.0f} are free")


def _filled(ground: Ground, name: str, rows: int) -> Engine:
    installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1")})
    make_rows(ground, installation, name, history=rows - 2 * BACKLOG, queued=BACKLOG, pending=BACKLOG)

    return bootstrap(installation.load())


def make_rows(
    ground: Ground,
    installation: Installation,
    name: str,
    *,
    history: int = 0,
    queued: int = 0,
    pending: int = 0,
    due: float = 1.0,
    spacing: float = 1e-9,
) -> None:
    """Final refunds of others, then queued and pending ones of the shop; these are due one `spacing` after another."""
    started = time.perf_counter()
    template = canonical(parse(job("shop", 4242)).public()).decode().replace("4242", "@")
    given = {"rows": history + queued + pending, "history": history, "backlog": queued, "due": due, "spacing": spacing}
    with filling(ground, installation) as connection:
        connection.execute(text(ROWS), {**given, "job": template})
        connection.execute(text(PAYMENTS))
        connection.execute(text(TERMS))
    print(f"  {name} rows made in {time.perf_counter() - started:.0f} s", flush=True)


@contextmanager
def filling(ground: Ground, installation: Installation) -> Iterator[Connection]:
    """A connection for many new rows: indexes come afterwards, durability meanwhile rests."""
    engine = bootstrap(installation.load())
    with engine.ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET synchronous_commit = off")
        connection.exec_driver_sql("SET maintenance_work_mem = '512MB'")
        _durability(ground, "off")
        indexes = connection.exec_driver_sql(
            "SELECT indexdef, indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'refund' "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        ).all()
        for _, index in indexes:
            connection.exec_driver_sql(f'DROP INDEX "{index}"')
        connection.exec_driver_sql("ALTER TABLE search_term DROP CONSTRAINT pk_search_term")
        yield connection
        connection.exec_driver_sql(
            "ALTER TABLE search_term ADD CONSTRAINT pk_search_term PRIMARY KEY (term, refund_id)"
        )
        for definition, _ in indexes:
            connection.exec_driver_sql(definition)
        for table in ("refund", "payment", "search_term"):
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {table}")
        _durability(ground, "on")
    engine.close()


def _durability(ground: Ground, on: str) -> None:
    with ground.postgres.databases.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET fsync = {on}".encode())
        connection.execute(
            b"ALTER SYSTEM SET max_wal_size = '16GB'" if on == "off" else b"ALTER SYSTEM RESET max_wal_size"
        )
        connection.execute(b"SELECT pg_reload_conf()")
        if on == "on":
            connection.execute(b"CHECKPOINT")
            os.sync()  # else the kernel writes what it still holds while we measure
