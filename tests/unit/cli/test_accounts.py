def test_accounts_are_listed_and_shown_without_their_secrets(home, refundry):
    listed = refundry("accounts", "list", "-o", "json").json()
    shown = refundry("accounts", "show", "shop", "-o", "json")

    assert [each["name"] for each in listed] == ["shop", "other"]
    assert shown.json()["policy"]["recovery"] == "replay"
    assert "sk_test" not in shown.out
    assert "sends" in refundry("accounts", "list").out
    assert "policy.lease" in refundry("accounts", "show", "shop").out


def test_an_account_is_paused_and_resumed_on_record(home, refundry):
    assert refundry("accounts", "pause", "shop", "--reason", "audit").status == 0
    assert "paused already" in refundry("accounts", "pause", "shop").out
    assert "paused: audit" in refundry("accounts", "list").out
    assert refundry("accounts", "resume", "shop", "--reason", "done").status == 0

    kinds = [each["type"] for each in refundry("audit", "list", "-o", "json").json()]
    assert kinds == ["account.resumed", "account.paused"]


def test_a_breaker_is_held_for_a_while(home, refundry):
    told = refundry("accounts", "breaker", "open", "shop", "--for", "30m", "--reason", "provider asked", "-o", "json")

    assert told.status == 0
    assert told.json()["breaker_held"] == "open"
    assert "rests" in refundry("accounts", "list").out
    assert refundry("accounts", "breaker", "close", "shop", "--reason", "over").status == 0
    assert refundry("accounts", "breaker", "close", "shop", "--for", "long", "--reason", "over").status == 2


def test_an_account_that_is_not_configured_is_not_found(home, refundry):
    for command in (("show", "x"), ("pause", "x"), ("resume", "x"), ("breaker", "open", "x", "--reason", "y")):
        told = refundry("accounts", *command)
        assert told.status == 3
        assert "shop, other" in told.err


def test_switching_takes_the_role(people, refundry):
    assert refundry("accounts", "pause", "shop", "--actor", "pia").status == 1
    assert refundry("accounts", "pause", "shop").status == 1
    assert refundry("accounts", "pause", "shop", "--actor", "oli").status == 0
