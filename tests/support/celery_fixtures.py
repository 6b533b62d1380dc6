"""pytest-celery's fixtures on local processes; `tests/conftest.py` shows them to every test.

A test that wants other tasks overrides `default_worker_tasks`, other workers `celery_worker_cluster`, other
options `celery_setup_cls`, as the plugin's documentation says.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestSetup,
    CeleryWorkerCluster,
    RedisTestBackend,
)

from tests.support.celery_nodes import ProcessBrokerNode, ProcessWorkerNode, RedisProcess, WorkerProcess

VISIBILITY_TIMEOUT = 2


class ProcessSetup(CeleryTestSetup):
    """The options of the product that decide what a crash does, with a short visibility time-out."""

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        app.conf.update(
            task_acks_late=True,
            task_reject_on_worker_lost=True,
            worker_prefetch_multiplier=1,
            broker_connection_retry_on_startup=True,
            broker_connection_max_retries=None,
            broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT},
        )


@pytest.fixture
def celery_setup_cls() -> type[CeleryTestSetup]:
    return ProcessSetup


@pytest.fixture
def default_redis_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    container = RedisProcess.launch(tmp_path_factory.mktemp("broker"))
    yield container
    container.teardown()


@pytest.fixture
def default_redis_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    container = RedisProcess.launch(tmp_path_factory.mktemp("backend"))
    yield container
    container.teardown()


@pytest.fixture
def celery_broker_cluster(default_redis_broker: RedisProcess) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(ProcessBrokerNode(default_redis_broker))


@pytest.fixture
def celery_backend_cluster(default_redis_backend: RedisProcess) -> CeleryBackendCluster:
    return CeleryBackendCluster(RedisTestBackend(default_redis_backend))


@pytest.fixture
def worker_arguments() -> tuple[str, ...]:
    """What a worker's command line ends with."""
    return ("--pool=prefork", "--concurrency=1", "--include=tests.support.short_sweep")


@pytest.fixture
def new_worker(
    tmp_path_factory: pytest.TempPathFactory,
    default_worker_initial_content: dict[str, bytes],
    default_worker_env: dict[str, str],
    default_worker_app: Celery,
    worker_arguments: tuple[str, ...],
) -> Iterator[Callable[..., ProcessWorkerNode]]:
    """A function that starts one more worker."""
    made: list[WorkerProcess] = []

    def make(*arguments: str) -> ProcessWorkerNode:
        folder = tmp_path_factory.mktemp("worker")
        container = WorkerProcess.launch(
            folder, default_worker_initial_content, default_worker_env, *(arguments or worker_arguments)
        )
        made.append(container)
        return ProcessWorkerNode(container, default_worker_app)

    yield make
    for container in made:
        container.teardown()


@pytest.fixture
def default_worker_container(new_worker: Callable[..., ProcessWorkerNode]) -> Any:
    return new_worker().container


@pytest.fixture
def celery_worker_cluster(new_worker: Callable[..., ProcessWorkerNode]) -> CeleryWorkerCluster:
    return CeleryWorkerCluster(new_worker())


@pytest.fixture
def default_worker_tasks(default_worker_tasks: set[ModuleType]) -> set[ModuleType]:
    """The modules whose tasks the workers know."""
    return default_worker_tasks
