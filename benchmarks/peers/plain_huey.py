"""A Huey task per refund, as a good team would write it: threads, no stored results.

    huey_consumer benchmarks.peers.plain_huey.huey -k thread -w 64 -q
"""

import os

from huey import RedisHuey

from benchmarks.peers import work

huey = RedisHuey("refunds", url=os.environ["PEER_BROKER"], results=False)


@huey.task()
def refund(refund_id: str) -> None:
    """Pay one refund."""
    work.pay(refund_id)


if __name__ == "__main__":
    # Run as a module this file is called __main__, and a task is named after its file.
    from benchmarks.peers import plain_huey

    for each in work.wanted():
        plain_huey.refund(each)
