"""The transport under Celery's consumer, on a real Redis that dies or is full."""

import socket
import time

import pytest
import redis
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis

from engine.bootstrap import bootstrap
from tasks.app import app
from tasks.bells import ring
from tasks.broker import Transport
from tests.support.processes import free_port
from tests.support.servers import RedisServer
from tests.support.settings import make_settings


@pytest.fixture
def server(tmp_path):
    started = RedisServer(tmp_path)
    started.start()
    yield started
    started.process.remove()


@pytest.fixture
def connection(server):
    with Connection(server.url, transport_options={"socket_connect_timeout": 1}) as opened:
        yield opened


def taken(connection):
    """A message of a window of one, on its way."""
    queue = connection.SimpleQueue("work")
    queue.consumer.qos(prefetch_count=1)
    queue.put({})

    return queue.get(timeout=5)


def test_every_redis_url_of_the_app_uses_it(server):
    with app.connection_for_read(server.url) as connection:
        assert isinstance(connection.transport, Transport)


@pytest.mark.parametrize("end", ["ack", "reject", "requeue"])
def test_a_message_that_redis_does_not_hear_of_gives_its_place_back(server, connection, end):
    message = taken(connection)
    window = message.channel.qos
    assert not window.can_consume()
    server.kill()

    with pytest.raises(redis.ConnectionError):
        getattr(message, end)()

    assert window.can_consume()


def test_kombu_alone_keeps_the_place_for_ever(server, connection, monkeypatch):
    """What `tasks.broker` is there for: once this fails, it can go."""
    monkeypatch.setattr(Transport, "Channel", kombu_redis.Channel)
    message = taken(connection)
    server.kill()

    with pytest.raises(redis.ConnectionError):
        message.ack()

    assert not message.channel.qos.can_consume()


def test_a_redis_that_is_full_is_away_and_no_defect(server, connection):
    message = taken(connection)
    with server.client() as client:
        client.config_set("maxmemory", "1")

    with pytest.raises(connection.connection_errors) as caught:
        message.ack()

    assert isinstance(caught.value, redis.exceptions.OutOfMemoryError)


def test_a_bell_whose_message_was_refused_can_be_rung_again(server, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    engine = bootstrap(make_settings(database={"url": url}, redis={"url": server.url}))
    monkeypatch.setattr(app, "send_task", refuse)

    ring(engine, "send", "shop")

    assert engine.bell.taken("send", "shop")
    engine.close()


@pytest.fixture
def silent():
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def seconds(engine, *accounts):
    """How long it takes to ring for these."""
    begun = time.monotonic()
    for account in accounts:
        ring(engine, "send", account)

    return time.monotonic() - begun


def test_a_redis_that_says_nothing_holds_up_nobody(silent, tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    engine = bootstrap(make_settings(database={"url": url}, redis={"url": silent}))

    assert seconds(engine, *(f"shop-{number}" for number in range(10))) < 1
    engine.close()


@pytest.mark.parametrize("trouble", ["silent", "refused"])
def test_a_broker_that_is_lost_after_the_bell_was_taken_holds_up_nobody(server, silent, tmp_path, monkeypatch, trouble):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    engine = bootstrap(make_settings(database={"url": url}, redis={"url": server.url}))
    broker = silent if trouble == "silent" else f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", broker)

    assert seconds(engine, "shop") < 1
    assert engine.bell.taken("send", "shop")
    engine.close()


def refuse(*_arguments, **_options):
    raise OperationalError("not now")
