"""A plain Celery task per refund, as a good team would write it; the pool is the command line's choice.

Late acknowledgement, prefetch of one, no result backend. A second task that does nothing shows what Celery itself
costs.

    celery -A benchmarks.peers.plain_celery worker --pool=prefork -c 32
    celery -A benchmarks.peers.plain_celery worker --pool=threads -c 64
    celery -A benchmarks.peers.plain_celery worker --pool=gevent -c 100
"""

import os
from collections.abc import Sequence

from celery import Celery
from celery.signals import setup_logging, worker_ready

from benchmarks.peers import work

app = Celery("plain", broker=os.environ.get("PEER_BROKER"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 600, "max_connections": 200},
)


@setup_logging.connect
def _quiet(**_kwargs: object) -> None:
    """No line per task: that would be a handicap, not a design."""


@worker_ready.connect
def _say(**_kwargs: object) -> None:
    """For whoever waits."""
    print("ready.", flush=True)


@app.task(name="refund")
def refund(refund_id: str) -> None:
    """Pay one refund."""
    work.pay(refund_id)


@app.task(name="nothing")
def nothing(_number: str) -> None:
    """What a message costs."""


def publish(task: str, arguments: Sequence[str], queue: str = "celery") -> None:
    """One message for each argument, over one connection."""
    with app.connection_for_write(os.environ["PEER_BROKER"]) as connection, connection.Producer() as producer:
        for argument in arguments:
            app.send_task(task, args=[argument], queue=queue, producer=producer)


if __name__ == "__main__":
    publish(os.environ.get("PEER_TASK", "refund"), work.wanted())
