import time

import pytest
import redis

from signals.client import connect
from worker.companion import RELAY_PATIENCE


def test_a_connection_is_bounded_in_time(redis_server):
    with connect(redis_server.url) as client:
        options = client.connection_pool.connection_kwargs
        assert client.ping()

    assert options["socket_timeout"] <= 10
    assert options["socket_connect_timeout"] <= 2


def test_where_nobody_listens_the_answer_is_an_error_at_once(redis_server):
    redis_server.stop()
    began = time.monotonic()

    with connect(redis_server.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    assert time.monotonic() - began < 5


def test_a_server_that_says_nothing_is_asked_once_more_and_given_up(redis_server):
    redis_server.pause()
    began = time.monotonic()

    with connect(redis_server.url, timeout=0.3) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    assert 0.5 < time.monotonic() - began < 3


def test_a_connection_that_ended_while_it_rested_is_made_anew(redis_server):
    with connect(redis_server.url) as client:
        client.set("a", "1")
        redis_server.restart()

        assert client.get("a") == b"1"


def test_the_relay_gives_up_before_the_ledger_ends_its_transaction():
    assert 2 * (RELAY_PATIENCE + 2) < 10  # `idle_in_transaction_session_timeout`
