"""A taskiq task per refund, as a good team would write it: one process for each core, a loop with many tasks in it.

taskiq worker benchmarks.peers.plain_taskiq:broker --workers 2 --max-async-tasks 100 --log-level WARNING
"""

import asyncio
import os

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from benchmarks.peers.work_async import Work, wanted

broker = RedisStreamBroker(os.environ["PEER_BROKER"])
_state: dict[str, Work] = {}


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _open(_state_of_worker: TaskiqState) -> None:
    """Open the connections on the worker's loop."""
    _state["work"] = await Work.open()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _close(_state_of_worker: TaskiqState) -> None:
    await _state["work"].close()


@broker.task(task_name="refund")
async def refund(refund_id: str) -> None:
    """Pay one refund."""
    await _state["work"].pay(refund_id)


async def enqueue() -> None:
    """Hand in the refunds named on the command line."""
    await broker.startup()
    for each in wanted():
        await refund.kiq(each)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue())
