"""A Procrastinate task per refund, as a good team would write it: a queue in PostgreSQL, one process for each core.

procrastinate --app benchmarks.peers.plain_procrastinate.app worker --concurrency 50
"""

import asyncio
import os

import procrastinate

from benchmarks.peers.work_async import Work, wanted

_address = os.environ["PEER_DATABASE"].replace("+psycopg", "")
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=_address, min_size=4, max_size=20),
    import_paths=["benchmarks.peers.plain_procrastinate"],
    worker_defaults={"delete_jobs": "always", "fetch_job_polling_interval": 1.0},
)
_works: dict[int, Work] = {}


@app.task(name="refund")
async def refund(refund_id: str) -> None:
    """Pay one refund."""
    await (await _work()).pay(refund_id)


_opening = asyncio.Lock()


async def _work() -> Work:
    """Opened by the first refund on the worker's loop."""
    async with _opening:
        if 0 not in _works:
            _works[0] = await Work.open()
    return _works[0]


async def enqueue() -> None:
    """Hand in the refunds named on the command line."""
    async with app.open_async():
        await refund.batch_defer_async(*({"refund_id": each} for each in wanted()))


async def prepare() -> None:
    """Make the queue's own tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


if __name__ == "__main__":
    # Run as a module this file is called __main__, and the app above is another than the worker's.
    asyncio.run(prepare())
    asyncio.run(enqueue())
