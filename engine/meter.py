"""What happens is counted in this process, and added to the ledger's counts every few seconds."""

from bisect import bisect_left
from collections import defaultdict
from threading import Lock, Timer

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ledger import counts
from ledger.counts import Series
from ledger.session import Ledger

log = structlog.get_logger(__name__)

#: Seconds between two writes; a process that is killed takes so much of its counts with it, and nothing else.
PAUSE = 5.0
#: Upper bounds of the buckets of attempts, in seconds.
BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 90.0)
BUCKETS = (*map(str, BOUNDS), "+Inf")
#: What is counted: the words that explain it, and the names of its labels.
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "accepted": ("Refunds accepted.", ("account", "provider")),
    "attempts": ("Requests that may have moved money, by what was answered.", ("account", "provider", "outcome")),
    "dead": ("Refunds given to review, by cause.", ("account", "provider", "class")),
    "succeeded_amount": (
        "Money that providers confirmed to have returned, in minor units.",
        ("account", "provider", "currency"),
    ),
    "webhooks_in": ("Notifications of providers: new, repeated or refused.", ("account", "provider", "result")),
    "webhooks_out": ("Deliveries to endpoints, by how they ended.", ("result",)),
}
SECONDS = "attempt_seconds"
SECONDS_LABELS = ("account", "provider")


class Meter:
    """Counts of one process. Any thread may count."""

    def __init__(self, ledger: Ledger, pause: float = PAUSE) -> None:
        self._ledger = ledger
        self._pause = pause
        self._lock = Lock()
        self._counted: defaultdict[Series, float] = defaultdict(float)
        self._timer: Timer | None = None
        self._started = False

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to one of COUNTERS."""
        with self._lock:
            self._counted[name, labels] += by
            self._arm()

    def attempt(self, account: str, provider: str, outcome: str, seconds: float) -> None:
        """One attempt with its answer, and how long that took."""
        bucket = BUCKETS[bisect_left(BOUNDS, seconds)]
        with self._lock:
            self._counted["attempts", (account, provider, outcome)] += 1
            self._counted[SECONDS, (account, provider, bucket)] += 1
            self._counted[SECONDS, (account, provider, "sum")] += seconds
            self._arm()

    def start(self) -> None:
        """From now on what is counted is added to the ledger within PAUSE seconds; before, only at the end."""
        self._started = True

    def close(self) -> None:
        """Add what was counted, and start no more."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
        self.flush()

    def totals(self) -> dict[Series, float]:
        """What all processes have counted; what this one has is added first."""
        self.flush()
        with self._ledger.read() as connection:
            return counts.totals(connection)

    def _arm(self) -> None:
        if self._started and self._timer is None:
            self._timer = Timer(self._pause, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Add to the ledger what was counted; what cannot be written is kept for the next time."""
        with self._lock:
            more, self._counted = self._counted, defaultdict(float)
            self._timer = None
        if not more:
            return
        try:
            self._ledger.run(lambda connection: counts.add(connection, more))
        except SQLAlchemyError as error:
            log.warning("counts.kept_back", error=type(error).__name__)
            with self._lock:
                for series, value in more.items():
                    self._counted[series] += value
                self._arm()
