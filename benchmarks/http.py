"""Intake over HTTP: single jobs at 100, 300 and 1,000 a second, and batches.

    python -m benchmarks --only http

The API is a process of its own over a PostgreSQL ledger, as `refundry api` runs it, without workers: what is measured
is the way from a shop's request to the answer, which comes after the commit.

Each request has its own moment of a timetable that waits for nobody, and its time is taken from that moment: a server
that falls behind cannot hide it. The client is one process on the same machine: on two processors it and PostgreSQL
take their share of what the API could have.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp
import httpx
import msgspec

from benchmarks.measured import Row, percentile, short, spread
from tests.support.api import ApiServer, job
from tests.support.processes import free_port
from tests.support.servers import PostgresServer

RATES = (100, 300, 1000)
CONNECTIONS = 64
BATCH = 500
WARM_UP = 200


def measure(*, quick: bool) -> list[Row]:
    """A row for each rate, and one for batches."""
    seconds, batches = (3, 4) if quick else (10, 20)
    postgres = PostgresServer()
    postgres.start()
    try:
        with tempfile.TemporaryDirectory(prefix="refundry-bench-") as folder:
            redis = f"redis://127.0.0.1:{free_port()}/0"  # away: nobody works on what is accepted
            limits = {"rate_limit": "900000000/s"}
            server = ApiServer(Path(folder), postgres.databases.create(), redis, api=limits).start()
            try:
                single(server, "warm", 100, WARM_UP)
                rows = [_single_row(rate, single(server, f"r{rate}", rate, rate * seconds)) for rate in RATES]
                return [*rows, _batch_row(batch(server, batches))]
            finally:
                server.stop()
    finally:
        postgres.remove()


def single(server: ApiServer, tag: str, rate: int, count: int) -> tuple[list[float], float]:
    """Milliseconds from each request's moment to its answer; and how many a second were answered."""
    return asyncio.run(_single(server, server.key(f"bench-{tag}"), tag, rate, count))


async def _single(server: ApiServer, key: str, tag: str, rate: int, count: int) -> tuple[list[float], float]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connections = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(server.url, headers=headers, connector=connections) as client:
        start = time.perf_counter() + 0.5

        async def one(number: int) -> float:
            moment = start + number / rate
            await asyncio.sleep(moment - time.perf_counter())
            async with client.post("/v1/refunds", data=msgspec.json.encode(job(f"{tag}-{number}"))) as answer:
                assert answer.status == httpx.codes.ACCEPTED, await answer.text()
                await answer.read()
            return 1000 * (time.perf_counter() - moment)

        times = await asyncio.gather(*map(one, range(count)))

    return times, count / (time.perf_counter() - start)


def batch(server: ApiServer, count: int) -> tuple[list[float], float]:
    """Milliseconds of each batch, one after another; and how many jobs a second were answered."""
    times = []
    start = time.perf_counter()
    with server.client(server.key("bench-batch")) as client:
        for number in range(count):
            jobs = [job(f"b{number}-{each}") for each in range(BATCH)]
            began = time.perf_counter()
            results = client.post("/v1/refunds/batch", json=jobs).raise_for_status().json()
            times.append(1000 * (time.perf_counter() - began))
            assert {each["status"] for each in results} == {httpx.codes.ACCEPTED}

    return times, count * BATCH / (time.perf_counter() - start)


def _single_row(rate: int, measured: tuple[list[float], float]) -> Row:
    times, answered = measured

    return Row(
        what=f"HTTP intake, single jobs at {rate} per second",
        figure=f"p50 {short(percentile(times, 50))} ms, p99 {short(percentile(times, 99))} ms",
        details={"answered per second": spread([answered], "/s")}
        | {f"p{each}": spread([percentile(times, each)], "ms") for each in (50, 90, 99, 100)},
    )


def _batch_row(measured: tuple[list[float], float]) -> Row:
    times, answered = measured

    return Row(
        what=f"HTTP intake, batches of {BATCH}",
        figure=f"{short(answered)} jobs per second, p50 {short(percentile(times, 50))} ms a batch",
        details={f"p{each}": spread([percentile(times, each)], "ms") for each in (50, 99)},
    )
