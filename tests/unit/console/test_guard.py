import hashlib
import re

import pytest
from starlette.datastructures import Headers

from console.guard import HEADERS, is_loopback, is_token, make_token, same_origin
from console.pages import HERE, LOOKS, capped, money
from domain.state import State

VENDOR = HERE / "static" / "vendor"


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, True),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://here:1", "host": "here:1"}, False),
        ({"origin": "http://here:1", "host": "here:1"}, True),
        ({"origin": "http://here:2", "host": "here:1"}, False),
        ({"origin": "null", "host": "here:1"}, False),
        ({"host": "here:1"}, False),
    ],
)
def test_only_our_own_pages_may_act(headers, ours):
    assert same_origin(Headers(headers)) is ours


def test_a_token_belongs_to_its_session_and_never_looks_the_same():
    first, second = make_token("session"), make_token("session")

    assert first != second
    assert is_token("session", first)
    assert is_token("session", second)
    assert not is_token("another", first)
    assert not is_token("session", first[:-1] + "g")
    assert not is_token("session", "")
    assert not is_token("session", "ü" * 96)


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere():
    policy = HEADERS["Content-Security-Policy"]

    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_this_machine(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "0.0.0.0", "", None, "testserver", "127.0.0.1.example"])
def test_any_other_machine(address):
    assert not is_loopback(address)


def test_what_is_vendored_is_what_was_pinned_and_has_its_licence():
    for line in (VENDOR / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
        assert (VENDOR / f"{name.split('-')[0]}-LICENSE.txt").exists()


@pytest.mark.parametrize("path", sorted((HERE / "templates").iterdir()), ids=lambda path: path.name)
def test_no_template_asks_for_what_the_policy_forbids(path):
    content = path.read_text()

    assert not re.search(r"\sstyle=|\son[a-z]+=|hx-on|hx-vals|javascript:|<script>|\|\s*safe|//cdn", content)


def test_our_own_script_stays_small_and_evaluates_nothing():
    script = (HERE / "static" / "app.js").read_text()

    assert len(script.splitlines()) <= 250
    assert not re.search(r"innerHTML|eval\(|new Function|document\.write", script)


def test_every_state_has_a_look():
    assert set(LOOKS) == set(State)


def test_money_is_exact_and_counts_are_capped():
    assert money(1250, "EUR") == "12.50 EUR"
    assert money(10**15, "KWD") == "1000000000000.000 KWD"
    assert money(None, None) == "all that is left"
    assert (capped(10_000), capped(10_001)) == ("10 000", "10 000+")
