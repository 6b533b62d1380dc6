"""pytest-celery's nodes on local processes: no Docker engine is needed.

Named after the plugin's own classes and fixtures, so that its documentation holds for them.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest_docker_tools
from pytest_celery import CeleryTestBroker, CeleryTestWorker, CeleryWorkerContainer, RedisContainer

from cli.embedded import find_server
from tests.support.processes import POLL_SECONDS, LocalProcess, free_port

READY_SECONDS = 30


class ProcessContainer:
    """What is the same for a container of any kind once it is a process."""

    _container: LocalProcess
    name: str
    ready_prompt: str | None

    @classmethod
    def _started(cls, process: LocalProcess) -> Self:
        process.start()
        container = cls(process)  # type: ignore[call-arg]  # the plugin's class takes it
        container.ready()
        return container

    @property
    def process(self) -> LocalProcess:
        return self._container

    def ready(self) -> bool:
        """Whether it said so since its last start: an old log still holds the old prompt."""
        self._container.wait_for_log(self.ready_prompt or "", timeout=READY_SECONDS)
        return True

    def teardown(self) -> None:
        self._container.remove()


class RedisProcess(ProcessContainer, RedisContainer):
    """A Redis as broker or backend."""

    hostname = "127.0.0.1"

    @classmethod
    def launch(cls, folder: Path, *arguments: str) -> Self:
        port = free_port()
        command = [str(find_server()), "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes"]
        return cls._started(LocalProcess("redis", [*command, *arguments], folder, port=port))

    @property
    def port(self) -> int:
        assert self._container.port is not None
        return self._container.port

    @property
    def url(self) -> str:
        """As the worker sees it, which is as we see it: there is no network of containers."""
        return str(self.host_url)


class WorkerProcess(ProcessContainer, CeleryWorkerContainer):
    """A worker that runs the plugin's app with the tasks of the test."""

    @classmethod
    def launch(cls, folder: Path, content: Mapping[str, bytes], env: Mapping[str, str], *arguments: str) -> Self:
        for name, data in content.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        command = [sys.executable, "-m", *cls.command("--without-mingle", "--without-gossip", *arguments)]
        return cls._started(LocalProcess("worker", command, folder, env={**env, "PYTHONPATH": str(folder)}))


class _PatientNode:
    """The plugin looks into a log once a second."""

    def wait_for_log(self, log: str, message: str = "", timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        node: Any = self
        while log not in node.logs():
            if time.monotonic() > deadline:
                raise pytest_docker_tools.exceptions.TimeoutError(f"{log!r} not in:\n{node.logs()[-3000:]}")
            time.sleep(POLL_SECONDS)


class ProcessWorkerNode(_PatientNode, CeleryTestWorker):
    """A worker of the setup."""


class ProcessBrokerNode(_PatientNode, CeleryTestBroker):
    """The broker of the setup."""
