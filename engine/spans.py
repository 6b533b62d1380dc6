"""The spans of `engine.tracing`, by OpenTelemetry's SDK. Importing this needs the extra `otel`."""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import httpx
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from domain.refund import Refund
from engine.tracing import NOTHING, Scope, Span
from providers.transport import Answer, Network

_PATIENCE = 3.0
#: How the flags of a `traceparent` end that is not to be recorded.
_UNSAMPLED = frozenset("02468ace")
_PROPAGATOR = TraceContextTextMapPropagator()
#: The id that the next span is to have.
_NEXT: ContextVar[int | None] = ContextVar("next_span_id", default=None)


class _Ids(RandomIdGenerator):
    """An attempt's span has an id that follows from the attempt: the next one links to it, and nothing is stored."""

    def generate_span_id(self) -> int:
        """The wanted id, else a random one."""
        return _NEXT.get() or super().generate_span_id()


def attempt_id(refund_id: str, no: int) -> int:
    """The span id of a refund's attempt."""
    digest = hashlib.sha256(f"{refund_id}:{no}".encode()).digest()

    return int.from_bytes(digest[:8]) or 1


class _Recorded:
    """A `Span` that is recorded."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """See `Span`."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span))

        return carrier.get("traceparent")

    def name(self, words: str) -> None:
        """See `Span`."""
        self._span.update_name(words)

    def set(self, attributes: Mapping[str, Any]) -> None:
        """See `Span`."""
        self._span.set_attributes(attributes)

    def failed(self, kind: str) -> None:
        """See `Span`."""
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attribute("error.type", kind)


class Spans:
    """What `engine.tracing` hands out while it is on."""

    def __init__(self, exporter: SpanExporter, resource: Resource) -> None:
        self._provider = TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("refundry")

    @classmethod
    def exporting(cls, part: str, release: str) -> "Spans":
        """Over OTLP/HTTP, as OpenTelemetry's variables say."""
        service = os.environ.get("OTEL_SERVICE_NAME", "refundry")
        known = {"service.name": service, "service.version": release, "refundry.part": part}

        return cls(OTLPSpanExporter(), Resource.create({**known, "process.pid": os.getpid()}))

    def close(self) -> None:
        """See `tracing.stop`. The SDK has a limit for this and does not keep it."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_PATIENCE)

    def server(self, method: str, parent: str | None) -> Scope:
        """See `tracing.request`."""
        return self._span(method, SpanKind.SERVER, parent, {"http.request.method": method})

    @contextmanager
    def accepting(self, parents: Sequence[str | None]) -> Iterator[list[str | None]]:
        """See `tracing.accepting`."""
        with ExitStack() as open_spans:
            yield [
                open_spans.enter_context(self._span("ledger.accept", SpanKind.INTERNAL, parent, {})).traceparent
                or parent
                for parent in parents
            ]

    def step(self, lane: str, refund: Refund, earlier: int) -> Scope:
        """See `tracing.step`; log lines of the step carry its trace."""
        return nullcontext(NOTHING) if _silent(refund.traceparent) else self._step(lane, refund, earlier)

    @contextmanager
    def _step(self, lane: str, refund: Refund, earlier: int) -> Iterator[Span]:
        told = {**_told(refund), "refundry.lane": lane}
        links = _links(refund, earlier)
        with (
            self._span(f"refund.{lane}", SpanKind.CONSUMER, refund.traceparent, told, links=links) as span,
            structlog.contextvars.bound_contextvars(trace_id=(span.traceparent or "")[3:35]),
        ):
            yield span

    def attempt(self, refund: Refund, no: int) -> Scope:
        """See `tracing.attempt`."""
        if not trace.get_current_span().is_recording():
            return nullcontext(NOTHING)
        told = {**_told(refund), "refundry.attempt": no}
        links, wanted = _links(refund, no - 1), attempt_id(refund.id, no)

        return self._span("refund.attempt", SpanKind.INTERNAL, None, told, links=links, span_id=wanted)

    def delivery(self, kind: str, delivery_id: str, attempt_no: int, parent: str | None) -> Scope:
        """See `tracing.delivery`."""
        told = {"refundry.event": kind, "messaging.message.id": delivery_id, "refundry.attempt": attempt_no}

        return self._span("webhook.deliver", SpanKind.PRODUCER, parent, told)

    def network(self, network: Network) -> Network:
        """See `tracing.traced`."""
        return _Traced(network, self)

    def client(self, request: httpx.Request) -> Scope:
        """A request to a provider: where to and how, never what it says."""
        told = {"http.request.method": request.method, "server.address": request.url.host}

        return self._span(request.method, SpanKind.CLIENT, None, told)

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        attributes: Mapping[str, Any],
        *,
        links: Sequence[Link] = (),
        span_id: int | None = None,
    ) -> Iterator[Span]:
        """A child of `parent`, else of the span under way. Messages of exceptions are nobody's business."""
        if _silent(parent):
            yield NOTHING
            return
        token = _NEXT.set(span_id)
        try:
            span = self._tracer.start_span(name, _context(parent), kind, attributes, links)
        finally:
            _NEXT.reset(token)
        recorded = _Recorded(span)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield recorded
            except Exception as error:
                recorded.failed(type(error).__name__)
                raise


class _Traced:
    """A network whose requests are spans, where they belong to something traced."""

    def __init__(self, network: Network, spans: Spans) -> None:
        self._network = network
        self._spans = spans

    async def send(self, request: httpx.Request) -> Answer:
        """See `Network`."""
        if not trace.get_current_span().is_recording():
            return await self._network.send(request)
        with self._spans.client(request) as span:
            answer = await self._network.send(request)
            if isinstance(answer, httpx.Response):
                span.set({"http.response.status_code": answer.status_code})
            else:
                span.failed(type(answer).__name__.lower())

            return answer

    async def close(self) -> None:
        """See `Network`."""
        await self._network.close()


def _silent(parent: str | None) -> bool:
    """Whether whoever began the trace does not want it recorded."""
    return parent is not None and parent[-1:] in _UNSAMPLED


def _context(parent: str | None) -> Context | None:
    return _PROPAGATOR.extract({"traceparent": parent}) if parent else None


def _told(refund: Refund) -> dict[str, str]:
    return {"refundry.refund_id": refund.id, "refundry.account": refund.account, "refundry.provider": refund.provider}


def _links(refund: Refund, no: int) -> tuple[Link, ...]:
    """To this attempt of the refund; nothing where there is none, or where the refund came without a trace."""
    known = trace.get_current_span(_context(refund.traceparent)).get_span_context()
    if no < 1 or not refund.traceparent or not known.is_valid:
        return ()

    return (
        Link(SpanContext(known.trace_id, attempt_id(refund.id, no), is_remote=True, trace_flags=known.trace_flags)),
    )
