import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from signals.client import connect
from signals.limits import Admission, Breaker, Limit, Limits

RATED = Limit(rate=10, concurrency=1000)
NARROW = Limit(concurrency=10)
FRAGILE = Limit(failures=5, window=30, cooldown=1000)
COOLED = replace(FRAGILE, cooldown=0)


@pytest.fixture
def limits(client):
    return Limits(client, "w1")


@pytest.fixture
def others(client):
    return Limits(client, "w2")


def admit(limits, limit, want, *, in_flight=0, unused=0, lane="send", account="shop"):
    return limits.admit(account, limit, in_flight=in_flight, want=want, unused=unused, lane=lane).granted


def a_second_passes(client, seconds=1.0, account="shop"):
    """For the bucket: it was last looked at that much earlier."""
    client.hincrby(f"refundry:rate:{account}", "at", -int(seconds * 1000))


# -- rate -------------------------------------------------------------------------------------------------------------


def test_without_a_rate_everything_asked_for_is_granted(limits):
    assert limits.admit("shop", Limit(), in_flight=0, want=150) == Admission(150, Breaker.CLOSED)


def test_a_second_of_the_rate_is_granted_at_once_and_no_more(limits):
    assert admit(limits, RATED, 25) == 10
    assert admit(limits, RATED, 25) == 0


def test_workers_share_the_rate(limits, others):
    assert admit(limits, RATED, 6) == 6
    assert admit(others, RATED, 25) == 4


def test_workers_at_once_never_get_more_than_the_rate(shared_redis, client):
    def take(number):
        with connect(shared_redis.url) as own:
            return sum(admit(Limits(own, f"w{number}"), replace(RATED, rate=100), 3) for _ in range(20))

    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        granted = sum(pool.map(take, range(4)))

    assert 100 <= granted <= 101 + 100 * (time.monotonic() - began)


@pytest.mark.parametrize(("seconds", "granted"), [(0.5, 5), (1, 10), (3600, 10)])
def test_tokens_come_back_with_time_up_to_a_second_of_them(client, limits, seconds, granted):
    admit(limits, RATED, 10)
    a_second_passes(client, seconds)

    assert admit(limits, RATED, 25) == granted


def test_a_rate_below_one_a_second_is_a_rate_too(client, limits):
    slow = Limit(rate=0.5)
    assert [admit(limits, slow, 5) for _ in range(2)] == [1, 0]
    a_second_passes(client)
    assert admit(limits, slow, 5) == 0
    a_second_passes(client)

    assert admit(limits, slow, 5) == 1


def test_grants_that_nobody_used_go_back(limits):
    admit(limits, RATED, 10)

    assert admit(limits, RATED, 0, unused=7) == 0
    assert admit(limits, RATED, 25) == 7


def test_no_more_goes_back_than_the_bucket_holds(limits):
    admit(limits, RATED, 1)
    admit(limits, RATED, 0, unused=1000)

    assert admit(limits, RATED, 1000) == 10


def test_accounts_have_limits_of_their_own(limits):
    admit(limits, RATED, 10)

    assert admit(limits, RATED, 25, account="other") == 10


# -- concurrency ------------------------------------------------------------------------------------------------------


def test_what_is_in_flight_counts(limits):
    assert admit(limits, NARROW, 25, in_flight=7) == 3
    assert admit(limits, NARROW, 25, in_flight=10) == 0
    assert admit(limits, NARROW, 25, in_flight=30) == 0


def test_workers_and_lanes_share_the_places(limits, others):
    assert admit(limits, NARROW, 4) == 4
    assert admit(limits, NARROW, 3, lane="poll") == 3
    assert admit(others, NARROW, 25) == 3
    assert admit(others, NARROW, 25, lane="recover") == 0


def test_places_that_are_given_back_are_free_for_others(limits, others):
    admit(limits, NARROW, 10)
    assert admit(others, NARROW, 5) == 0
    admit(limits, NARROW, 0, in_flight=2)

    assert admit(others, NARROW, 25) == 8


def test_the_places_of_a_worker_that_says_nothing_any_more_lapse(client, limits, others):
    admit(limits, NARROW, 10)
    client.hset("refundry:places:shop", "w1:send", "10:1")

    assert admit(others, NARROW, 25) == 10
    assert client.hkeys("refundry:places:shop") == [b"w2:send"]


def test_who_only_looks_takes_no_place(limits, others):
    assert limits.breaker("shop", NARROW) is Breaker.CLOSED
    assert admit(others, NARROW, 25) == 10


def test_a_worker_that_asks_does_not_shorten_the_places_of_another(client, limits, others):
    admit(limits, NARROW, 0, in_flight=6)
    kept = client.pttl("refundry:places:shop")
    admit(others, NARROW, 1)

    assert client.pttl("refundry:places:shop") >= kept - 1000


# -- breaker ----------------------------------------------------------------------------------------------------------


def report(limits, *, good=0, bad=0, limit=FRAGILE):
    return limits.report("shop", limit, good=good, bad=bad)


def test_faults_open_the_breaker_for_all_workers(limits, others):
    assert report(limits, bad=4) is Breaker.CLOSED
    assert report(others, bad=1) is Breaker.OPEN

    assert limits.admit("shop", FRAGILE, in_flight=0, want=5).breaker is Breaker.OPEN
    assert others.breaker("shop", FRAGILE) is Breaker.OPEN


def test_a_few_faults_among_many_good_answers_do_not_open_it(limits):
    assert report(limits, good=100, bad=4) is Breaker.CLOSED
    assert report(limits, bad=20) is Breaker.CLOSED
    assert report(limits, bad=80) is Breaker.OPEN


def test_old_faults_are_forgotten(client, limits):
    report(limits, bad=4)
    client.hincrby("refundry:breaker:shop", "since", -31_000)

    assert report(limits, bad=4) is Breaker.CLOSED
    assert report(limits, bad=1) is Breaker.OPEN


def test_while_it_is_open_good_answers_do_not_close_it(limits):
    report(limits, bad=5)

    assert report(limits, good=50) is Breaker.OPEN
    assert limits.breaker("shop", FRAGILE) is Breaker.OPEN


def test_after_the_cooldown_it_is_half_open(limits):
    report(limits, bad=5)

    assert limits.breaker("shop", COOLED) is Breaker.HALF_OPEN


def test_a_good_answer_closes_the_half_open_breaker(limits):
    report(limits, bad=5)

    assert report(limits, good=1, limit=COOLED) is Breaker.CLOSED
    assert limits.breaker("shop", FRAGILE) is Breaker.CLOSED
    assert report(limits, bad=4) is Breaker.CLOSED


def test_a_fault_opens_the_half_open_breaker_again(limits):
    report(limits, bad=5)

    assert report(limits, good=3, bad=1, limit=COOLED) is Breaker.OPEN
    assert limits.breaker("shop", FRAGILE) is Breaker.OPEN


def test_one_accounts_faults_are_not_anothers(limits):
    report(limits, bad=5)

    assert limits.breaker("other", FRAGILE) is Breaker.CLOSED


# -- without Redis ----------------------------------------------------------------------------------------------------


def test_when_redis_is_gone_a_share_of_the_limits_goes_on(redis_server):
    with connect(redis_server.url) as connected:
        limits = Limits(connected, "w1", share=4)
        assert admit(limits, RATED, 3) == 3
        redis_server.kill()

        assert admit(limits, replace(RATED, rate=40), 100) == 10
        assert admit(limits, NARROW, 100, account="other") == 2
        assert limits.report("shop", FRAGILE, good=0, bad=5) is Breaker.OPEN
        assert limits.breaker("shop", FRAGILE) is Breaker.OPEN

        redis_server.start()
        assert admit(limits, NARROW, 100) == 10
        assert limits.breaker("shop", FRAGILE) is Breaker.CLOSED


def test_after_redis_forgot_everything_the_limits_begin_anew(client, limits):
    admit(limits, RATED, 10)
    client.flushall()
    client.script_flush()

    assert admit(limits, RATED, 25) == 10


def test_while_a_provider_is_left_in_peace_nobody_starts_anything(client, limits, others):
    limits.rest("shop", NARROW, 60)

    assert admit(limits, NARROW, 3) == admit(others, NARROW, 3, lane="poll") == 0
    assert admit(others, NARROW, 3, account="other") == 3
    assert 59_000 < client.pttl("refundry:rest:shop") <= 60_000
    limits.rest("shop", NARROW, 0.02)
    time.sleep(0.05)
    assert admit(others, NARROW, 3) == 3
