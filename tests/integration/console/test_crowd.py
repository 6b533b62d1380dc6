"""More connections than the console takes."""

import socket

import httpx

from console.__main__ import CONNECTIONS
from tests.support.processes import wait_until


def test_too_many_connections_are_turned_away_and_the_rest_is_served(console):
    held = [socket.create_connection(("127.0.0.1", console.port)) for _ in range(CONNECTIONS)]
    try:
        turned_away = httpx.get(f"{console.url}/sign-in")
    finally:
        for each in held:
            each.close()
    wait_until(lambda: httpx.get(f"{console.url}/sign-in").status_code == 200, what="the console served again")

    assert turned_away.status_code == 503
