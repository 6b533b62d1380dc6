"""Celery's side of the companion: started with the worker, replaced when it dies, stopped with it."""

import subprocess
import sys
import threading
from typing import Any

import structlog
from celery import bootsteps

log = structlog.get_logger(__name__)


class CompanionStep(bootsteps.StartStopStep):
    """Runs `python -m worker.companion` beside the pool. A process, not a thread: the pool forks."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None

    def start(self, _parent: Any) -> None:
        """Start the companion and whoever replaces it."""
        self._start_process()
        self._watch = threading.Thread(target=self._keep_alive, name="companion-watch", daemon=True)
        self._watch.start()

    def stop(self, _parent: Any) -> None:
        """End it and wait for it."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def terminate(self, parent: Any) -> None:
        """A worker that ends in a hurry takes its companion along."""
        self.stop(parent)

    def _start_process(self) -> None:
        # The companion ends when this pipe does, so it never outlives a worker that was killed.
        self._process = subprocess.Popen([sys.executable, "-m", "worker.companion"], stdin=subprocess.PIPE)

    def _keep_alive(self) -> None:
        while self._process is not None:
            code = self._process.wait()
            if self._stopping.wait(1.0):
                return
            log.error("companion.died", code=code)
            self._start_process()
