"""How many refunds are final. Counting them reads every refund there is, so it is done rarely where that takes long."""

import time
from collections.abc import Callable
from threading import Lock

from sqlalchemy import Connection

from domain.state import FINAL, State
from ledger import queries

#: At most one part in so many of the time is spent counting.
SHARE = 50
# What people may still have to look at is among what stands, and counted each time.
COUNTED = FINAL - {State.REVERSED}


class Finals:
    """The counts of one process. Any thread may ask."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = Lock()
        self._counts: dict[str, int] = {}
        self._again = 0.0

    def counts(self, connection: Connection) -> dict[str, int]:
        """By state; as old as fifty times what it took to count them, at most."""
        with self._lock:
            began = self._monotonic()
            if began >= self._again:
                found = queries.by_state(connection)
                self._counts = {state: found.get(state, 0) for state in COUNTED}
                ended = self._monotonic()
                self._again = ended + SHARE * (ended - began)

            return self._counts
