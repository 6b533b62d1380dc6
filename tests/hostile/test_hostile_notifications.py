"""Notifications of any kind to each adapter: refused, or a hint; never taken unsigned where a secret is configured."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.base import Notification, NotificationRefused
from providers.smartpay import signature
from tests.unit.providers import support
from tests.unit.providers.support import ACCOUNTS, key_pair
from tests.unit.providers.test_conformance import BUILT

NOW = 1_700_000_000.0
EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
each_account = pytest.mark.parametrize("account", ACCOUNTS)

# What HTTP can carry: header values are Latin-1 on the wire.
LATIN = st.text(st.characters(max_codepoint=255), max_size=60)
FORGED = st.sampled_from(
    [
        "",
        "Basic",
        "Basic Og==",
        "Basic ====",
        "Bearer x",
        "t=,v1=",
        "t=1700000000,v1=",
        "v1=" + "0" * 64,
        "0" * 64,
        "f" * 64,
        "A" * 344,
        base64.b64encode(b"\x00" * 256).decode(),
        "²",
        "t=²,v1=²",
        ",",
        "=" * 99,
    ]
)
NAMES = st.sampled_from(
    [
        "authorization",
        "smartpay-signature",
        "smartpay-signature-timestamp",
        "smartpay-event-id",
        "x-smartretry-signature",
        "x-partner-sign",
        "x-partner-project",
        "content-type",
    ]
)
STAMPS = st.sampled_from(["1700000000", "1700000000000", "0", "-1", "\xb2", "", "9" * 30, "1e9"])
HEADERS = st.dictionaries(NAMES, LATIN | FORGED | STAMPS, max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
WORDS = st.sampled_from(
    [
        "id",
        "type",
        "data",
        "eventData",
        "object",
        "Refund",
        "Payment",
        "session",
        "acquiring_payments",
        "refunds",
        "objectType",
        "objectId",
        "metadata",
        "refundry_handle",
        "transaction_id",
        "ID",
        "is_chargeback",
        "payment",
    ]
)
TREES = st.recursive(
    SCALARS | st.sampled_from(["refund", "ps_3230"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=15,
)
BODIES = st.binary(max_size=60) | TREES.map(lambda tree: json.dumps(tree).encode())


def sign(account: str, body: bytes, stamp: str | None = None) -> dict[str, str]:
    """The headers with which the account's provider would send this body."""
    options = support.options(account)
    match account.split(" ", maxsplit=1)[0]:
        case "smartpay":
            stamp = stamp or str(int(NOW * 1000))
            signed = signature(options["webhook_secret"], stamp.encode() + b"." + body)
            return {"smartpay-signature": signed, "smartpay-signature-timestamp": stamp}
        case "smartretry":
            stamp = stamp or str(int(NOW))
            mac = hmac.new(options["webhook_secret"].encode(), stamp.encode() + b"." + body, hashlib.sha256)
            return {"x-smartretry-signature": f"t={stamp},v1={mac.hexdigest()}"}
        case "jpm_smartpay":
            return {"authorization": basic(options["webhook_user"], options["webhook_password"])}
        case "smart2pay":
            return {"authorization": basic(options["site_id"], options["api_key"])}
        case _:
            signed_bytes = key_pair("provider").sign(body, PKCS1v15(), SHA256())
            return {"x-partner-sign": base64.b64encode(signed_bytes).decode()}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def told(provider: Any, headers: dict[str, str], body: bytes, now: float = NOW) -> Notification | None:
    """The hint, or None where it was refused. Anything else that happens fails the test."""
    try:
        found: Notification = provider.notification(headers, body, now)
    except NotificationRefused:
        return None
    assert isinstance(found, Notification)
    assert all(isinstance(each, str) for each in (*found.provider_refund_ids, *found.chargebacks, found.kind))

    return found


@each_account
@EXAMPLES
@given(headers=HEADERS, body=BODIES)
def test_nothing_unsigned_is_taken_where_a_secret_is_configured(account, headers, body):
    assert told(BUILT[account], headers, body) is None


@each_account
@EXAMPLES
@given(body=BODIES)
def test_what_is_signed_is_a_hint_or_refused_whatever_it_says(account, body):
    told(BUILT[account], sign(account, body), body)


@pytest.mark.parametrize(
    "account", [name for name in ACCOUNTS if name.startswith(("smartpay", "smartretry", "smart_g"))]
)
@EXAMPLES
@given(data=st.data())
def test_a_signature_fits_one_body_only(account, data):
    body, other = data.draw(BODIES), data.draw(BODIES)
    headers = sign(account, body)
    if body != other:
        assert told(BUILT[account], headers, other) is None
    name = data.draw(st.sampled_from(sorted(headers)))
    place = data.draw(st.integers(0, len(headers[name]) - 1))
    changed = headers[name][:place] + data.draw(st.sampled_from("0aZ=+ \xff")) + headers[name][place + 1 :]
    # Letters of a hex digest in upper case would be another text: the comparison is of bytes.
    if changed != headers[name]:
        assert told(BUILT[account], {**headers, name: changed}, body) is None


@pytest.mark.parametrize("account", ["smartpay", "smartretry"])
@EXAMPLES
@given(age=st.floats(301, 10**9) | st.floats(-(10**9), -301))
def test_a_signature_of_another_time_is_refused(account, age):
    body = b'{"eventData":{},"data":{}}'

    assert told(BUILT[account], sign(account, body), body) is not None
    assert told(BUILT[account], sign(account, body), body, NOW + age) is None


@pytest.mark.parametrize("account", ["smartpay", "smartretry", "smart_glocal"])
@EXAMPLES
@given(headers=HEADERS, body=BODIES)
def test_an_account_without_a_secret_takes_no_notification_at_all(account, headers, body):
    absent = {"smart_glocal": {"provider_public_key": ""}}.get(account, {"webhook_secret": ""})
    provider = _without(account, tuple(absent.items()))
    empty = hmac.new(b"", b"1700000000." + body, hashlib.sha256).hexdigest()

    assert told(provider, headers, body) is None
    assert told(provider, {"x-smartretry-signature": f"t=1700000000,v1={empty}"}, body) is None
    assert told(provider, {"smartpay-signature": empty, "smartpay-signature-timestamp": "1700000000"}, body) is None


_made: dict[Any, Any] = {}


def _without(account: str, changes: tuple[tuple[str, str], ...]) -> Any:
    key = (account, changes)
    if key not in _made:
        _made[key] = support.provider(account, **dict(changes))

    return _made[key]


@EXAMPLES
@given(headers=HEADERS, body=BODIES)
def test_where_no_password_was_agreed_a_notification_is_still_only_a_hint_or_refused(headers, body):
    told(_without("jpm_smartpay", (("webhook_user", ""), ("webhook_password", ""))), headers, body)


@each_account
def test_a_deep_or_a_large_body_is_refused_or_a_hint_like_any_other(account):
    for body in (b"[" * 1_000_000, b'{"data":' * 100_000, json.dumps({"data": {"x": "y" * 10**6}}).encode()):
        told(BUILT[account], sign(account, body), body)
        assert told(BUILT[account], {}, body) is None


@pytest.mark.parametrize(
    ("account", "stamp"), [("smartretry", "\xb2"), ("smartretry", "9" * 5000), ("smartpay", "9" * 5000)]
)
def test_a_signed_time_stamp_that_is_no_time_is_refused(account, stamp):
    body = b'{"eventData":{},"data":{}}'

    assert told(BUILT[account], sign(account, body, stamp), body) is None


@each_account
@pytest.mark.parametrize("value", ["\ud800", "t=\ud800,v1=\ud800", "Basic \udcff"])
def test_half_a_character_in_a_header_is_refused_like_any_other(account, value):
    body = b'{"eventData":{},"data":{}}'

    for name in sign(account, body):
        assert told(BUILT[account], {**sign(account, body), name: value}, body) is None
