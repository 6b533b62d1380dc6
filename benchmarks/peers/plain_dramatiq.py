"""A Dramatiq actor per refund, as a good team would write it: one process for each core, threads in it.

dramatiq benchmarks.peers.plain_dramatiq --processes 2 --threads 32
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import work

dramatiq.set_broker(RedisBroker(url=os.environ["PEER_BROKER"]))


@dramatiq.actor(max_retries=3)
def refund(refund_id: str) -> None:
    """Pay one refund."""
    work.pay(refund_id)


if __name__ == "__main__":
    for each in work.wanted():
        refund.send(each)
