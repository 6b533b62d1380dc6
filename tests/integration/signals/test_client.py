import time

import pytest
import redis

from signals.client import connect


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
