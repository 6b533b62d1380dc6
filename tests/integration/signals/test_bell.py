import pytest
import redis

from signals.bell import Bell
from signals.client import connect


@pytest.fixture
def bell(client):
    return Bell(client)


def test_of_many_who_ring_one_sends(bell):
    assert [bell.taken("send", "shop") for _ in range(5)] == [True, False, False, False, False]


def test_lanes_and_accounts_have_bells_of_their_own(bell):
    assert all(bell.taken(lane, account) for lane in ("send", "poll") for account in ("a", "b"))


def test_while_a_pump_looks_nobody_need_ring(bell):
    bell.hold("send", "shop")

    assert not bell.taken("send", "shop")


def test_when_the_pump_takes_its_last_look_rings_count_again(bell):
    bell.hold("send", "shop")
    bell.free("send", "shop")

    assert bell.taken("send", "shop")


def test_a_bell_that_nobody_answers_can_be_rung_again_within_a_second(client, bell):
    bell.taken("send", "shop")
    bell.hold("poll", "shop")

    for lane in ("send", "poll"):
        assert 0 < client.pttl(f"refundry:bell:{lane}:shop") <= 1000


def test_after_redis_forgot_everything_the_bell_rings(client, bell):
    bell.taken("send", "shop")
    client.flushall()

    assert bell.taken("send", "shop")


def test_without_redis_the_ringer_hears_of_it_and_the_pump_does_not_care(redis_server):
    with connect(redis_server.url) as connected:
        bell = Bell(connected)
        redis_server.kill()
        bell.hold("send", "shop")
        bell.free("send", "shop")

        with pytest.raises(redis.RedisError):
            bell.taken("send", "shop")


def test_who_rings_for_many_waits_for_redis_once_and_asks_again_after_a_moment(redis_server):
    now = 0.0
    with connect(redis_server.url) as connected:
        bell = Bell(connected, monotonic=lambda: now)
        redis_server.kill()
        with pytest.raises(redis.RedisError):
            bell.taken("send", "shop")
        assert not bell.taken("send", "other")
        redis_server.start()
        now = 1.0

        assert bell.taken("send", "shop")
