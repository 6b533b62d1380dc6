import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.values import RateLimit, insecure_urls, parse_duration, parse_rate, plain_http_allowed


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (15, 15),
        (2.5, 2.5),
        ("15", 15),
        ("30s", 30),
        ("15m", 900),
        ("24h", 86400),
        ("10d", 864000),
        ("1.5h", 5400),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(written, seconds):
    parsed = parse_duration(written)

    assert parsed == seconds
    assert isinstance(parsed, float)


@pytest.mark.parametrize(
    "written", [True, None, -1, math.nan, math.inf, "", "15x", "-3s", "m", "1 h", "１５m", [1], 10**400]
)
def test_anything_else_is_no_duration(written):
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(written)


@given(st.integers(min_value=1, max_value=10**6), st.sampled_from("smhd"))
def test_a_rate_counts_calls_in_a_period(count, unit):
    rate = parse_rate(f"{count}/{unit}")

    assert rate.count == count
    assert rate.per_second == pytest.approx(count / rate.period)


def test_a_rate_stays_what_it_is():
    assert parse_rate(RateLimit(5, 2.0)) == RateLimit(5, 2.0)


@pytest.mark.parametrize("written", [100, None, "", "100", "0/s", "-1/s", "1.5/s", "10/y", "s/10", "1000000000/s"])
def test_anything_else_is_no_rate(written):
    with pytest.raises(ValueError, match="a rate"):
        parse_rate(written)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8090/x", "http://127.8.9.1", "http://[::1]:1", "http://localhost"])
def test_plain_http_is_allowed_on_this_machine(url):
    assert plain_http_allowed(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "http://",
    ],
)
def test_plain_http_is_refused_to_any_other_machine(url):
    assert not plain_http_allowed(url)


def test_plain_http_is_found_however_deep_the_address_stands():
    options = {"oauth": {"token_url": "HTTP://id.example.com/token"}, "origin": "http://shop.example.com"}

    assert insecure_urls(options) == ["oauth.token_url"]
