"""An arq job per refund, as a good team would write it: one process for each core, a loop with many jobs in it.

arq benchmarks.peers.plain_arq.WorkerSettings
"""

import asyncio
import os
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers.work_async import Work, wanted

REDIS = RedisSettings.from_dsn(os.environ["PEER_BROKER"])


async def startup(context: dict[str, Any]) -> None:
    """Open the connections on the worker's loop."""
    context["work"] = await Work.open()


async def shutdown(context: dict[str, Any]) -> None:
    """Close them."""
    await context["work"].close()


async def refund(context: dict[str, Any], refund_id: str) -> None:
    """Pay one refund."""
    await context["work"].pay(refund_id)


class WorkerSettings:
    """What `arq` reads."""

    functions = (refund,)
    redis_settings = REDIS
    on_startup = startup
    on_shutdown = shutdown
    max_jobs = int(os.environ.get("PEER_CONCURRENCY", "100"))
    keep_result = 0
    poll_delay = 0.05


async def enqueue() -> None:
    """Hand in the refunds named on the command line."""
    pool = await create_pool(REDIS)
    for each in wanted():
        await pool.enqueue_job("refund", each)
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue())
