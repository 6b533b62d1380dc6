import asyncio
import json

import pytest

from benchmarks.stand_in import Connection, StandIn, parsed_headers


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def is_closing(self):
        return False

    def write(self, data):
        self.written += data


def request(path="/v1/refunds", handle="h-1", body=b"{}"):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {handle}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def talk(stand_in, *pieces):
    wire, connection = Wire(), Connection(stand_in)
    connection.connection_made(wire)
    for piece in pieces:
        connection.data_received(piece)
    await asyncio.sleep(stand_in.latency + 0.02)
    return wire.written


@pytest.fixture
def stand_in():
    return StandIn(0.0)


def bodies(written):
    return [json.loads(part.split(b"\r\n\r\n")[1]) for part in written.split(b"HTTP/1.1 ")[1:]]


def test_a_refund_is_answered_with_success_and_a_number_of_its_own(stand_in):
    first, second = bodies(asyncio.run(talk(stand_in, request(handle="a") + request(handle="b"))))

    assert first["status"] == second["status"] == "succeeded"
    assert first["id"] != second["id"]
    assert stand_in.paid == 2
    assert set(stand_in.arrivals) == {"a", "b"}


def test_a_request_may_come_in_pieces(stand_in):
    whole = request(body=b'{"amount":1000}')
    written = asyncio.run(talk(stand_in, whole[:20], whole[20:-3], whole[-3:]))

    assert len(bodies(written)) == 1


def test_a_handle_that_comes_twice_is_noticed(stand_in):
    asyncio.run(talk(stand_in, request(handle="a") + request(handle="a")))

    assert stand_in.doubled == 1


def test_the_hanging_address_never_answers(stand_in):
    assert asyncio.run(talk(stand_in, request("/hang/v1/refunds"))) == b""


def test_the_throttled_address_has_always_had_too_many_requests(stand_in):
    assert b"429" in asyncio.run(talk(stand_in, request("/throttle/v1/refunds")))
    assert stand_in.paid == 0


def test_a_question_about_a_refund_finds_it_pending_and_is_noted(stand_in):
    question = b"GET /v1/refunds/refund_7 HTTP/1.1\r\n\r\n"
    (answer,) = bodies(asyncio.run(talk(stand_in, question)))

    assert answer == {"id": "refund_7", "object": "refund", "status": "pending"}
    assert set(stand_in.asked) == {"refund_7"}


def test_the_diary_is_read_over_the_same_wire(stand_in):
    written = asyncio.run(talk(stand_in, request(handle="a"), b"GET /_arrivals HTTP/1.1\r\n\r\n"))

    assert any("a" in body for body in bodies(written))


def test_an_unknown_address_is_not_found(stand_in):
    assert b"404" in asyncio.run(talk(stand_in, b"GET /favicon.ico HTTP/1.1\r\n\r\n"))


def test_header_names_are_read_in_lower_case():
    assert parsed_headers("POST / HTTP/1.1\r\nIdempotency-KEY:  x ") == {"idempotency-key": "x"}
