"""The proxy does to a connection what its weather says."""

import contextlib
import socket
import threading
import time

import pytest

from tests.chaos.proxy import HOST, Proxy, Weather


def _echo(listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection):
    with connection:
        try:
            while data := connection.recv(1000):
                connection.sendall(data)
        except OSError:
            return


@pytest.fixture
def proxy():
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_echo, args=(listener,), daemon=True).start()
        made = Proxy(listener.getsockname()[1], "seed")
        made.start()
        yield made
        made.stop()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def connect(proxy):
    """Makes connections that the test need not close."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection((HOST, proxy.port), timeout=0.5))


def ask(connection):
    connection.sendall(b"hello")

    return connection.recv(1000)


def test_fine_weather_passes(connect):
    assert ask(connect()) == b"hello"


def test_refused_means_that_nobody_listens_and_open_connections_are_reset(proxy, connect):
    connection = connect()
    assert ask(connection) == b"hello"
    proxy.turn(Weather.REFUSE)

    with pytest.raises(ConnectionError):
        ask(connection)
    with pytest.raises(ConnectionRefusedError):
        connect()
    proxy.turn(Weather.FINE)
    assert ask(connect()) == b"hello"


def test_swallowed_bytes_never_arrive_and_their_connection_ends_with_the_weather(proxy, connect):
    proxy.turn(Weather.SWALLOW)
    connection = connect()
    with pytest.raises(TimeoutError):
        ask(connection)
    proxy.turn(Weather.FINE)

    with pytest.raises(ConnectionError):
        ask(connection)
    assert ask(connect()) == b"hello"


def test_slow_bytes_arrive_late(proxy, connect):
    proxy.turn(Weather.SLOW, delay=0.1)
    began = time.monotonic()

    assert ask(connect()) == b"hello"
    assert time.monotonic() - began >= 0.2


def test_a_reset_ends_the_connection(proxy, connect):
    proxy.turn(Weather.RESET, probability=1.0)

    with pytest.raises(ConnectionError):
        ask(connect())
