"""What goes over the wire and what comes back, on real sockets: as HTTP/1.1 says, and stricter where money moves."""

import asyncio
import gc
import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain.outcome import NotSent, Unknown
from providers import transport as transports
from providers.http1 import _Reading
from providers.transport import Answer, Transport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\n"
OK = HEAD + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Handles each connection with `serve`; remembers the connections, and what `request_read` has read of them."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.connected, self.closed = asyncio.Event(), asyncio.Event()

    async def start(self, context: ssl.SSLContext | None = None) -> str:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=context)
        scheme = "http" if context is None else "https"

        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.connected.set()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.closed.set()
            writer.close()


@asynccontextmanager
async def provider(
    serve: Serve, context: ssl.SSLContext | None = None, *, connect: float = 10.0, read: float = 10.0
) -> AsyncIterator[tuple[Server, Transport, str]]:
    """A server, a transport and the server's address."""
    server, transport = Server(serve), Transport(connect_timeout=connect, read_timeout=read)
    url = await server.start(context)
    try:
        yield server, transport, url
    finally:
        await transport.close()
        await server.stop()


def run(work: Awaitable[None], *, loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop) -> None:
    async def done() -> None:
        await work

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(done())


def post(url: str, content: bytes = b"{}", headers: dict[str, str] | None = None) -> httpx.Request:
    return httpx.Request("POST", f"{url}/refunds", content=content, headers=headers)


async def request_read(reader: asyncio.StreamReader) -> bytes:
    """The next request with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))

    return head + await reader.readexactly(length)


def answering(*parts: bytes, pause: float = 0.0, close: bool = False) -> Serve:
    """Answers every request with these parts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_read(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            if close:
                return

    return serve


# -- the request ------------------------------------------------------------------------------------------------------


def test_the_request_goes_out_as_it_was_made():
    seen = []

    async def serve(reader, writer):
        seen.append(await request_read(reader))
        writer.write(OK)

    async def work():
        async with provider(serve) as (_, transport, url):
            request = httpx.Request(
                "POST",
                f"{url}/a%20b/refunds?x=%2F&y",
                content=b'{"amount":1}',
                headers=[("Content-Type", "application/json"), ("X-Twice", "1"), ("X-Twice", "2")],
            )
            await transport.send(request)
            host = url.removeprefix("http://").encode()
            assert seen == [
                b"POST /a%20b/refunds?x=%2F&y HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: application/json\r\n"
                b"X-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 12\r\nAccept: application/json\r\n"
                b'Accept-Encoding: identity\r\n\r\n{"amount":1}'
            ]

    run(work())


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\rb", "a\0b", "\r\n"])
@pytest.mark.parametrize("place", ["name", "value"])
def test_a_header_that_would_become_two_is_never_sent(value, place):
    async def work():
        async with provider(answering(OK)) as (server, transport, url):
            request = post(url, headers={value: "x"} if place == "name" else {"X": value})
            assert isinstance(await transport.send(request), NotSent)
            assert server.connections == 0

    run(work())


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "//127.0.0.1/x", "http://", "https://"])
def test_what_is_no_address_of_the_web_is_never_sent(url):
    async def work():
        transport = Transport(connect_timeout=10, read_timeout=10)
        assert isinstance(await transport.send(httpx.Request("POST", url, content=b"")), NotSent)
        await transport.close()

    run(work())


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def work():
        async with provider(answering(OK)) as (_, transport, url):
            assert isinstance(await transport.send(post(url)), httpx.Response)

    run(work())


# -- the answer -------------------------------------------------------------------------------------------------------

ANSWERS = {
    "a length": HEAD + b'Content-Length: 7\r\n\r\n{"a":1}',
    "chunks": HEAD + b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\nX-Trailer: 1\r\n\r\n',
    "interim answers": b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: br\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    + HEAD
    + b'Content-Length: 7\r\n\r\n{"a":1}',
    "the connection's end": HEAD + b'X: y\r\n\r\n{"a":1}',
    "HTTP/1.0": b'HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_an_answer_is_the_same_wherever_it_is_cut(answer, loop):
    async def work():
        cuts = [(answer[:at], answer[at:]) for at in range(len(answer) + 1)] + [
            tuple(answer[at : at + 1] for at in range(len(answer)))
        ]
        for parts in cuts:
            async with provider(answering(*parts, close=True)) as (_, transport, url):
                response = await transport.send(post(url))
                assert isinstance(response, httpx.Response), response
                assert (response.status_code, response.content) == (200, b'{"a":1}')
                assert "x-trailer" not in response.headers

    run(work(), loop=loop)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_half_an_answer_is_none(answer):
    async def work():
        whole = b"\r\n\r\n{" in answer and b"Content-Length" not in answer
        for at in range(len(answer) - 1):
            async with provider(answering(answer[:at], close=True)) as (_, transport, url):
                received = await transport.send(post(url))
                # Where the connection's end is the answer's too, half a body cannot be told from a whole one.
                assert isinstance(received, Unknown) or (whole and at >= answer.index(b"{") - 1), (at, received)

    run(work())


PACKED = {
    "gzip": gzip.compress(b'{"a":1}'),
    "x-gzip": gzip.compress(b'{"a":1}'),
    "deflate": zlib.compress(b'{"a":1}'),
    "identity": b'{"a":1}',
}


def packed(encoding: str, body: bytes) -> bytes:
    return HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (encoding.encode(), len(body), body)


@pytest.mark.parametrize(("encoding", "body"), PACKED.items(), ids=PACKED.keys())
def test_a_packed_answer_is_unpacked(encoding, body):
    async def work():
        async with provider(answering(packed(encoding, body))) as (_, transport, url):
            response = await transport.send(post(url))
            assert isinstance(response, httpx.Response)
            assert response.content == b'{"a":1}'
            assert "content-encoding" not in response.headers

    run(work())


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"{}"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
        ("gzip", gzip.compress(b'{"a":1}')[:-4]),
        ("gzip", b"{}"),
        ("deflate", zlib.compress(b'{"a":1}')[:-1]),
    ],
    ids=["brotli", "gzip twice", "gzip cut off", "not gzip", "deflate cut off"],
)
def test_what_cannot_be_unpacked_is_unknown(encoding, body):
    async def work():
        async with provider(answering(packed(encoding, body))) as (_, transport, url):
            assert isinstance(await transport.send(post(url)), Unknown)

    run(work())


@pytest.mark.parametrize("head", [b"HTTP/2.0 200 OK\r\n", b"HTTP/0.9 200 OK\r\n", b"HTTP/1.1  200 OK\r\n"])
def test_another_protocol_is_no_answer(head):
    async def work():
        async with provider(answering(head + b"Content-Length: 2\r\n\r\n{}")) as (_, transport, url):
            assert isinstance(await transport.send(post(url)), Unknown)

    run(work())


# -- the connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (OK, 1),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 1),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 1),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", 1),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 3),
        (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", 3),
        (OK + OK, 3),
    ],
)
def test_a_connection_is_used_again_if_the_answer_allows_it(answer, connections):
    async def work():
        async with provider(answering(answer)) as (server, transport, url):
            for _ in range(3):
                assert isinstance(await transport.send(post(url)), httpx.Response)
            assert server.connections == connections

    run(work())


@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
def test_a_connection_that_ended_while_it_rested_is_not_used(abort):
    """Not even where the loop has had no turn to notice: what is sent on it would be lost, and the refund unknown."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(5)
    answered, ended = threading.Event(), threading.Event()
    requests = []

    def serve():
        for last in (False, True):
            connection, _ = listening.accept()
            requests.append(connection.recv(65_536))
            connection.sendall(OK)
            if last:
                connection.recv(1)
            answered.wait(5)
            if abort:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
            ended.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    async def work():
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        transport = Transport(connect_timeout=10, read_timeout=10)
        first = await transport.send(post(url))
        answered.set()
        ended.wait(5)  # the loop stands still meanwhile
        second = await transport.send(post(url))
        await transport.close()
        assert [isinstance(each, httpx.Response) for each in (first, second)] == [True, True]

    run(work())
    thread.join(5)
    listening.close()
    assert len(requests) == 2


def test_a_connection_that_rests_too_long_is_closed(monkeypatch):
    monkeypatch.setattr(transports, "KEPT_FOR", 0.05)

    async def work():
        async with provider(answering(OK)) as (server, transport, url):
            await transport.send(post(url))
            await asyncio.wait_for(server.closed.wait(), 5)
            await transport.send(post(url))
            assert server.connections == 2

    run(work())


def test_requests_side_by_side_get_their_own_answers():
    async def serve(reader, writer):
        while True:
            request = await request_read(reader)
            number = request.rpartition(b"\r\n\r\n")[2]
            await asyncio.sleep(int(number) % 7 / 500)
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(number), number))

    async def work():
        async with provider(serve) as (server, transport, url):
            for _ in range(3):
                sent = [str(number).encode() for number in range(60)]
                answers = await asyncio.gather(*(transport.send(post(url, content)) for content in sent))
                assert [getattr(each, "content", each) for each in answers] == sent
            assert server.connections <= 60

    run(work())


def test_a_call_that_is_cancelled_takes_its_connection_with_it():
    async def serve(reader, writer):
        request = await request_read(reader)
        await asyncio.sleep(0.1 if request.endswith(b"slow") else 0)
        writer.write(OK)
        await reader.read()

    async def work():
        async with provider(serve) as (server, transport, url):
            task = asyncio.create_task(transport.send(post(url, b"slow")))
            await asyncio.wait_for(server.connected.wait(), 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert isinstance(await transport.send(post(url)), httpx.Response)
            assert server.connections == 2

    run(work())


def test_an_answer_to_half_a_request_ends_the_connection():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        await asyncio.sleep(5)

    async def work():
        async with provider(serve) as (server, transport, url):
            for _ in range(2):
                answer = await transport.send(post(url, b"x" * 30_000_000))
                assert isinstance(answer, httpx.Response)
            assert server.connections == 2

    run(work())


def test_no_answer_is_left_to_the_garbage_collector():
    async def work():
        async with provider(answering(OK)) as (_, transport, url):
            await transport.send(post(url))
            gc.collect()
            gc.disable()
            try:
                await transport.send(post(url))
                left = [each for each in gc.get_objects() if isinstance(each, _Reading)]
            finally:
                gc.enable()
            assert left == []

    run(work())


# -- never sent, or perhaps -------------------------------------------------------------------------------------------


def test_wherever_in_the_request_the_server_hangs_up_it_may_have_it():
    """Each time on one connection: nothing is sent again by itself."""

    async def work():
        for read in (0, 1, 20, 60, 100):

            async def serve(reader, writer, read=read):
                await reader.readexactly(read) if read else None
                writer.transport.abort()

            async with provider(serve) as (server, transport, url):
                answer = await transport.send(post(url))
                assert isinstance(answer, Unknown)
                assert server.connections == 1

    run(work())


def test_silence_is_bounded_and_so_is_the_whole():
    async def dripping(reader, writer):
        await request_read(reader)
        writer.write(HEAD + b"Content-Length: 100\r\n\r\n")
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.1)

    async def silent(reader, writer):
        await request_read(reader)
        writer.write(HEAD)
        await asyncio.sleep(5)

    async def work():
        loop = asyncio.get_running_loop()
        for serve, least, most in ((silent, 0.3, 0.75), (dripping, 0.8, 2.0)):
            async with provider(serve, connect=0.5, read=0.3) as (_, transport, url):
                started = loop.time()
                assert isinstance(await transport.send(post(url)), Unknown)
                assert least - 0.01 <= loop.time() - started < most + 3

    run(work())


def test_a_name_is_asked_once_for_all_and_again_after_a_fault(monkeypatch):
    asked = []

    async def work():
        async with provider(answering(OK)) as (_, transport, url):
            loop = asyncio.get_running_loop()
            port = int(url.rpartition(":")[2])

            async def getaddrinfo(host, port, **_):
                asked.append(host)
                await asyncio.sleep(0.01)
                if len(asked) == 1:
                    raise socket.gaierror(socket.EAI_AGAIN, "try again")
                # The first address refuses: the second is tried.
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]

            monkeypatch.setattr(type(transport._names), "_ask", staticmethod(getaddrinfo))
            assert loop is not None
            name = f"http://provider.test:{port}"
            first = await asyncio.gather(*(transport.send(post(name)) for _ in range(5)))
            second = await asyncio.gather(*(transport.send(post(name)) for _ in range(5)))
            assert all(isinstance(each, NotSent) for each in first)
            assert all(isinstance(each, httpx.Response) for each in second)
            assert asked == ["provider.test"] * 2

    run(work())


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch) -> Callable[..., ssl.SSLContext]:
    """Makes a server's TLS with a certificate for `host` out of an authority that the client trusts, unless `own`."""
    authority, key = certificate("authority", None, None)
    (tmp_path / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    transports._trust.cache_clear()

    def context(host: str, *, days: int = 1, own: bool = False) -> ssl.SSLContext:
        leaf, leaf_key = certificate(host, None if own else authority, None if own else key, days=days)
        (tmp_path / "leaf.pem").write_bytes(
            leaf.public_bytes(serialization.Encoding.PEM)
            + leaf_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(tmp_path / "leaf.pem")
        return made

    yield context
    transports._trust.cache_clear()


def certificate(
    host: str, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey | None, *, days: int = 1
):
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    try:
        shown: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        shown = x509.DNSName(host)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([shown]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )

    return builder.sign(issuer_key or key, hashes.SHA256()), key


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_over_tls_an_answer_comes_and_the_connection_is_kept(trusted, loop):
    async def work():
        async with provider(answering(OK), trusted("127.0.0.1")) as (server, transport, url):
            answers = [await transport.send(post(url)) for _ in range(3)]
            assert all(isinstance(each, httpx.Response) for each in answers), answers
            assert server.connections == 1

    run(work(), loop=loop)


@pytest.mark.parametrize(
    "options",
    [
        {"host": "127.0.0.2"},
        {"host": "provider.test"},
        {"host": "127.0.0.1", "days": -1},
        {"host": "127.0.0.1", "own": True},
    ],
    ids=["another address", "a name", "expired", "signed by itself"],
)
def test_a_certificate_that_does_not_prove_the_host_is_refused(trusted, options):
    heads = []

    async def serve(reader, _writer):
        heads.append(await reader.read(1))

    async def work():
        async with provider(serve, trusted(**options)) as (_, transport, url):
            assert isinstance(await transport.send(post(url)), NotSent)

    run(work())
    assert b"".join(heads) == b""


def test_tls_1_1_is_refused(trusted):
    context = trusted("127.0.0.1")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    async def work():
        async with provider(answering(OK), context) as (_, transport, url):
            assert isinstance(await transport.send(post(url)), NotSent)

    run(work())


def test_a_handshake_that_hangs_was_never_sent():
    async def serve(reader, _writer):
        await reader.read(5)
        await asyncio.sleep(5)

    async def work():
        async with provider(serve, connect=0.3) as (_, transport, url):
            assert isinstance(await transport.send(post(url.replace("http", "https"))), NotSent)

    run(work())


def test_over_tls_too_a_cut_connection_leaves_it_unknown(trusted):
    async def serve(reader, writer):
        await request_read(reader)
        writer.transport.abort()

    async def work():
        async with provider(serve, trusted("127.0.0.1")) as (_, transport, url):
            answer: Answer = await transport.send(post(url))
            assert isinstance(answer, Unknown)

    run(work())
