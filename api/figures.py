"""The metrics of this door, and of the ledger behind it, for Prometheus."""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from config.celery import QUEUES
from engine.bootstrap import Engine
from engine.health import figures
from engine.meter import BUCKETS, COUNTERS, SECONDS, SECONDS_LABELS

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
#: Counting refunds takes a walk through their table: so many seconds lie between two at least.
PAUSE = 10.0


class Figures:
    """One registry per process."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Ledger(engine))
        self._requests = Histogram(
            "refundry_http_request_seconds",
            "Time to the end of the answer.",
            ("app", "route", "status"),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def watch(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels("api", route, str(status)).observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """In Prometheus' own format, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Ledger(Collector):
    """What ledger and Redis say, asked when Prometheus asks."""

    def __init__(self, engine: Engine, now: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._now = now
        self._asked = float("-inf")
        self._known: dict[str, Any] = {}

    def describe(self) -> list[Metric]:
        """Nothing is asked before somebody wants to know."""
        return []

    def collect(self) -> Iterator[Metric]:
        if self._now() - self._asked > PAUSE:
            self._known = figures(self._engine, QUEUES)
            self._asked = self._now()
        for name, (words, labels, samples) in self._known.items():
            family = GaugeMetricFamily(f"refundry_{name}", words, labels=labels)
            for values, figure in samples:
                family.add_metric(values, figure)
            yield family
        yield from self._counts()

    def _counts(self) -> Iterator[Metric]:
        """Of all processes. They are named even while nothing was counted."""
        totals = self._engine.meter.totals()
        for name, (words, labels) in COUNTERS.items():
            family = CounterMetricFamily(f"refundry_{name}", words, labels=labels)
            for (series, values), total in totals.items():
                if series == name:
                    family.add_metric(values, total)
            yield family
        yield _seconds({values: total for (series, values), total in totals.items() if series == SECONDS})


def _seconds(counted: Mapping[tuple[str, ...], float]) -> Metric:
    """Buckets are counted one by one, and shown as Prometheus wants them: each with all below it."""
    family = HistogramMetricFamily(
        f"refundry_{SECONDS}", "From the commit of an attempt to that of its answer.", labels=SECONDS_LABELS
    )
    for labels in sorted({values[:-1] for values in counted}):
        below = accumulate(counted.get((*labels, bucket), 0) for bucket in BUCKETS)
        family.add_metric(labels, list(zip(BUCKETS, below, strict=True)), counted.get((*labels, "sum"), 0))

    return family
