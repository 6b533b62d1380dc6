import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup

from tests.pitfalls import lab
from tests.support.celery_fixtures import ProcessSetup
from tests.support.processes import LocalProcess, wait_until

# What only a later Celery shows runs in an environment of its own: see next/conftest.py.
collect_ignore = ["next"] if celery.__version__.startswith("5.6") else []

QUEUE = "celery"
# As long as the product's, unless a test is about the time-out itself or waits for it.
LONG = {"broker_transport_options": {"visibility_timeout": 600}}
SHORT = {"broker_transport_options": {"visibility_timeout": 1}}


@dataclass
class Journal:
    """What the tasks of a test have done: lines of what, name, pid, time."""

    path: Path

    def lines(self, what: str, name: str) -> list[list[str]]:
        found = self.path.read_text().splitlines() if self.path.exists() else []
        return [line.split() for line in found if line.startswith(f"{what} {name} ")]

    def starts(self, name: str) -> int:
        return len(self.lines("start", name))

    def ends(self, name: str) -> int:
        return len(self.lines("end", name))

    def pid(self, name: str) -> int:
        return int(self.lines("start", name)[0][2])

    def moments(self, what: str, name: str) -> list[float]:
        return [float(line[3]) for line in self.lines(what, name)]


class Lab:
    """A broker and workers of pytest-celery as local processes, and a look into what they hold."""

    def __init__(self, setup: CeleryTestSetup, journal: Journal, new_worker: Callable[..., Any]) -> None:
        self.setup = setup
        self.journal = journal
        self._new_worker = new_worker

    @property
    def redis(self) -> Any:
        return self.setup.broker.container.client

    @property
    def worker(self) -> LocalProcess:
        process: LocalProcess = self.setup.worker.container.process
        return process

    @property
    def broker(self) -> LocalProcess:
        process: LocalProcess = self.setup.broker.container.process
        return process

    def queued(self) -> int:
        return int(self.redis.llen(QUEUE))

    def held(self) -> int:
        """Messages taken off the queue and not acknowledged."""
        return int(self.redis.hlen("unacked"))

    def send(self, name: str, seconds: float = 0.0, *, again: float = 0.0, **options: Any) -> None:
        lab.note.apply_async((str(self.journal.path), name, seconds, again), **options)

    def wait_for_start(self, name: str, times: int = 1, timeout: float = 15) -> None:
        wait_until(lambda: self.journal.starts(name) >= times, what=f"{times} starts of {name}", timeout=timeout)

    def wait_for_end(self, name: str, times: int = 1, timeout: float = 15) -> None:
        wait_until(lambda: self.journal.ends(name) >= times, what=f"{times} ends of {name}", timeout=timeout)

    def sweep(self, seconds: float = 0.0) -> None:
        """Let so much time pass for whatever could still be redelivered, then see that the worker works."""
        time.sleep(seconds)
        self.send("proof")
        self.wait_for_end("proof")

    def assert_nothing_is_left(self) -> None:
        """The broker knows of no message, queued or held."""
        wait_until(lambda: (self.queued(), self.held()) == (0, 0), what="an empty broker", timeout=5)

    def freeze_at_the_queue(self) -> None:
        """Stop the worker while it waits for the next message: the broker holds its BRPOP."""
        freeze_in_brpop(self.worker, self.redis)

    def another_worker(self, *arguments: str) -> LocalProcess:
        process: LocalProcess = self._new_worker(*arguments).container.process
        return process

    def end(self, how: int = signal.SIGTERM, timeout: float = 15) -> int:
        self.worker.kill(how)
        return self.worker.wait(timeout)


def freeze_in_brpop(process: LocalProcess, redis: Any) -> None:
    """Freeze a worker's processes at a moment in which the broker holds its BRPOP."""

    def waits() -> bool:
        return any(each["cmd"] == "brpop" for each in redis.client_list())

    for _ in range(20):
        wait_until(waits, what="a worker waiting for messages")
        process.pause()
        time.sleep(0.05)
        if waits():
            return
        process.resume()
    raise AssertionError("the worker is never found waiting")


@pytest.fixture
def options() -> dict[str, Any]:
    """Celery's options beside those of the product; a test overrides them with `with_options`."""
    return {}


def with_options(**changes: Any) -> Any:
    """Run a test with these options."""
    return pytest.mark.parametrize("options", [changes], ids=[""])


@pytest.fixture
def celery_setup_cls(options: dict[str, Any]) -> type[CeleryTestSetup]:
    class Setup(ProcessSetup):
        @classmethod
        def update_app_config(cls, app: Celery) -> None:
            super().update_app_config(app)
            app.conf.update(LONG | options)

    return Setup


@pytest.fixture
def default_worker_tasks(default_worker_tasks: set[Any]) -> set[Any]:
    return default_worker_tasks | {lab}


@pytest.fixture
def lab_setup(celery_setup: CeleryTestSetup, tmp_path: Path, new_worker: Callable[..., Any]) -> Lab:
    """One broker, one backend, one worker with one prefork child."""
    return Lab(celery_setup, Journal(tmp_path / "journal"), new_worker)
