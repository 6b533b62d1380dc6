"""Counts of all processes, on both databases."""

import pytest
from sqlalchemy.exc import OperationalError

from engine.meter import BOUNDS, BUCKETS, SECONDS, Meter
from ledger import counts
from tests.support.processes import wait_until


def totals(ledger):
    with ledger.read() as connection:
        return counts.totals(connection)


def test_what_several_processes_count_is_added_up(ledger, second):
    one, two = Meter(ledger), Meter(second)
    one.count("accepted", "shop", "smartpay")
    two.count("accepted", "shop", "smartpay", by=2)
    two.count("accepted", "other", "smartpay")
    one.flush()
    two.flush()
    two.flush()

    assert totals(ledger) == {("accepted", ("shop", "smartpay")): 3, ("accepted", ("other", "smartpay")): 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, BUCKETS[0]), (BOUNDS[0], BUCKETS[0]), (0.026, "0.05"), (1e6, "+Inf")]
)
def test_an_attempt_is_counted_in_one_bucket_with_its_time(ledger, seconds, bucket):
    meter = Meter(ledger)
    meter.attempt("shop", "smartpay", "succeeded", seconds)
    meter.flush()

    assert totals(ledger) == {
        ("attempts", ("shop", "smartpay", "succeeded")): 1,
        (SECONDS, ("shop", "smartpay", bucket)): 1,
        (SECONDS, ("shop", "smartpay", "sum")): seconds,
    }


def test_it_is_written_beside_the_work_and_once_for_all_that_gathers(ledger):
    meter = Meter(ledger, pause=0.2)
    meter.start()
    for _ in range(10):
        meter.count("dead", "shop", "smartpay", "mismatch")
    early = totals(ledger)

    wait_until(lambda: totals(ledger) == {("dead", ("shop", "smartpay", "mismatch")): 10}, what="the counts")
    assert early == {}


def test_what_is_left_is_written_at_the_end(ledger):
    meter = Meter(ledger, pause=3600)
    meter.start()
    meter.count("accepted", "shop", "smartpay")
    meter.close()

    assert totals(ledger) == {("accepted", ("shop", "smartpay")): 1}


def test_what_cannot_be_written_is_kept_for_the_next_time(ledger, monkeypatch):
    meter = Meter(ledger)
    meter.count("accepted", "shop", "smartpay")

    def away(_work):
        raise OperationalError("", {}, Exception())

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "run", away)
        meter.flush()
    meter.count("accepted", "shop", "smartpay")
    meter.flush()

    assert totals(ledger) == {("accepted", ("shop", "smartpay")): 2}
