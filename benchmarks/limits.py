"""What nothing built on these parts can exceed: HTTP alone, the peers' database work alone, commits alone.

    python -m benchmarks --only limits

HTTP: POSTs to the stand-in on uvloop, no database; by aiohttp with as many under way as the pump has, by httpx with
fewer, for its shared pool costs each request the more, the more are under way: beyond these it becomes slower. The
database: the two transactions of each peer's refund by sixteen threads, no queue and no request. Commits: one row each.
Celery's own no-op rate is part of `throughput`.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import httpx
import psutil
import psycopg
import uvloop

from benchmarks.ground import Ground, tree_seconds
from benchmarks.measured import Row, short, spread
from benchmarks.peers import work
from benchmarks.roster import refunds_of

THREADS = 16
UNDER_WAY = {"httpx": 50, "aiohttp": 400}
BODY = {"payment": "payment_1", "amount": 1000, "currency": "JPY"}

Post = Callable[[dict[str, str]], Awaitable[Any]]
Opened = Callable[[str], AbstractAsyncContextManager[Post]]


def measure(*, quick: bool) -> list[Row]:
    """One row; each round in turn."""
    rounds, factor = (1, 1) if quick else (3, 4)
    taken: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, limit in LIMITS.items():
            with Ground() as ground:
                rate, cost = limit(ground, factor)
            taken.setdefault(name, []).append(rate)
            costs.setdefault(name, []).append(cost)
            print(f"  {name}: {short(rate)}/s, {short(cost)} ms of CPU each", flush=True)
    details = {name: spread(rates, "/s") for name, rates in taken.items()}

    return [
        Row(
            what="the limits: each part alone",
            figure=", ".join(f"{name} {short(rate.median)}/s" for name, rate in details.items()),
            details={**details, **{f"{name}: CPU of each": spread(each, "ms") for name, each in costs.items()}},
            raw=[{"limit": name, "rate": rate} for name, rates in taken.items() for rate in rates],
        )
    ]


# -- HTTP ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _httpx(url: str) -> Any:
    limits = httpx.Limits(max_connections=UNDER_WAY["httpx"], max_keepalive_connections=UNDER_WAY["httpx"])
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        yield lambda headers: client.post(url, json=BODY, headers=headers)


@asynccontextmanager
async def _aiohttp(url: str) -> Any:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=UNDER_WAY["aiohttp"])) as session:

        async def post(headers: dict[str, str]) -> None:
            async with session.post(url, json=BODY, headers=headers) as answer:
                await answer.read()

        yield post


def _http(opened: Opened, requests: int, under_way: int) -> Callable[[Ground, int], tuple[float, float]]:
    def limit(ground: Ground, factor: int) -> tuple[float, float]:
        url = f"{ground.provider}/v1/refunds"
        return _timed(requests * factor, lambda count: uvloop.run(_post_all(opened, url, count, under_way)))

    return limit


async def _post_all(opened: Opened, url: str, count: int, under_way: int) -> None:
    async with opened(url) as post:
        numbers = iter(range(count))

        async def one_after_another() -> None:
            for number in numbers:
                await post({"Idempotency-Key": str(number)})

        await asyncio.gather(*(one_after_another() for _ in range(under_way)))


# -- the database --------------------------------------------------------------------------------------------------


def _database(ground: Ground, factor: int) -> tuple[float, float]:
    count = 1000 * factor
    os.environ["PEER_DATABASE"] = refunds_of(ground, count)
    work.forget()
    answer = '{"id": "%s", "status": "succeeded"}'

    def pay(number: int) -> None:
        work.take(f"rf_{number}")
        work.record(f"rf_{number}", 200, answer % number)

    def pay_all(count: int) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(pay, range(1, count + 1)))

    return _timed(count, pay_all, ground.postgres.process.pid)


def _commits(connections: int) -> Callable[[Ground, int], tuple[float, float]]:
    def limit(ground: Ground, factor: int) -> tuple[float, float]:
        count = 200 * connections * factor
        address = ground.postgres.databases.create().replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE TABLE one (n integer)")

        def insert(times: int) -> None:
            with psycopg.connect(address, autocommit=True) as connection:
                for _ in range(times):
                    connection.execute("INSERT INTO one VALUES (1)")

        def insert_all(count: int) -> None:
            with ThreadPoolExecutor(connections) as threads:
                list(threads.map(insert, [count // connections] * connections))

        return _timed(count, insert_all, ground.postgres.process.pid)

    return limit


def _timed(count: int, act: Callable[[int], object], *others: int) -> tuple[float, float]:
    """Per second by the clock on the wall, and milliseconds of CPU each: of this process and of `others`."""
    own = psutil.Process()

    def seconds() -> float:
        times = own.cpu_times()
        return times.user + times.system + sum(map(tree_seconds, others))

    busy, started = seconds(), time.perf_counter()
    act(count)
    wall = time.perf_counter() - started

    return count / wall, 1000 * (seconds() - busy) / count


LIMITS: dict[str, Callable[[Ground, int], tuple[float, float]]] = {
    "httpx": _http(_httpx, 400, UNDER_WAY["httpx"]),
    "aiohttp": _http(_aiohttp, 3000, UNDER_WAY["aiohttp"]),
    "the peers' database work": _database,
    "commits over 1 connection": _commits(1),
    "commits over 16 connections": _commits(16),
}
