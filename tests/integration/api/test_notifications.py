"""The door over real sockets: verified, bounded, quick, and closed while the ledger is away."""

import socket
import time
from dataclasses import replace

import httpx
import pytest

from engine import notifications
from ledger import notification
from tests.support.door import door
from tests.support.sandbox_network import PROVIDERS, SandboxBench


@pytest.fixture
def bench(database_url):
    bench = SandboxBench(database_url)
    yield bench
    bench.close()


@pytest.fixture
def url(bench):
    quick = {"api": bench.engine.settings.api.model_copy(update={"body_timeout": 0.3})}
    engine = replace(bench.engine, settings=bench.engine.settings.model_copy(update=quick))
    with door(engine) as address:
        yield address


def a_message(bench, provider):
    currency = {"smartpay": "JPY", "smartretry": "USD"}.get(provider, "EUR")
    asked = {"provider": provider, "amount": 2100, "currency": currency}
    [block] = bench.network.control("POST", "payments", asked)["payments"]
    made = bench.network.control("POST", "external", {"provider": provider, "payment": block["id"], "amount": 100})
    told = {"provider": provider, "refund_id": made["refund_id"]}
    message = bench.network.control("POST", "notification", told)

    return message["headers"], message["body"].encode()


def kept(bench):
    with bench.engine.ledger.read() as connection:
        return notification.listed(connection)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_is_answered_as_it_expects(bench, url, provider):
    headers, body = a_message(bench, provider)
    answer = httpx.post(f"{url}/{provider}", headers=headers, content=body)
    forged = httpx.post(f"{url}/{provider}", content=body)

    assert answer.status_code == (204 if provider.startswith("smart2pay") else 200)
    assert answer.content == b""
    assert forged.status_code == 401
    assert sorted(bool(row["verified"]) for row in kept(bench)) == [False, True]


def test_there_is_no_door_for_an_account_that_there_is_not(bench, url):
    answer = httpx.post(f"{url}/nobody", content=b"{}")

    assert answer.status_code == 404
    assert kept(bench) == []


def test_what_is_signed_and_cannot_be_read_is_a_bad_request(bench, url):
    headers, _ = a_message(bench, "smart2pay")

    assert httpx.post(f"{url}/smart2pay", headers=headers, content=b"[]").status_code == 400
    assert [row["why"] for row in kept(bench)] == ["the body is not an event"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_not_read_to_its_end(bench, url, chunked):
    content = b"x" * (notifications.MAX_BODY + 1)
    answer = httpx.post(f"{url}/smart2pay", content=iter([content[:1000], content[1000:]]) if chunked else content)

    assert answer.status_code == 413
    assert kept(bench) == []


def test_a_body_that_does_not_come_is_given_up(bench, url):
    port = int(url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(10)
        slow.sendall(b"POST /v1/webhooks/smart2pay HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")

    assert time.monotonic() - began < 8


def test_while_the_ledger_is_away_the_provider_is_told_to_repeat_it(bench, url, monkeypatch):
    from sqlalchemy.exc import OperationalError

    def away(*_):
        raise OperationalError("", {}, Exception("gone"))

    headers, body = a_message(bench, "smart_glocal")
    monkeypatch.setattr(bench.engine.ledger, "run", away)
    answer = httpx.post(f"{url}/smart_glocal", headers=headers, content=body)
    monkeypatch.undo()
    again = httpx.post(f"{url}/smart_glocal", headers=headers, content=body)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert again.status_code == 200
    assert len(kept(bench)) == 1


def test_a_password_that_comes_twice_is_none(bench, url):
    headers, body = a_message(bench, "smart2pay")
    twice = [*headers.items(), ("Authorization", "Basic Og==")]

    assert httpx.post(f"{url}/smart2pay", headers=twice, content=body).status_code == 401


def test_who_is_refused_too_often_is_told_when_to_come_back(bench, url, monkeypatch):
    monkeypatch.setattr(notifications, "REFUSED_RATE", 1)
    headers, body = a_message(bench, "smart_glocal")
    forged = [httpx.post(f"{url}/smart_glocal", content=body) for _ in range(2)]
    genuine = httpx.post(f"{url}/smart_glocal", headers=headers, content=body)

    assert [each.status_code for each in forged] == [401, 429]
    assert 1 <= int(forged[1].headers["retry-after"]) <= notifications.REFUSED_PERIOD
    assert forged[1].json()["violated-policies"] == ["refused-notifications"]
    assert genuine.status_code == 200
