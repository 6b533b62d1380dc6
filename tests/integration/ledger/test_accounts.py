import pytest

from ledger.accounts import EVERY, Switch, sending_rests, set_switch, switch
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


def test_all_accounts_rest_together_or_each_for_itself(ledger):
    def rest(now=NOW):
        with ledger.read() as connection:
            return [sending_rests(connection, name, now) for name in ("shop", "other")]

    assert rest() == [False, False]
    change(ledger, paused=True)
    assert rest() == [True, False]
    ledger.run(lambda connection: set_switch(connection, EVERY, actor="anna", now=NOW, paused=True))
    change(ledger, paused=False)
    assert rest() == [True, True]
    ledger.run(lambda connection: set_switch(connection, EVERY, actor="anna", now=NOW, paused=False))
    assert rest() == [False, False]


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
