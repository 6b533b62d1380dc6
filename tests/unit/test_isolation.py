"""What the unit tests rely on, and are kept from."""

import asyncio
import os
import socket

import pytest
from pytest_socket import SocketBlockedError


@pytest.fixture(scope="module", autouse=True)
def _settings_of_whoever_runs_the_tests():
    os.environ["REFUNDRY_DATABASE_URL"] = "sqlite:///precious.db"
    yield
    del os.environ["REFUNDRY_DATABASE_URL"]


def test_no_socket_can_be_opened():
    with pytest.warns(UserWarning, match="tried to use socket"), pytest.raises(SocketBlockedError):
        socket.socket()


def test_an_event_loop_runs_all_the_same():
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"


def test_the_settings_of_whoever_runs_the_tests_are_out_of_sight():
    assert not [name for name in os.environ if name.startswith("REFUNDRY_")]
