"""A hostile provider on a real socket: cut off by limits of size and time, and never taken for "not sent".

What a broken network does stands in tests/integration/providers/test_transport.py; here somebody means it.
"""

import asyncio
import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.outcome import NotSent, NotSentReason, Succeeded, Unknown
from providers.http1 import MAX_ANSWER
from providers.transport import Answer, Transport
from providers.wire import drive
from tests.unit.providers import support

CONNECT, READ = 0.3, 0.4
# The rest is for a busy machine: what is not cut off goes on for ever.
PATIENCE = CONNECT + READ + 4
MEMORY = 16 * 1_048_576

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


class HostileProvider:
    """Handles each connection with `serve(reader, writer, number)`; counts them."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._tasks: list[asyncio.Task[Any]] = []
        self.connections = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)

        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            await self._serve(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


async def request_read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)

    return head


def exchange(serve: Serve, *, count: int = 1, pause: float = 0) -> tuple[list[Answer], HostileProvider]:
    """`count` refund requests, one after the other, to such a provider."""

    async def run() -> tuple[list[Answer], HostileProvider]:
        provider = HostileProvider(serve)
        url = await provider.start()
        transport = Transport(connect_timeout=CONNECT, read_timeout=READ)
        answers = []
        for _ in range(count):
            answers.append(await transport.send(httpx.Request("POST", f"{url}/refunds", content=b"{}")))
            await asyncio.sleep(pause)
        await transport.close()
        await provider.stop()

        return answers, provider

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def bounded(serve: Serve, *, patience: float = PATIENCE, memory: int = MEMORY) -> Answer:
    """The one answer; it must come in time and cost little memory, whatever the provider does."""
    tracemalloc.start()
    started = time.monotonic()
    try:
        [answer], _ = exchange(serve)
        took, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert took < patience, took
    assert peak < memory, peak

    return answer


def saying(*parts: bytes, then: float = 5) -> Serve:
    """Reads the request, says this, and holds the connection open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await request_read(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
        await asyncio.sleep(then)

    return serve


def flooding(head: bytes, piece: bytes) -> Serve:
    """Reads the request, says `head`, then `piece` without end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await request_read(reader)
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return serve


def dripping(head: bytes, piece: bytes) -> Serve:
    """Says a little again and again: never silent for as long as the read time-out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await request_read(reader)
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)

    return serve


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PIECE = b"x" * 65_536

HOSTILE = {
    "a body of 100 MB": flooding(OK + b"Content-Length: 104857600\r\n\r\n", PIECE),
    "a body of any length until the end": flooding(OK + b"Connection: close\r\n\r\n", PIECE),
    "chunks without end": flooding(CHUNKED, b"10000\r\n" + PIECE + b"\r\n"),
    "small chunks without end": flooding(CHUNKED, b"1\r\nx\r\n" * 1000),
    "one chunk of 2^64 bytes": saying(CHUNKED + b"ffffffffffffffff\r\n", PIECE),
    "a chunk whose extension never ends": flooding(CHUNKED + b"2;a=", PIECE),
    "trailers without end": flooding(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n" * 1000),
    "a status line without end": flooding(b"HTTP/1.1 200 ", PIECE),
    "a header without end": flooding(OK + b"X: ", PIECE),
    "headers without end": flooding(OK, b"X: y\r\n" * 1000),
    "different headers without end": saying(OK, *(b"X-%d: y\r\n" % number for number in range(50_000))),
    "a drip in the status line": dripping(b"HTTP/1.1 200 ", b"O"),
    "a drip in the headers": dripping(OK + b"X: ", b"y"),
    "a drip of headers": dripping(OK, b"X: y\r\n"),
    "a drip in the body": dripping(OK + b"Content-Length: 1000\r\n\r\n", b" "),
    "a drip of chunks": dripping(CHUNKED, b"1\r\n \r\n"),
    "a drip of 102 Processing": dripping(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "chunks whose last is missing": saying(CHUNKED + b"2\r\n{}\r\n", then=0),
    "chunks that stop": saying(CHUNKED + b"2\r\n{}\r\n"),
    "less than was announced": saying(OK + b"Content-Length: 100\r\n\r\n{}", then=0),
    "more than was announced": saying(OK + b'Content-Length: 2\r\n\r\n{}{"accepted":true}'),
    "a negative length": saying(OK + b"Content-Length: -2\r\n\r\n{}"),
    "a length beyond 64 bits": saying(OK + b"Content-Length: 99999999999999999999\r\n\r\n{}"),
    "two lengths": saying(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    "a length and chunks": saying(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "a closed connection instead of an answer": saying(then=0),
    "half a status line": saying(b"HTTP/1.", then=0),
    "half the headers": saying(OK + b"Content-Le", then=0),
    "bare line feeds and a NUL": saying(b"HTTP/1.1 200 OK\nX: \x00\n\n{}", then=0),
    "another protocol": saying(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "HTTP/2": saying(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18),
    "a server that speaks of gzip and sends none": saying(
        OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
    ),
}


@pytest.mark.parametrize("serve", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_is_cut_off_and_proves_nothing(serve):
    assert isinstance(bounded(serve), Unknown)


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
)
def test_a_flood_of_interim_answers_is_cut_off(interim):
    assert isinstance(bounded(flooding(b"", interim * 500)), Unknown)


ZEROS = b"\0" * (64 * 1_048_576)
GZIP_BOMB = gzip.compress(ZEROS, 9)
DEFLATE_BOMB = zlib.compress(ZEROS, 9)
assert len(GZIP_BOMB) < MAX_ANSWER


@pytest.mark.parametrize(
    ("encoding", "bomb", "sized"),
    [
        (b"gzip", GZIP_BOMB, False),
        (b"deflate", DEFLATE_BOMB, False),
        pytest.param(b"gzip", GZIP_BOMB, True),
        pytest.param(b"deflate", DEFLATE_BOMB, True),
    ],
)
def test_a_bomb_is_cut_off(encoding, bomb, sized):
    length = b"Content-Length: %d\r\n" % len(bomb) if sized else b"Connection: close\r\n"
    # Written by hand: tracemalloc must not count what the provider itself holds.
    answer = bounded(
        saying(OK + b"Content-Encoding: " + encoding + b"\r\n" + length + b"\r\n", bomb, then=0 if not sized else 5)
    )

    assert isinstance(answer, Unknown)


def test_a_redirect_to_another_host_is_not_followed_and_moves_nothing():
    """The answer goes to the adapter as it is, for which a redirect proves nothing."""
    visited = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        visited.append(number)

    async def run(status: int) -> Answer:
        other = HostileProvider(elsewhere)
        location = (await other.start()).encode()
        line = b"HTTP/1.1 %d Go\r\nLocation: %s/refunds\r\nContent-Length: 2\r\n\r\n{}" % (status, location)
        provider = HostileProvider(saying(line))
        transport = Transport(connect_timeout=CONNECT, read_timeout=READ)
        answer = await transport.send(httpx.Request("POST", f"{await provider.start()}/refunds", content=b"{}"))
        await transport.close()
        await provider.stop()
        await other.stop()
        return answer

    for status in (301, 302, 303, 307, 308):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            answer = runner.run(run(status))
        assert isinstance(answer, httpx.Response)
        assert answer.status_code == status
        adapter, order = support.provider("smartretry"), support.order("smartretry")
        assert isinstance(drive(adapter.refund(order), lambda _, answer=answer: answer), Unknown)
    assert visited == []


def test_a_switch_of_protocols_is_no_answer_to_a_refund():
    answer = bounded(saying(b'HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{"accepted":true}'))

    assert isinstance(answer, Unknown)


def answer_number(number: int | str) -> bytes:
    body = b'{"n":"%s"}' % str(number).encode()

    return OK + b"Content-Length: %d\r\n\r\n" % len(body) + body


def numbers(answers: list[Answer]) -> list[str]:
    return [answer.json()["n"] if isinstance(answer, httpx.Response) else "unknown" for answer in answers]


def test_two_answers_at_once_do_not_answer_the_next_request():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await request_read(reader)
            writer.write(answer_number(number) + answer_number("smuggled"))
            await writer.drain()

    answers, provider = exchange(serve, count=3)

    assert numbers(answers) == ["1", "2", "3"]
    assert provider.connections == 3


def test_an_answer_that_nobody_asked_for_does_not_answer_the_next_request():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await request_read(reader)
        writer.write(answer_number(number))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(answer_number("smuggled"))
        await writer.drain()
        await request_read(reader)
        writer.write(answer_number("asked for"))
        await writer.drain()
        await asyncio.sleep(1)

    answers, _ = exchange(serve, count=2, pause=0.2)

    assert "smuggled" not in numbers(answers)


def test_a_cookie_or_an_alternative_service_changes_nothing_for_the_next_request():
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        while True:
            heads.append(await request_read(reader))
            writer.write(OK + b'Set-Cookie: a=b\r\nAlt-Svc: h3=":1"\r\nContent-Length: 2\r\n\r\n{}')
            await writer.drain()

    exchange(serve, count=2)

    assert heads[0] == heads[1]
    assert b"cookie" not in heads[1].lower()


@pytest.mark.parametrize("value", ["Gebühr".encode("latin-1"), "Gebühr".encode()])
def test_a_header_that_is_not_ascii_does_not_cost_us_the_answer(value):
    answer = bounded(saying(OK + b"X-Note: " + value + b"\r\nContent-Length: 2\r\n\r\n{}"))

    assert isinstance(answer, httpx.Response)


# -- never sent -------------------------------------------------------------------------------------------------------


def test_a_provider_that_accepts_and_hangs_up_at_once_may_have_our_request():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        writer.transport.abort()

    for answer in exchange(serve, count=20)[0]:
        assert isinstance(answer, Unknown)


def test_a_provider_that_answers_before_it_was_asked_proves_nothing_about_sending():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(1)

    [answer], _ = exchange(serve)

    assert not isinstance(answer, NotSent)


@pytest.fixture
def full_backlog():
    """A listening socket whose queue is full: the kernel drops whoever else wants to connect."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(listening.getsockname())
        time.sleep(0.05)
        yield listening.getsockname()[1]
        for each in waiting:
            each.close()


def test_a_provider_that_never_accepts_was_never_sent_anything(full_backlog):
    async def run() -> Answer:
        transport = Transport(connect_timeout=CONNECT, read_timeout=READ)
        answer = await transport.send(httpx.Request("POST", f"http://127.0.0.1:{full_backlog}/r", content=b"{}"))
        await transport.close()
        return answer

    started = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer = runner.run(run())

    assert isinstance(answer, NotSent)
    assert answer.reason is NotSentReason.CONNECTION
    assert time.monotonic() - started < PATIENCE


# -- anything at all --------------------------------------------------------------------------------------------------

GOOD = OK + b'Content-Type: application/json\r\nContent-Length: 19\r\n\r\n{"transaction_id":1}'
PARTS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\x00",
        b" ",
        b":",
        b"HTTP/1.1 ",
        b"HTTP/9.9 ",
        b"100",
        b"200",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Content-Encoding: br\r\n",
        GOOD,
        b"0\r\n\r\n",
    ]
)
ANYTHING = st.lists(PARTS | st.binary(max_size=6), max_size=12).map(b"".join)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ANYTHING, min_size=1, max_size=6))
def test_whatever_is_said_on_the_wire_is_an_answer_or_unknown(scripts):
    """Each connection gets the next script, then its end; nothing raises, nothing counts as never sent."""
    left = list(scripts)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await request_read(reader)
        writer.write(left.pop(0) if left else b"")
        await writer.drain()

    answers, _ = exchange(serve, count=len(scripts))

    for answer in answers:
        assert isinstance(answer, httpx.Response | Unknown)
        if isinstance(answer, httpx.Response):
            conversation = support.provider("smartretry").refund(support.order("smartretry"))
            assert not isinstance(drive(conversation, lambda _, answer=answer: answer), Succeeded)
