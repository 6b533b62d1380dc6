"""The ways in: each opens what a shop would keep open, and answers a function that hands in one job.

A way in is one entry of `WAYS`; the measurements of latency and intake take them from there.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from engine.bootstrap import Engine
from engine.submit import submit
from signals.client import connect
from signals.stream import publish_job
from tasks.app import app

Send = Callable[[dict[str, Any]], object]
Way = Callable[[Engine], AbstractContextManager[Send]]


@contextmanager
def stream(engine: Engine) -> Iterator[Send]:
    """XADD to the intake stream; the worker's companion takes it from there."""
    client = connect(str(engine.settings.redis.url))
    yield lambda job: publish_job(client, msgspec.json.encode(job))
    client.close()


@contextmanager
def celery_task(engine: Engine) -> Iterator[Send]:
    """The task `refunds.submit`, as a Celery shop sends it."""
    assert engine.settings.redis.url is not None
    yield lambda job: app.send_task("refunds.submit", kwargs={"job": job}, queue="refundry.intake")


@contextmanager
def python(engine: Engine) -> Iterator[Send]:
    """`engine.submit` in the shop's own process."""
    yield lambda job: submit(engine, job, actor="benchmark", via="benchmark")


WAYS: dict[str, Way] = {"stream": stream, "Celery task": celery_task, "Python": python}
