import pytest

from ledger.accounts import Switch, set_switch, switch
from tests.integration.ledger.support import NOW


def read(ledger, name="shop"):
    with ledger.read() as connection:
        return switch(connection, name)


def change(ledger, **values):
    ledger.run(lambda connection: set_switch(connection, "shop", actor="anna", now=NOW, **values))


def test_an_account_nobody_touched_has_no_switches(ledger):
    assert read(ledger) is None


def test_a_pause_stays_until_it_is_lifted(ledger):
    change(ledger, paused=True, pause_reason="why")
    assert read(ledger).stops_sending(NOW)
    assert (read(ledger).pause_reason, read(ledger).changed_by) == ("why", "anna")
    change(ledger, paused=False, pause_reason=None)

    assert not read(ledger).stops_sending(NOW)


def test_one_switch_leaves_the_other_alone(ledger):
    change(ledger, paused=True)
    change(ledger, breaker="open", breaker_until=NOW + 10)

    assert (read(ledger).paused, read(ledger).breaker) == (True, "open")


@pytest.mark.parametrize(("position", "stops"), [("open", True), ("closed", False)])
def test_a_forced_breaker_holds_until_its_time_is_over(ledger, position, stops):
    change(ledger, breaker=position, breaker_until=NOW + 10)

    assert read(ledger).forced(NOW + 9) == position
    assert read(ledger).stops_sending(NOW + 9) is stops
    assert read(ledger).forced(NOW + 10) is None
    assert not read(ledger).stops_sending(NOW + 10)


def test_a_forced_breaker_without_an_end_stays():
    forced = Switch(
        name="shop",
        paused=False,
        pause_reason=None,
        breaker="open",
        breaker_until=None,
        changed_by=None,
        changed_at=NOW,
    )

    assert forced.forced(NOW + 1e9) == "open"
