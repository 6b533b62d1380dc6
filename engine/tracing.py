"""Traces: one from the request that brings a refund to the webhook that tells how it ended (OpenTelemetry).

Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set and the extra `otel` is installed: a function of this module then costs a
look at one variable. What carries a trace from process to process is the refund's `traceparent` in the ledger.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from domain.refund import Refund
from providers.transport import Network

if TYPE_CHECKING:
    from engine.spans import Spans

log = structlog.get_logger(__name__)

_SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


_W3C = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


class Span(Protocol):
    """A piece of work under way. `traceparent`: what makes other work its child; None while nothing is traced."""

    @property
    def traceparent(self) -> str | None:
        """In W3C's form."""

    def name(self, words: str) -> None:
        """What it is called, where that is known only later."""

    def set(self, attributes: Mapping[str, Any]) -> None:
        """What it is told by: no secrets, no personal data."""

    def failed(self, kind: str) -> None:
        """It did not do what it was for."""


class _Nothing:
    traceparent = None

    def name(self, words: str) -> None:
        """Nothing is traced."""

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Nothing is traced."""

    def failed(self, kind: str) -> None:
        """Nothing is traced."""


Scope = AbstractContextManager[Span]
NOTHING: Span = _Nothing()
_UNTRACED: Scope = nullcontext(NOTHING)
_spans: "Spans | None" = None


def start(part: str, release: str, environ: Mapping[str, str] = os.environ) -> None:
    """Switch tracing on where the environment asks for it. For a process's entry, and after every fork.

    `part`: which process this is. The rest is said by OpenTelemetry's own variables.
    """
    global _spans  # noqa: PLW0603 - one per process, set by its entry
    if _spans is not None or not any(environ.get(name) for name in _SWITCHES):
        return
    try:
        from engine.spans import Spans  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        log.warning("tracing.not_installed", name=error.name, what="refundry[otel]")
        return
    _spans = Spans.exporting(part, release)


def stop() -> None:
    """Send what is left, for a few seconds at most."""
    global _spans  # noqa: PLW0603
    if _spans is not None:
        _spans.close()
        _spans = None


def sane(traceparent: object) -> str | None:
    """What a producer sent as its `traceparent`, if it is one."""
    return traceparent if isinstance(traceparent, str) and _W3C.fullmatch(traceparent) else None


def request(method: str, parent: str | None) -> Scope:
    """A request that came in; its route is named when it is known."""
    return _UNTRACED if _spans is None else _spans.server(method, parent)


@contextmanager
def accepting(parents: Sequence[str | None]) -> Iterator[Sequence[str | None]]:
    """Jobs on their way into the ledger, each in its producer's trace; answers the `traceparent` to keep with each."""
    if _spans is None:
        yield parents
    else:
        with _spans.accepting(parents) as kept:
            yield kept


def step(lane: str, refund: Refund, *, earlier: int) -> Scope:
    """One step of a refund in a worker; linked to the last of its `earlier` attempts."""
    return _UNTRACED if _spans is None else _spans.step(lane, refund, earlier)


def attempt(refund: Refund, no: int) -> Scope:
    """The sending of an attempt; linked to the one before."""
    return _UNTRACED if _spans is None else _spans.attempt(refund, no)


def delivery(kind: str, delivery_id: str, attempt_no: int, parent: str | None) -> Scope:
    """A webhook on its way, in the trace of its refund."""
    return _UNTRACED if _spans is None else _spans.delivery(kind, delivery_id, attempt_no, parent)


def traced(network: Network) -> Network:
    """The same network, with a span for each request of a step; itself where nothing is traced."""
    return network if _spans is None else _spans.network(network)


def is_on() -> bool:
    """Whether anything is traced."""
    return _spans is not None
