"""Every fault of the network stands on one side: never left, or may have left."""

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest

from domain.outcome import NotSent, NotSentReason, Unknown
from providers.http1 import MAX_ANSWER
from providers.transport import Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def exchange(serve, *, path="/refunds", scheme="http", patience=10.0, count=1):
    """One or more requests to a server that handles each connection with `serve(reader, writer, number)`."""

    async def run():
        number = 0
        tasks = []

        async def connected(reader, writer):
            nonlocal number
            number += 1
            tasks.append(asyncio.current_task())
            try:
                await serve(reader, writer, number)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort() if writer.transport.is_closing() else writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = Transport(connect_timeout=patience, read_timeout=patience)
        try:
            answers = [
                await transport.send(httpx.Request("POST", f"{scheme}://127.0.0.1:{port}{path}", content=b"{}"))
                for _ in range(count)
            ]
        finally:
            await transport.close()
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks)
            await asyncio.sleep(0.01)
        return answers, number

    return asyncio.run(run())


async def request_read(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)

    return head


def test_an_answer_comes_back_with_status_headers_and_body():
    async def serve(reader, writer, _number):
        await request_read(reader)
        writer.write(OK)
        await writer.drain()

    [answer], _ = exchange(serve)

    assert isinstance(answer, httpx.Response)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"{}", "application/json")


def test_a_connection_is_kept_for_the_next_request():
    async def serve(reader, writer, _number):
        while True:
            await request_read(reader)
            writer.write(OK)
            await writer.drain()

    answers, connections = exchange(serve, count=3)

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert connections == 1


def test_a_refused_connection_was_never_sent():
    async def run():
        transport = Transport(connect_timeout=0.5, read_timeout=0.5)
        answer = await transport.send(httpx.Request("POST", "http://127.0.0.1:9/refunds", content=b"{}"))
        await transport.close()
        return answer

    answer = asyncio.run(run())

    assert isinstance(answer, NotSent)
    assert answer.reason is NotSentReason.CONNECTION


def test_a_name_that_does_not_resolve_was_never_sent():
    async def run():
        transport = Transport(connect_timeout=2, read_timeout=2)
        answer = await transport.send(httpx.Request("POST", "http://provider.invalid/refunds", content=b"{}"))
        await transport.close()
        return answer

    assert isinstance(asyncio.run(run()), NotSent)


def test_a_failed_tls_handshake_was_never_sent():
    async def serve(reader, writer, _number):
        await reader.read(100)
        writer.write(b"this is not TLS")
        await writer.drain()

    [answer], _ = exchange(serve, scheme="https")

    assert isinstance(answer, NotSent)


def cut(reader, writer, number):
    del number
    return _cut(reader, writer)


async def _cut(reader, writer):
    await request_read(reader)
    writer.transport.abort()


async def silent(reader, _writer, _number):
    await request_read(reader)
    await asyncio.sleep(3)


async def cut_in_the_body(reader, writer, _number):
    await request_read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()


async def dripping(reader, writer, _number):
    await request_read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def nonsense(reader, writer, _number):
    await request_read(reader)
    writer.write(b"what do you want?\r\n\r\n")
    await writer.drain()


async def too_much(reader, writer, _number):
    await request_read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    writer.write(b" " * (MAX_ANSWER + 10))
    await writer.drain()


@pytest.mark.parametrize(
    "serve", [cut, silent, cut_in_the_body, dripping, nonsense, too_much], ids=lambda e: e.__name__
)
def test_trouble_after_the_request_left_is_unknown(serve):
    [answer], _ = exchange(serve, patience=0.5)

    assert isinstance(answer, Unknown)


def test_a_post_on_a_connection_that_died_in_the_pool_is_not_repeated_behind_our_back():
    seen = []

    async def serve(reader, writer, number):
        seen.append(number)
        await request_read(reader)
        writer.write(OK)
        await writer.drain()
        if number == 1:
            await request_read(reader)  # the second request arrives here, and is lost with the connection
            writer.transport.abort()

    answers, connections = exchange(serve, count=2)

    assert isinstance(answers[0], httpx.Response)
    assert isinstance(answers[1], Unknown)
    assert connections == 1


def test_a_redirect_is_an_answer_and_is_not_followed():
    async def serve(reader, writer, _number):
        await request_read(reader)
        writer.write(b"HTTP/1.1 307 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    [answer], connections = exchange(serve)

    assert answer.status_code == 307
    assert connections == 1


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path):
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def run():
        async def connected(_reader, writer):
            writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        transport = Transport(connect_timeout=2, read_timeout=1)
        answer = await transport.send(httpx.Request("POST", f"https://127.0.0.1:{port}/refunds", content=b"{}"))
        await transport.close()
        server.close()
        await asyncio.sleep(0.05)
        return answer

    assert isinstance(asyncio.run(run()), NotSent)


def self_signed(folder):
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "k.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

    return folder / "c.pem", folder / "k.pem"
