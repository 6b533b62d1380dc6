import json
import time
from ipaddress import ip_address, ip_network

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from domain.errors import InvalidJob
from domain.state import State
from domain.webhook import (
    EVENT_TYPES,
    TYPES,
    Health,
    Reply,
    Told,
    after_attempt,
    after_reply,
    as_secret,
    check_url,
    event_type,
    may_connect,
    payload,
    signed,
)

SECRET = as_secret(b"a secret of twenty-four b")
OTHER = as_secret(b"another secret of more than twenty-four bytes")
SCHEDULE = (0.0, 5.0, 300.0)
NOW = 1_700_000_000.0


def reply(status=None, **more):
    return Reply(at=NOW, ms=12, status=status, **more)


def test_every_state_has_a_type_and_the_first_event_says_accepted():
    assert set(TYPES) == set(State)
    assert {event_type(state, 1) for state in State} == {"refund.accepted"}
    assert event_type(State.QUEUED, 3) == "refund.pending"
    assert event_type(State.REVIEW, 4) == "refund.needs_review"
    assert len(EVENT_TYPES) == 9


def test_the_example_of_the_specification_has_its_signature():
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    headers = signed([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.9, body)

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_reference_library_verifies_each_live_secret_and_no_other():
    body = payload("refund.succeeded", "2023-11-14T22:13:20.000Z", {"id": "rf_1", "reference": "ä"}).encode()
    headers = signed([SECRET, OTHER], "msg_1", time.time(), body)

    assert Webhook(SECRET).verify(body, headers)["data"]["reference"] == "ä"
    assert Webhook(OTHER).verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(as_secret(b"0" * 32)).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


@pytest.mark.parametrize(
    "url", ["https://shop.example/refunds", "https://shop.example:8443/a?b=c", "https://[2606:4700::1]/"]
)
def test_addresses_that_can_be(url):
    check_url(url, allow_http=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "gopher://shop.example/",
        "HTTPS:/shop.example",
        "https://",
        "https:///path",
        "https://user@shop.example/",
        "https://user:pass@shop.example/",
        "https://shop.example@127.0.0.1/",
        "https://shop.example/#fragment",
        "https://shop.example\\@127.0.0.1/",
        "https://shop.example/a b",
        "https://shop.example/\r\nX: y",
        "https://shop.example:22/",
        "https://shop.example:0/",
        "https://shop.example:99999/",
        "https://shop.example:port/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00:ec2::254]/",
        "https://10.0.0.1/",
        "https://[::1/",
        "https://shop.example/" + "x" * 2048,
        "",
    ],
)
def test_addresses_that_cannot_be_are_refused_by_name(url):
    with pytest.raises(InvalidJob) as refused:
        check_url(url, allow_http=False)

    assert refused.value.errors[0].pointer == "#/url"


PRIVATE = [
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200"),
    *("::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_webhook_goes_to_an_address_that_is_not_public(address):
    assert not may_connect(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_taken(address):
    assert may_connect(ip_address(address))


def test_a_network_that_is_allowed_is_allowed_in_every_spelling_and_nothing_beside_it():
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))

    assert may_connect(ip_address("10.1.2.3"), allowed)
    assert may_connect(ip_address("::ffff:10.1.2.3"), allowed)
    assert may_connect(ip_address("fd00:1::5"), allowed)
    assert not may_connect(ip_address("10.2.0.1"), allowed)
    check_url("http://10.1.2.3:8080/", allow_http=True, allowed=allowed)


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_2xx_is_delivered(status):
    assert after_attempt(reply(status), 1, SCHEDULE, 0.5)[0] is Told.DELIVERED


@pytest.mark.parametrize("status", [None, 100, 301, 302, 307, 400, 401, 404, 410, 429, 500, 502])
def test_anything_else_is_tried_again_by_the_schedule_until_its_end(status):
    assert after_attempt(reply(status), 3, SCHEDULE, 0.5)[0] is Told.UNDELIVERED
    state, due_at = after_attempt(reply(status), 2, SCHEDULE, 0.0)

    assert (state, due_at) == (Told.WAITING, NOW + 300)


def test_the_jitter_adds_up_to_a_tenth():
    assert after_attempt(reply(500), 2, SCHEDULE, 0.999)[1] == pytest.approx(NOW + 330, abs=0.1)


def test_retry_after_is_honoured_and_bounded():
    assert after_attempt(reply(503, retry_after=60.0), 1, SCHEDULE, 0.0)[1] == NOW + 60
    assert after_attempt(reply(503, retry_after=1.0), 2, SCHEDULE, 0.0)[1] == NOW + 300
    assert after_attempt(reply(503, retry_after=9e6), 1, SCHEDULE, 0.0)[1] == NOW + 86_400


@pytest.mark.parametrize("status", [429, 502, 504])
def test_an_overloaded_receiver_is_left_alone_for_a_while(status):
    assert after_reply(Health(), reply(status), disable_after=1e6, first_wait=5.0).paused_until == NOW + 30
    assert (
        after_reply(Health(), reply(status, retry_after=7.0), disable_after=1e6, first_wait=5.0).paused_until == NOW + 7
    )


def test_the_longer_an_endpoint_fails_the_rarer_it_is_tried():
    pauses = [
        after_reply(Health(failing_since=NOW - age), reply(500), disable_after=1e6, first_wait=5.0).paused_until - NOW
        for age in (0, 100, 10_000)
    ]

    assert pauses == [0, 10, 60]


def after(health, status, at):
    return after_reply(health, Reply(at=at, ms=1, status=status), disable_after=1e6, first_wait=5.0)


def test_one_success_ends_a_failure_and_what_waited_longer_than_the_first_wait_is_caught_up():
    sick = after(Health(), 500, NOW)
    assert sick.failing_since == NOW

    assert after(sick, 204, NOW + 5) == Health(recovered_at=NOW + 5)
    assert after(sick, 204, NOW + 4) == Health()
    assert after(Health(), 204, NOW) == Health()
    assert after(Health(recovered_at=NOW), 204, NOW + 1).recovered_at == NOW


def test_gone_switches_an_endpoint_off_and_so_does_a_long_failure():
    assert "410" in after_reply(Health(), reply(410), disable_after=1e6, first_wait=5.0).disabled
    assert after_reply(Health(failing_since=NOW - 90), reply(500), disable_after=100, first_wait=5.0).disabled is None
    assert after_reply(Health(failing_since=NOW - 100), reply(500), disable_after=100, first_wait=5.0).disabled
