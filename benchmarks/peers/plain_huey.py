"""A Huey task per refund, as a good team would write it: threads, no stored results.

huey_consumer benchmarks.peers.plain_huey.huey -k thread -w 64 -q
"""

import importlib
import os

from huey import RedisHuey

from benchmarks.peers import work

huey = RedisHuey("refunds", url=os.environ["PEER_BROKER"], results=False)


@huey.task()
def refund(refund_id: str) -> None:
    """Pay one refund."""
    work.pay(refund_id)


if __name__ == "__main__":
    # Run as a module this file is called __main__; a task is named after the file that the worker imports.
    task = importlib.import_module("benchmarks.peers.plain_huey").refund
    for each in work.wanted():
        task(each)
