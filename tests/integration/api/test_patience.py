"""What uvicorn's own protocol leaves open to whoever wants to keep a connection, or fill the memory, without a key."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from console.guard import Guard
from engine import patience
from engine.patience import PatientProtocol

SECONDS = 0.5
OURS = b"Host: localhost\r\nSec-Fetch-Site: same-origin\r\n"
POST = b"POST / HTTP/1.1\r\n" + OURS


async def answering(_scope, _receive, send):
    """Answers at once, whatever the body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def reading(scope, receive, send):
    """Answers when the body is there."""
    while (await receive()).get("more_body"):
        pass
    await answering(scope, receive, send)


def served(app) -> Iterator[int]:
    """The port of a server that runs beside the test."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, http=PatientProtocol, ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(patience, "HEADER_SECONDS", SECONDS)
    monkeypatch.setattr("console.guard.BODY_SECONDS", SECONDS)


@pytest.fixture
def at_once(hasty) -> Iterator[int]:
    yield from served(answering)


@pytest.fixture
def patient(hasty) -> Iterator[int]:
    yield from served(reading)


@pytest.fixture
def guarded(hasty) -> Iterator[int]:
    yield from served(Guard(reading, url=None, host="127.0.0.1", known=lambda secret: secret == "ours"))


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def until_closed(connection):
    """All that comes until the server closes; TimeoutError where it does not."""
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


def answered(connection):
    """One whole answer of the applications here."""
    answer = b""
    while not answer.endswith(b"ok"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer


def pour(connection, piece, most):
    """How many bytes the server took before it closed."""
    sent = 0
    try:
        while sent < most:
            connection.sendall(piece)
            sent += len(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent


@pytest.mark.parametrize("piece", [b"A: b\r\n" * 10_000, b"x" * 60_000], ids=["many", "one that never ends"])
def test_trailers_without_end_end_the_connection(patient, piece):
    with connected(patient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\nT: ")
        taken = pour(connection, piece, 100_000_000)

    assert taken < 20_000_000  # what the buffers of both ends hold


def test_a_few_trailers_are_let_go_and_the_connection_goes_on(patient):
    whole = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\nDigest: x\r\n\r\n"
    with connected(patient) as connection:
        for _ in range(2):
            connection.sendall(whole)
            assert answered(connection).startswith(b"HTTP/1.1 200")


def test_a_large_body_in_small_chunks_is_no_trailer(patient):
    with connected(patient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 50_000 + b"0\r\n\r\n")

        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_answer_that_does_not_wait_for_the_body_is_the_last(at_once):
    with connected(at_once) as connection:
        connection.sendall(POST + b"Content-Length: 10\r\n\r\n1")
        answer = until_closed(connection)

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


def test_line_ends_after_an_answer_keep_nothing_open(at_once):
    with connected(at_once) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + OURS + b"\r\n")
        assert b"connection: close" not in answered(connection)
        connection.sendall(b"\r\n")

        assert until_closed(connection).startswith(b"HTTP/1.1 408")


def test_pipelined_requests_are_all_answered(patient):
    with connected(patient) as connection:
        connection.sendall((POST + b"Content-Length: 1\r\n\r\n1") * 3 + POST + b"Connection: close\r\n\r\n")

        assert until_closed(connection).count(b"HTTP/1.1 200") == 4


@pytest.mark.parametrize(
    ("cookie", "length", "status"),
    [
        (b"", 20_000, 413),
        (b"theirs", 20_000, 413),
        (b"", 10_000, 200),
        (b"ours", 20_000, 200),
        (b"ours", 7_000_000, 413),
    ],
)
def test_the_console_takes_no_large_body_from_strangers(guarded, cookie, length, status):
    head = POST + b"Cookie: refundry=%b\r\nContent-Type: multipart/form-data; boundary=x\r\n" % cookie
    with connected(guarded) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % length)
        if status == 200:
            connection.sendall(b"x" * length)

        assert connection.recv(65536).startswith(b"HTTP/1.1 %d" % status)


def test_the_console_waits_for_no_body_for_ever(guarded):
    with connected(guarded) as connection:
        connection.sendall(POST + b"Content-Length: 10\r\n\r\n1")

        assert until_closed(connection).startswith(b"HTTP/1.1 408")
