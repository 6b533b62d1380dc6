"""Hostile addresses and receivers: what is connected to is what was checked."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.courier import MAX_ANSWER, Courier
from tests.support.receiver import Receiver

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def resolving(*addresses):
    """A name server that gives one answer after the other, the last for ever."""
    left = list(addresses)

    def resolve(_host, port, _family, _kind):
        found = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in found else socket.AF_INET
        target = (found, port, 0, 0) if family == socket.AF_INET6 else (found, port)
        return [(family, socket.SOCK_STREAM, 6, "", target)]

    return resolve


def post(url, *, times=1, timeout=5.0, allowed=(), **options):
    """What came of posting there; the last of several."""

    async def work():
        courier = Courier(timeout=timeout, allowed=allowed, **options)
        try:
            return [await courier.post(url, {"webhook-id": "msg_1"}, b"{}") for _ in range(times)][-1]
        finally:
            await courier.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "LOCALHOST", "localhost.", "[::]"),
    ],
)
def test_no_spelling_of_this_machine_is_connected_to(receiver, host):
    reply = post(receiver.url.replace("127.0.0.1", host))

    assert reply.status is None
    assert receiver.got == []


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "100.64.0.1", "fd00:ec2::254", "64:ff9b::a00:1"])
def test_a_name_that_leads_inside_is_refused_when_it_is_connected_to(address):
    reply = post("http://shop.example/", resolve=resolving(address))

    assert reply.error == f"{address} is no public address"
    assert reply.status is None


def test_a_name_that_changes_its_mind_is_judged_by_each_connection(receiver):
    """DNS rebinding: the address that was checked is the one that is connected to, every time anew."""
    url = receiver.url.replace("127.0.0.1", "shop.example")
    resolve = resolving("127.0.0.1", "127.0.0.1", "10.0.0.1")

    reply = post(url, times=3, allowed=LOOPBACK, resolve=resolve)
    assert reply.error == "10.0.0.1 is no public address"
    assert len(receiver.got) == 2


def test_an_allowed_network_is_reached_by_name_with_the_name_in_the_request(receiver):
    url = receiver.url.replace("127.0.0.1", "shop.example")

    assert post(url, allowed=LOOPBACK, resolve=resolving("127.0.0.1")).status == 204
    assert receiver.got[0].headers["host"].startswith("shop.example:")
    assert "authorization" not in receiver.got[0].headers


def test_proxies_of_the_environment_are_not_used(receiver, monkeypatch):
    other = Receiver()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other.url)
    reply = post(receiver.url, allowed=LOOPBACK)
    other.close()

    assert reply.status == 204
    assert other.got == []


def test_a_redirect_inside_is_an_answer_and_nothing_more(receiver):
    inside = Receiver()
    receiver.fail(307, Location=inside.url)
    reply = post(receiver.url, allowed=LOOPBACK)
    inside.close()

    assert reply.status == 307
    assert inside.got == []


def test_a_name_that_nobody_knows_and_a_name_server_that_hangs_are_failures_in_time():
    never = threading.Event()

    def unknown(*_arguments):
        raise socket.gaierror(-2, "Name or service not known")

    assert post("http://shop.example/", resolve=unknown).error == "ClientConnectorDNSError"
    hung = post("http://shop.example/", timeout=0.3, resolve=lambda *_: never.wait(1) or [])
    assert hung.error in ("ConnectionTimeoutError", "TimeoutError")
    assert hung.ms < 1000


def raw(answer, *, then=b""):
    """A server that sends these bytes, whatever it is asked; its URL and how to close it."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        try:
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)
                    for _ in range(400 if then else 0):
                        connection.sendall(then)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()

    return f"http://127.0.0.1:{server.getsockname()[1]}/", server.close


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 200",
    ],
)
def test_an_answer_that_is_none_is_a_failure(answer):
    url, close = raw(answer)
    reply = post(url, allowed=LOOPBACK, timeout=2.0)
    close()

    assert not reply.good
    assert reply.error


def test_an_endless_answer_is_read_to_its_head_only():
    url, close = raw(b"HTTP/1.1 200 OK\r\n\r\n", then=b"z" * 65_536)
    reply = post(url, allowed=LOOPBACK)
    close()

    assert reply.good
    assert len(reply.answer) <= MAX_ANSWER


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("-1", None), ("soon", None), ("9" * 50, None), ("٣", None)]
)
def test_retry_after_is_whole_seconds_or_nothing(receiver, header, seconds):
    receiver.fail(503, Retry_After=header.encode().decode("latin-1"))

    assert post(receiver.url, allowed=LOOPBACK).retry_after == seconds


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certified(tmp_path):
    """A receiver over TLS with a certificate for `shop.example`, and a context that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "receiver.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    receiver = Receiver(tls=serving)
    yield receiver, ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    receiver.close()


def test_over_tls_the_name_is_verified_at_the_address_that_was_checked(certified):
    receiver, trusting = certified
    resolve = resolving("127.0.0.1")
    url = receiver.url.replace("127.0.0.1", "shop.example")

    assert post(url, allowed=LOOPBACK, resolve=resolve, ssl=trusting).status == 204
    other = post(url.replace("shop", "evil"), allowed=LOOPBACK, resolve=resolve, ssl=trusting)
    assert other.error == "ClientConnectorCertificateError"
    assert post(url, allowed=LOOPBACK, resolve=resolve).error == "ClientConnectorCertificateError"
    assert len(receiver.got) == 1
