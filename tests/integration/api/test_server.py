"""What surrounds every request, and what a hostile client meets, on a running server."""

import json
import re
import socket
import time

import httpx
import pytest

from engine.keys import Scope
from tests.support.api import job

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def raw(api, *parts, timeout=20):
    """Sends bytes as they are; answers all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=timeout) as connection:
        for part in parts:
            connection.sendall(part)
        return received(connection)


def received(connection):
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/refunds/", 404, "not-found"),
        ("DELETE", "/v1/refunds", 405, "method-not-allowed"),
        ("TRACE", "/v1/refunds", 405, "method-not-allowed"),
        ("PUT", "/v1/refunds/rf_x/cancel", 405, "method-not-allowed"),
        ("GET", "/docs", 404, "not-found"),
        ("GET", "/openapi.json", 404, "not-found"),
    ],
)
def test_the_frameworks_own_errors_are_problems(client, method, path, status, code):
    answer = client.request(method, path)
    problem = answer.json()

    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert set(problem) >= {
        "type",
        "title",
        "status",
        "detail",
        "code",
        "instance",
        "request_id",
        "errors",
        "retryable",
    }


def test_what_may_be_done_at_a_path_is_told(api):
    for method, status in (("OPTIONS", 204), ("DELETE", 405)):
        answer = httpx.request(method, f"{api.url}/v1/refunds")
        assert (answer.status_code, answer.headers["Allow"]) == (status, "GET, HEAD, OPTIONS, POST")
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_head_is_get_without_the_body(client):
    head, get = client.head("/v1/refunds?reference=none"), client.get("/v1/refunds?reference=none")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["ETag"] == get.headers["ETag"]
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"Content-Type": "application/json"}, b"{", 400, "malformed-json"),
        ({"Content-Type": "application/json"}, b'{"a": NaN}', 400, "malformed-json"),
        ({"Content-Type": "application/json"}, b"\xff", 400, "malformed-json"),
        ({"Content-Type": "application/json"}, b"[" * 100_000, 400, "malformed-json"),
        ({"Content-Type": "application/json"}, b"[]", 422, "validation-failed"),
        ({"Content-Type": "application/json"}, b"", 400, "malformed-json"),
        ({"Content-Type": "text/plain"}, b"{}", 415, "unsupported-media-type"),
        ({}, b"{}", 415, "unsupported-media-type"),
        ({"Content-Type": "application/json; charset=latin-1"}, b"{}", 415, "unsupported-media-type"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 415, "unsupported-media-type"),
    ],
)
def test_a_body_that_is_no_job_is_told_why(client, headers, content, status, code):
    answer = client.post("/v1/refunds", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def head_of(key, path, *more):
    """The beginning of a POST, to be followed by what is odd about it."""
    fields = ("Host: x", f"Authorization: Bearer {key}", "Content-Type: application/json", "Connection: close", *more)
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""]).encode()


@pytest.mark.parametrize("path", ["/v1/refunds", "/v1/refunds/batch", "/v1/refunds/rf_x/cancel"])
def test_a_large_body_is_refused_before_it_is_read(api, name, path):
    """The server answers while most of the body was never sent, whether its length was announced or not."""
    most = 10_485_760 if path.endswith("batch") else 1_048_576
    key = api.key(name)
    announced = raw(api, head_of(key, path, f"Content-Length: {most + 1}"))
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        connection.sendall(head_of(key, path, "Transfer-Encoding: chunked"))
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(most // 0x10000 + 1):
            connection.sendall(piece)
        streamed = received(connection)

    for answer in (announced, streamed):
        assert answer.startswith(b"HTTP/1.1 413")
        assert b'"body-too-large"' in answer


def test_a_body_that_does_not_come_ends_the_wait(serve, sqlite_url):
    api = serve(sqlite_url, api={"body_timeout": 0.5})
    start = time.monotonic()
    answer = raw(api, head_of(api.key(), "/v1/refunds", "Content-Length: 10"), b"{")

    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - start < 10


def test_headers_that_do_not_end_end_the_connection(api):
    start = time.monotonic()
    silent = raw(api)
    slow = raw(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    endless = raw(api, b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 8000)

    assert silent.startswith(b"HTTP/1.1 408")
    assert slow.startswith(b"HTTP/1.1 408")
    assert endless.startswith(b"HTTP/1.1 431")
    assert time.monotonic() - start < 40
    assert httpx.get(f"{api.url}/healthz").status_code == 200


def test_what_is_no_http_is_told_so_as_a_problem(api):
    answer = raw(api, b"\x16\x03\x01 nonsense\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "bad-request"


def test_too_many_connections_are_turned_away_and_the_rest_is_served(serve, sqlite_url):
    api = serve(sqlite_url, api={"connections": 3})
    held = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(3)]
    try:
        turned_away = httpx.get(f"{api.url}/healthz")
    finally:
        for each in held:
            each.close()
    deadline = time.monotonic() + 20
    while httpx.get(f"{api.url}/healthz").status_code != 200:
        assert time.monotonic() < deadline

    assert (turned_away.status_code, turned_away.json()["code"]) == (503, "overloaded")
    assert turned_away.headers["Retry-After"] == "1"


def test_every_answer_has_its_headers_and_says_nothing_of_the_server(client):
    for answer in (client.get("/v1/refunds"), client.get("/nowhere"), client.get("/healthz")):
        assert "Server" not in answer.headers
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(("given", "kept"), [("order-77:x", True), ("a b", False), ("x" * 65, False), ("é", False)])
def test_a_sane_request_id_is_kept(api, client, given, kept):
    answer = client.get("/v1/refunds/rf_none", headers={"X-Request-ID": given.encode()})
    found = answer.headers["X-Request-ID"]

    assert (found == given) is kept
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", found)
    api.process.wait_for_log(f'"request_id": "{found}"')


def test_a_trace_goes_on_into_the_ledger_and_the_answer(api, client, name):
    answer = client.post("/v1/refunds", json=job(name), headers={"traceparent": TRACE})
    other = client.post("/v1/refunds", json=job(f"{name}-2"), headers={"traceparent": "nonsense"})

    with api.engine.ledger.read() as connection:
        from sqlalchemy import text

        found = dict(
            connection.execute(
                text("SELECT id, traceparent FROM refund WHERE reference IN (:a, :b)"), {"a": name, "b": f"{name}-2"}
            ).all()
        )
    assert found[answer.json()["id"]] == TRACE
    assert answer.headers["traceparent"][3:35] == TRACE[3:35]
    assert answer.headers["traceparent"] != TRACE
    assert found[other.json()["id"]][3:35] == other.headers["traceparent"][3:35]


def test_keys_and_personal_data_do_not_get_into_the_log(api, name):
    key = api.key(name)
    with api.client(key) as client:
        client.post("/v1/refunds", json=job(name, customer={"email": "secret@example.com"}))
        client.post("/v1/refunds", json=job(name, customer={"email": "secret@example"}, amount=1.5))
        last = client.get("/v1/refunds/rf_none?reference=secret-parameter").headers["X-Request-ID"]
    api.process.wait_for_log(last)
    log = api.process.logs().decode()

    assert key.rpartition("_")[2] not in log
    assert "secret@" not in log
    assert "secret-parameter" not in log
    assert key.rpartition("_")[0] in log


def test_figures_are_for_who_has_the_scope(api, client, name):
    client.post("/v1/refunds", json=job(name))
    near = httpx.get(f"{api.url}/metrics")  # or a proxy that says nothing of whom it forwards
    shop = client.get("/metrics")
    with api.client(api.key(f"{name}-m", scopes=[Scope.METRICS])) as prometheus:
        allowed = prometheus.get("/metrics")

    assert (near.status_code, shop.status_code, allowed.status_code) == (401, 403, 200)
    assert 'refundry_state{state="queued"}' in allowed.text
    assert 'refundry_http_request_seconds_count{app="api",route="/v1/refunds",status="202"}' in allowed.text
    assert "refundry_oldest_due_seconds" in allowed.text
    assert "rk_" not in allowed.text


def test_figures_may_be_opened_to_this_machine(serve, sqlite_url):
    api = serve(sqlite_url, api={"metrics_on_loopback": True})
    near = httpx.get(f"{api.url}/metrics")
    far = httpx.get(f"{api.url}/metrics", headers={"X-Forwarded-For": "203.0.113.7"})

    assert (near.status_code, far.status_code) == (200, 401)


def stalled_batches(api, key, count):
    """Connections that have each sent the beginning of a batch."""
    head = head_of(key, "/v1/refunds/batch", "Content-Length: 10")
    held = [socket.create_connection(("127.0.0.1", api.port), timeout=20) for _ in range(count)]
    for each in held:
        each.sendall(head + b"[")
    return held


def test_a_batch_whose_turn_does_not_come_is_told_to_come_again(serve, sqlite_url):
    api = serve(sqlite_url, api={"batch_timeout": 1.0})
    held = stalled_batches(api, api.key(), 6)
    answers = []
    for each in held:
        with each:
            answers.append(received(each))
    with api.client() as client:
        after = client.post("/v1/refunds/batch", json=[job("a")])

    # Two are given up while they are read, and at most two more take their turns in that moment.
    assert sum(each.startswith(b"HTTP/1.1 408") for each in answers) >= 2
    busy = [each for each in answers if each.startswith(b"HTTP/1.1 503")]
    assert len(busy) >= 2
    assert all(b"retry-after: 1" in each.lower() for each in busy)
    assert after.status_code == 200


def test_a_stop_ends_the_process_in_order(serve, sqlite_url):
    api = serve(sqlite_url)
    with api.client() as client:
        assert client.get("/v1/refunds").status_code == 200
        assert api.process.stop() == 0
