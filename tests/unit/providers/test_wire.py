"""The wire: exact JSON out, and never an exception for what a provider sent."""

from decimal import Decimal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import EXPONENTS
from domain.outcome import Pending, Unknown
from providers import wire
from providers.base import Ask, Move
from tests.unit.providers.support import MANGLED

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_decimals_are_written_as_numbers_and_nothing_is_left_for_none():
    request = wire.post("https://x.example/a", {"a": Decimal("10.00"), "b": None, "c": "é"}, {"X-Own": "1"})

    assert request.content == '{"a":10.00,"c":"é"}'.encode()
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Own"] == "1"


def test_a_content_type_of_the_providers_own_replaces_ours():
    request = wire.post("https://x.example", {}, {"Content-Type": "application/json; charset=utf-8"})

    assert request.headers.get_list("content-type") == ["application/json; charset=utf-8"]


def test_a_get_carries_headers_and_parameters():
    request = wire.get("https://x.example/a", {"Accept": "application/json"}, {"q": "a b"})

    assert (request.method, str(request.url)) == ("GET", "https://x.example/a?q=a+b")
    assert request.headers["Accept"] == "application/json"
    assert str(wire.get("https://x.example/a", {}, {}).url) == "https://x.example/a"


def test_numbers_are_read_exactly():
    assert wire.json_object(b'{"a":0.1,"b":1,"c":25.00}') == {
        "a": Decimal("0.1"),
        "b": 1,
        "c": Decimal("25.00"),
    }


@pytest.mark.parametrize("body", [body for name, body in MANGLED.items() if name != "empty object"])
def test_what_is_no_json_object_is_none(body):
    assert wire.json_object(body) is None


@pytest.mark.parametrize(
    "number",
    [b"1e999999999999999999999", b"-1e-999999999999999999999", b"1" * 6_000],
    ids=["large", "small", "long"],
)
def test_a_number_beyond_every_amount_raises_nothing(number):
    wire.json_object(b'{"amount":' + number + b"}")


@given(st.binary(max_size=200))
def test_no_body_raises(body):
    assert wire.json_object(body) is None or isinstance(wire.json_object(body), dict)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (7, "7"), (True, "True"), (Decimal("1.5"), "1.5"), (None, None), ({}, None), ([], None)],
)
def test_text_is_short_and_never_a_container(value, expected):
    assert wire.text(value) == expected
    assert wire.text("x" * 300) == "x" * 255
    assert wire.text("abcdef", 3) == "abc"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7", 7),
        (" 7 ", 7),
        ("-7", -7),
        (Decimal("7.0"), 7),
        (Decimal("7.5"), None),
        (True, None),
        ("7.0", None),
        ("", None),
        (None, None),
        ([7], None),
        ("\xb2", None),
        ("--7", None),
        pytest.param("7" * 5_000, None, id="long"),
    ],
)
def test_an_integer_is_a_number_or_digits(value, expected):
    assert wire.integer(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, Decimal(7)),
        ("7.50", Decimal("7.50")),
        (Decimal("7.5"), Decimal("7.5")),
        (True, None),
        ("x", None),
        ("NaN", None),
        ("Infinity", None),
        (None, None),
        ({}, None),
    ],
)
def test_a_decimal_is_a_number_or_text(value, expected):
    assert wire.decimal(value) == expected


@pytest.mark.parametrize(
    ("value", "exponent", "expected"),
    [
        (Decimal("25.00"), 2, 2500),
        (25, 2, 2500),
        ("25.5", 2, 2550),
        (1000, 0, 1000),
        (Decimal("1.234"), 3, 1234),
        (Decimal("25.001"), 2, -1),
        (Decimal("0.5"), 0, -1),
        (None, 2, None),
        (Decimal("10." + "0" * 100), 2, 1000),
        (Decimal("10." + "0" * 100 + "1"), 2, -1),
        ("x", 2, -1),
        (True, 2, -1),
        ([], 2, -1),
    ],
)
def test_major_units_become_minor_ones_or_match_nothing(value, exponent, expected):
    assert wire.minor(value, exponent) == expected


@pytest.mark.parametrize(
    "value",
    [Decimal("1E+999999"), Decimal("1E+99999"), "9" * 5_000, 10**5_000],
    ids=["overflow", "long", "text", "integer"],
)
def test_an_amount_beyond_every_amount_matches_nothing(value):
    assert wire.minor(value, 2) == -1
    assert wire.major_amount(value, "EUR") == -1
    assert wire.minor_amount(value, "EUR") == -1


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        (None, "EUR", None),
        (None, None, None),
        ("25.5", "EUR", 2550),
        (Decimal("25.5"), "KWD", 25_500),
        (25, None, -1),
        (25, "eur", -1),
        (25, wire.NO_CURRENCY, -1),
    ],
)
def test_an_amount_in_major_units_is_exact_or_matches_nothing(value, code, expected):
    assert wire.major_amount(value, code) == expected


@pytest.mark.parametrize(
    ("value", "code", "decimals", "expected"),
    [
        (None, "EUR", None, None),
        (1000, "EUR", None, 1000),
        (Decimal("1000.0"), "EUR", None, 1000),
        (1000, "JPY", 2, 10),
        (1001, "JPY", 2, -1),
        (1000, "EUR", 0, 100_000),
        ("1000", "EUR", None, -1),
        (Decimal("0.5"), "EUR", None, -1),
        (10**15 + 1, "EUR", None, -1),
        (1000, None, None, -1),
        (1000, wire.NO_CURRENCY, 2, -1),
    ],
)
def test_an_amount_in_minor_units_is_exact_or_matches_nothing(value, code, decimals, expected):
    assert wire.minor_amount(value, code, decimals) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("EUR", "EUR"), ("dollars and cents", "dollars "), (978, "978"), ("", "?"), ([], "?"), ({}, "?")],
)
def test_a_currency_is_absent_or_a_word(value, expected):
    assert wire.currency(value) == expected
    assert wire.NO_CURRENCY not in EXPONENTS


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1700000000", 1_700_000_000),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("\xb2", None),
        ("٣", None),
        ("9" * 16, None),
    ],
)
def test_a_time_stamp_is_up_to_15_digits(value, expected):
    assert wire.stamp(value) == expected


@given(ANY_JSON)
def test_no_value_raises_when_it_is_read(value):
    wire.text(value)
    wire.integer(value)
    wire.decimal(value)
    wire.minor(value, 2)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999", 3600.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (b"\xb2", None),
        pytest.param("9" * 400, 3600.0, id="long"),
    ],
)
def test_retry_after_is_seconds_within_an_hour(header, expected):
    assert wire.retry_after(httpx.Response(429, headers={"Retry-After": header})) == expected


def test_without_retry_after_there_is_none():
    assert wire.retry_after(httpx.Response(429)) is None


def test_an_answer_that_proves_nothing_says_what_it_was():
    page = httpx.Response(502, headers={"Content-Type": "text/html; charset=utf-8"})

    assert wire.unreadable(page) == Unknown(reason="HTTP 502 with an unreadable body (text/html)")
    assert wire.unreadable(httpx.Response(200)).reason.endswith("(no content type)")
    assert wire.ambiguous(page) == Unknown(reason="HTTP 502")


@pytest.mark.parametrize("status", [300, 302, 399, 408, 409, 425, 429, 500, 502, 503, 504, 599])
def test_a_proxy_may_have_answered_these(status):
    assert status in wire.AMBIGUOUS_STATUS


@pytest.mark.parametrize("status", [200, 201, 400, 401, 402, 403, 404, 422])
def test_these_come_from_the_provider(status):
    assert status not in wire.AMBIGUOUS_STATUS


def test_drive_runs_a_conversation_to_its_end():
    def conversation():
        first = yield Ask(wire.get("https://x.example/1"))
        second = yield Move(wire.get("https://x.example/2"))

        return Unknown(reason=f"{first.status_code} {second.status_code}")

    heard = []

    def network(request):
        heard.append(request.url.path)

        return httpx.Response(200 + len(heard))

    assert wire.drive(conversation(), network) == Unknown(reason="201 202")
    assert heard == ["/1", "/2"]


def test_drive_takes_a_conversation_of_no_steps():
    def conversation():
        yield from ()

        return Pending()

    assert wire.drive(conversation(), lambda _: httpx.Response(500)) == Pending()
