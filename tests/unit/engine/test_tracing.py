"""What tracing is while it is off, and which ids it gives while it is on."""

import sys
import time

import pytest
import structlog

from engine import spans, tracing
from engine.spans import attempt_id

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def _off():
    yield
    tracing.stop()


def test_it_is_off_until_there_is_somewhere_to_send_spans():
    tracing.start("worker", "0.1.0", {"OTEL_SERVICE_NAME": "refunds"})

    assert not tracing.is_on()
    with tracing.accepting(["a", None]) as kept, tracing.request("GET", None) as span:
        assert kept == ["a", None]
        assert span.traceparent is None


@pytest.mark.parametrize("given", [None, 7, "", "nonsense", "00-abc", f"00-{'0' * 32}-{'1' * 16}-01", "00-\x00"])
def test_what_is_no_traceparent_is_none(given):
    assert tracing.sane(given) is None
    assert tracing.sane(TRACE) == TRACE


def test_while_it_is_off_the_network_is_what_it_was():
    network = object()

    assert tracing.traced(network) is network


def test_where_the_extra_is_missing_it_says_so_and_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "engine.spans", None)
    with structlog.testing.capture_logs() as lines:
        tracing.start("worker", "0.1.0", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})

    assert [line["event"] for line in lines] == ["tracing.not_installed"]
    assert not tracing.is_on()


def test_a_collector_that_is_away_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(spans, "_PATIENCE", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing.start("worker", "0.1.0")
    with tracing.request("GET", None) as span:
        assert int(span.traceparent[-2:], 16) & 1
    begun = time.monotonic()
    tracing.stop()

    assert time.monotonic() - begun < 2
    assert not tracing.is_on()


def test_an_attempt_s_id_follows_from_the_attempt():
    assert attempt_id("rf_1", 1) == attempt_id("rf_1", 1)
    assert len({attempt_id(refund, no) for refund in ("rf_1", "rf_2") for no in range(1, 50)}) == 98
    assert all(0 < attempt_id("rf_1", no) < 2**64 for no in range(50))
