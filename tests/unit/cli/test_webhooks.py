import json

import pytest

from engine.fanout import fan_out

URL = "https://shop.example/hooks"


@pytest.fixture
def endpoint(home, refundry):
    """An endpoint of the command line's making."""
    told = refundry("webhooks", "endpoints", "create", URL, "-o", "json")
    assert told.status == 0, told.err

    return told.json()


@pytest.fixture
def sent(endpoint, create, engine):
    """A delivery that waits."""
    create()
    assert fan_out(engine) == 1


def listed(refundry, *options):
    return refundry("webhooks", "sent", *options, "-o", "json").json()


def test_an_endpoint_is_created_with_a_secret_that_is_shown_once(endpoint, refundry):
    assert endpoint["secret"].startswith("whsec_")
    assert endpoint["state"] == "enabled"
    for command in (("list",), ("show", endpoint["id"])):
        told = refundry("webhooks", "endpoints", *command)
        assert URL in told.out
        assert "whsec_" not in told.out


def test_rotating_shows_the_new_secret_and_when_the_old_one_ends(endpoint, refundry):
    told = refundry("webhooks", "endpoints", "rotate", endpoint["id"], "--overlap", "2h", "-o", "json").json()

    assert told["secret"] != endpoint["secret"]
    assert [each["expires_at"] is None for each in told["secrets"]] == [True, False]
    assert "shown this once" in refundry("webhooks", "endpoints", "rotate", endpoint["id"], "--overlap", "0").out


def test_switching_off_and_on_and_deleting(endpoint, refundry):
    name = endpoint["id"]
    assert refundry("webhooks", "endpoints", "disable", name, "--reason", "moving").status == 0
    view = refundry("webhooks", "endpoints", "show", name, "-o", "json").json()
    assert (view["state"], view["reason"]) == ("disabled", "moving")
    assert refundry("webhooks", "endpoints", "enable", name).status == 0
    assert refundry("webhooks", "endpoints", "delete", name).status == 0

    assert refundry("webhooks", "endpoints", "show", name).status == 3
    assert "no endpoints yet" in refundry("webhooks", "endpoints", "list").out


def test_what_was_sent_is_listed_and_shown(sent, endpoint, refundry):
    (delivery,) = listed(refundry)
    assert delivery["type"] == "refund.accepted"
    assert delivery["endpoint"] == endpoint["id"]
    assert listed(refundry, "--refund", delivery["refund"], "--state", "waiting", "--endpoint", endpoint["id"])
    assert listed(refundry, "--state", "delivered") == []

    shown = refundry("webhooks", "sent", delivery["id"], "-o", "json").json()
    assert shown["payload"]["data"]["reference"] == "R-1"
    assert shown["tried"] == []
    assert '"refund.accepted"' in refundry("webhooks", "sent", delivery["id"]).out
    assert refundry("webhooks", "sent", "msg_none").status == 3


def test_sending_again_by_id_and_by_range(sent, endpoint, refundry):
    (delivery,) = listed(refundry)

    assert refundry("webhooks", "resend", delivery["id"], "-o", "json").json() == {"resent": 1}
    ranged = ("webhooks", "resend", "--endpoint", endpoint["id"], "--since", "1h")
    assert refundry(*ranged, "-o", "json").json() == {"resent": 1}
    assert refundry(*ranged, "--until", "30m", "-o", "json").json() == {"resent": 0}
    assert refundry(*ranged, "--state", "undelivered", "-o", "json").json() == {"resent": 0}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("resend",), 2, "--since"),
        (("resend", "msg_1", "--since", "1h"), 2, "--since"),
        (("resend", "--endpoint", "we_1"), 2, "--since"),
        (("resend", "--endpoint", "we_1", "--since", "soon"), 2, "duration"),
        (("resend", "--endpoint", "we_1", "--since", "1h"), 3, "we_1"),
        (("resend", "msg_1"), 3, "msg_1"),
        (("endpoints", "create", "http://shop.example/"), 1, "https"),
        (("endpoints", "create", "https://127.0.0.1/"), 1, "no public address"),
        (("endpoints", "create", URL, "--type", "refund.exploded"), 1, "#/types"),
        (("endpoints", "create", URL, "--account", "nobody"), 1, "#/accounts"),
        (("endpoints", "rotate", "we_1"), 3, "we_1"),
        (("endpoints", "disable", "we_1"), 2, "reason"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(home, refundry, arguments, status, words):
    told = refundry("webhooks", *arguments)

    assert told.status == status
    assert words in told.err


def test_roles_are_checked(people, refundry):
    created = refundry("webhooks", "endpoints", "create", URL, "--actor", "ada", "-o", "json").json()

    assert refundry("webhooks", "endpoints", "create", URL, "--actor", "oli").status == 1
    assert refundry("webhooks", "endpoints", "rotate", created["id"], "--actor", "oli").status == 1
    ranged = ("webhooks", "resend", "--endpoint", created["id"], "--since", "1h")
    assert refundry(*ranged, "--actor", "ada").status == 1
    assert refundry(*ranged, "--actor", "oli").status == 0


def test_status_tells_of_endpoints_that_need_a_person(endpoint, refundry, engine):
    from ledger import webhooks

    assert refundry("status").status == 0
    engine.ledger.run(
        lambda connection: webhooks.change_endpoint(connection, endpoint["id"], failing_since=engine.clock() - 7200)
    )
    told = refundry("status")

    assert told.status == 1
    assert "1 endpoints failing" in told.out
    assert json.loads(refundry("status", "-o", "json").out)["webhooks"] == {"failing": 1, "undelivered": 0}
