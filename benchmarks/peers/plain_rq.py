"""An RQ job per refund, as a good team would run it: a pool of workers that do not fork for every job.

rq worker-pool refunds -c benchmarks.peers.plain_rq --num-workers 16 --worker-class rq.worker.SimpleWorker
"""

import os

from redis import Redis
from rq import Queue

from benchmarks.peers import work

#: What `-c` looks for.
REDIS_URL = os.environ["PEER_BROKER"]


def refund(refund_id: str) -> None:
    """Pay one refund."""
    work.pay(refund_id)


if __name__ == "__main__":
    queue = Queue("refunds", connection=Redis.from_url(REDIS_URL))
    path = "benchmarks.peers.plain_rq.refund"
    queue.enqueue_many([Queue.prepare_data(path, (each,), result_ttl=0) for each in work.wanted()])
