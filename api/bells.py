"""Doorbells rung by a thread of their own: no answer waits for Redis."""

import queue
import threading

import structlog

from engine.bootstrap import Ring

log = structlog.get_logger(__name__)

Call = tuple[str, str]


class Bells:
    """Rings once for many calls. One that is lost with this process costs a second, until beat's round."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._waiting: set[Call] = set()
        self._thread = threading.Thread(target=self._run, name="bells", daemon=True)
        self._thread.start()

    def ring(self, lane: str, account: str) -> None:
        """Have a worker called soon."""
        call = lane, account
        if call not in self._waiting:
            self._waiting.add(call)
            self._calls.put(call)

    def close(self) -> None:
        """Ring what waits, for a moment at most."""
        self._calls.put(None)
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            self._waiting.discard(call)  # before ringing: whoever comes now wants another ring
            try:
                self._ring(*call)
            except Exception:
                log.exception("bell.broken", lane=call[0], account=call[1])
