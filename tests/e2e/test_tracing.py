"""One trace from the request that brings a refund to the webhook that tells how it ended."""

import json
import re
import sys

import httpx
import pytest

from engine import keys, webhooks
from engine.keys import Scope
from engine.people import Actor, Role
from engine.spans import attempt_id
from tasks.app import app
from tests.support.collector import Collector
from tests.support.processes import LocalProcess, free_port, wait_until
from tests.support.receiver import Receiver
from tests.support.stack import ROOT, Stack

pytestmark = pytest.mark.timeout(240)

ADMIN = Actor("ada", frozenset(Role))
WEBHOOKS = {"webhooks": {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "timeout": 3}}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def system(tmp_path, database_url, redis_server, collector):
    stack = Stack(tmp_path / "stack", database_url, redis_server, sections=WEBHOOKS, environment=collector.environment)
    yield stack.start()
    stack.stop()


@pytest.fixture
def api(system):
    """A client of the HTTP API, a process beside the workers."""
    port = free_port()
    env = {"REFUNDRY_CONFIG": str(system.folder / "refundry.toml"), "PYTHONPATH": str(ROOT), **system.environment}
    process = LocalProcess("api", [sys.executable, "-m", "api", "--port", str(port)], system.folder, env=env)
    system.processes.append(process)
    process.start()
    process.wait_for_log("API on")
    secret = keys.create(system.engine, ADMIN, "shop", scopes=(Scope.WRITE, Scope.READ))[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {secret}"}) as client:
        yield client


def of(collector, trace):
    return {each.id: each for each in collector.spans if each.trace == trace}


def ancestors(spans, span):
    names = []
    while span := spans.get(span.parent):
        names.append(span.name)
    return names


def test_one_trace_leads_from_the_request_to_the_webhook_and_a_retry_is_linked(system, api, collector, receiver):
    webhooks.create(system.engine, ADMIN, receiver.url)
    system.faults({"provider": "smartpay", "call": "refund", "fault": "answer_lost", "first": 1})
    [job] = system.jobs("smartpay", 1)
    answer = api.post("/v1/refunds", json=job, headers={"traceparent": TRACE})
    refund = answer.json()["id"]
    system.settle(1)
    wait_until(lambda: any(got.json["type"] == "refund.succeeded" for got in receiver.got), what="the last webhook")

    def all_of_it():
        found = of(collector, TRACE[3:35])
        told = {got.headers["traceparent"].split("-")[2] for got in receiver.got}
        return told <= set(found) and all(each.parent in {*found, TRACE[36:52]} for each in found.values())

    wait_until(all_of_it, what="the spans of every webhook")
    spans = of(collector, TRACE[3:35])
    by_name = {each.name: each for each in spans.values()}
    server, accept = by_name["POST /v1/refunds"], by_name["ledger.accept"]
    attempts = {each.attributes["refundry.attempt"]: each for each in spans.values() if each.name == "refund.attempt"}
    first, second = attempts[1], attempts[2]
    calls = [each for each in spans.values() if each.name == "POST"]

    assert server.parent == TRACE[36:52]
    assert answer.headers["traceparent"] == f"00-{server.trace}-{server.id}-01"
    assert accept.parent == server.id
    assert system.rows("traceparent") == [{"traceparent": f"00-{accept.trace}-{accept.id}-01"}]
    assert {each.attributes["refundry.refund_id"] for each in attempts.values()} == {refund}
    assert first.links == []
    assert int(first.id, 16) == attempt_id(refund, 1)
    assert second.links == [(first.trace, first.id)]
    recovering = spans[second.parent]
    assert (recovering.name, recovering.links) == ("refund.recover", [(first.trace, first.id)])
    assert ancestors(spans, first) == ["refund.send", "ledger.accept", "POST /v1/refunds"]
    assert {each.parent for each in calls} == {first.id, second.id}
    assert [each.failed for each in calls if each.parent == first.id] == [True]
    assert [each.attributes["http.response.status_code"] for each in calls if each.parent == second.id] == [200]
    for got in receiver.got:
        _, trace, span, _ = got.headers["traceparent"].split("-")
        assert (trace, spans[span].name) == (TRACE[3:35], "webhook.deliver")
        assert ancestors(spans, spans[span]) == ["ledger.accept", "POST /v1/refunds"]
    assert {each.process["refundry.part"] for each in spans.values()} >= {"api", "worker"}
    system.assert_paid_once()


def test_a_producer_s_trace_goes_through_the_stream_and_what_nobody_samples_is_not_sent(system, collector):
    client = system.redis.client()
    sampled, silent, own = system.jobs("smartretry", 3)
    client.xadd("refundry:intake", {"job": json.dumps(sampled), "traceparent": TRACE})
    client.xadd("refundry:intake", {"job": json.dumps(silent), "traceparent": UNSAMPLED})
    client.xadd("refundry:intake", {"job": json.dumps(own), "traceparent": "nonsense"})
    system.settle(3)
    kept = {row["reference"]: row["traceparent"] for row in system.rows("reference, traceparent")}

    def polled(trace):
        return any(each.name == "refund.poll" for each in of(collector, trace).values())

    wait_until(
        lambda: polled(TRACE[3:35]) and polled(kept[own["reference"]][3:35]), what="the last spans of two traces"
    )
    assert kept[sampled["reference"]][3:35] == TRACE[3:35]
    assert re.fullmatch(f"00-{UNSAMPLED[3:35]}-[0-9a-f]{{16}}-00", kept[silent["reference"]])
    assert of(collector, UNSAMPLED[3:35]) == {}


def test_the_header_of_a_celery_message_carries_a_trace_too(system):
    [job] = system.jobs("smartpay", 1)
    app.send_task("refunds.submit", [job], queue="refundry.intake", headers={"traceparent": TRACE})
    system.settle(1)

    assert [row["traceparent"][3:35] for row in system.rows("traceparent")] == [TRACE[3:35]]


def test_spans_hold_no_secret_and_nobody_s_data(system, collector):
    iban, mail, name = "DE89370400440532013000", "ann.private@example.com", "Annabella"
    [job] = system.jobs("smart_glocal", 1)
    system.enqueue([{**job, "customer": {"email": mail, "first_name": name}, "bank_account": {"iban": iban}}])
    system.settle(1)
    wait_until(lambda: any(each.name == "refund.attempt" for each in collector.spans), what="an attempt's span")
    sent = b"".join(collector.bodies)
    secrets = [
        value
        for account in system.credentials.values()
        for key, value in account.items()
        if isinstance(value, str) and ("secret" in key or "key" in key or "password" in key)
    ]

    assert secrets
    for told in (iban, mail, name, job["payment"]["id"], *secrets):
        assert told.encode() not in sent


def test_lines_of_a_step_carry_its_trace(system, collector):
    client = system.redis.client()
    system.faults({"provider": "smartpay", "call": "refund", "fault": "wrong_amount", "first": 1})
    [job] = system.jobs("smartpay", 1)
    client.xadd("refundry:intake", {"job": json.dumps(job), "traceparent": TRACE})
    system.settle(1, allow=frozenset({"review"}))

    system.workers[0].wait_for_log(f'"trace_id": "{TRACE[3:35]}"')
