"""Refused notifications that are only counted: in this process first, in the ledger within a moment."""

from collections import Counter
from threading import Lock, Timer

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ledger import notification
from ledger.notification import HOUR
from ledger.session import Ledger

log = structlog.get_logger(__name__)

#: Seconds in which what was counted is gathered for one write.
PAUSE = 1.0


class Refusals:
    """Counts by account and second, and knows whose hour is full. A flood costs one write a second."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = Lock()
        self._counted: Counter[tuple[str, int]] = Counter()
        self._full: dict[str, int] = {}
        self._timer: Timer | None = None

    def is_full(self, account: str, now: float) -> bool:
        """Whether no more is kept of this account in the hour of `now`."""
        return self._full.get(account) == int(now) // HOUR

    def fill(self, account: str, now: float) -> None:
        """No more is kept of this account in the hour of `now`."""
        self._full[account] = int(now) // HOUR

    def count(self, account: str, now: float) -> None:
        """Count one of an account that is configured."""
        with self._lock:
            self._counted[account, int(now)] += 1
            self._arm()

    def flush(self) -> None:
        """Write what was counted; what cannot be written is tried again a moment later."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            self._disarm()
        try:
            self._write(counted)
        except SQLAlchemyError as error:
            log.warning("refusals.kept_back", error=type(error).__name__)
            with self._lock:
                self._counted.update(counted)
                self._arm()

    def close(self) -> None:
        """Write what was counted, and try no more."""
        self.flush()
        with self._lock:
            self._disarm()

    def _write(self, counted: Counter[tuple[str, int]]) -> None:
        def work(connection: Connection) -> None:
            # In one order, so that no two processes wait for each other.
            for (account, second), count in sorted(counted.items()):
                notification.count_refused(connection, account, second, count)

        if counted:
            self._ledger.run(work)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = Timer(PAUSE, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
