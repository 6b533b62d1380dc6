import ast
import time
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.redaction import MASK, SHOWN, clean, redact

ROOT = Path(__file__).parents[3]
PACKAGES = ("config", "ledger", "providers", "signals", "engine", "tasks", "worker", "api", "console", "cli")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


class State(StrEnum):
    UNKNOWN = "unknown"


@pytest.mark.parametrize(
    "key",
    [
        "secret_key",
        "client_secret",
        "password",
        "Authorization",
        "api_key",
        "private_key",
        "webhook_secret",
        "token_url",
        "iban",
        "bic",
        "email",
        "customer_email",
        "account_number",
        "bank_account",
        "sort_code",
        "card_number",
        "phone",
        "first_name",
        "holder_document",
        "address",
        "cookie",
        "signature",
    ],
)
def test_a_key_that_sounds_secret_shows_nothing(key):
    assert clean(key, "value") == MASK
    assert clean(key, 12345678) == MASK
    assert clean(key, None) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("refund_id", "rf_01HXYZ"),
        ("account", "jp-store"),
        ("provider", "smartpay"),
        ("attempt", 3),
        ("handle", "4111111111111111"),
        ("order_id", "4111111111111111"),
        ("reference", "RMA-1001"),
        ("request_id", "1234567890123456"),
        ("state", "unknown"),
        ("idempotency_key", "abc"),
        ("rate", 0.5),
        ("ok", True),
        ("url", "https://api.example.com/v1/refunds"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("timestamp", "2026-11-21T23:28:24.123456Z"),
    ],
)
def test_what_a_reader_needs_is_shown(key, value):
    assert clean(key, value) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("write to ann.b+x@example.co.uk now", f"write to {MASK} now"),
        ("to DE89370400440532013000.", f"to {MASK}."),
        ("to GB82 WEST 1234 5698 7654 32", f"to {MASK}"),
        ("card 4111 1111 1111 1111", f"card {MASK}"),
        ("card 4111-1111-1111-1111!", f"card {MASK}!"),
        ("Authorization: Bearer sk_live_abcdefgh", f"Authorization: Bearer {MASK}"),
        ("redis://user:hunter2@host:6379/0", f"redis://user:{MASK}@host:6379/0"),
        ("redis://:hunter2@host", f"redis://:{MASK}@host"),
    ],
)
def test_secrets_inside_a_sentence_are_masked(text, shown):
    assert clean("event", text) == shown


@pytest.mark.parametrize("text", ["4111111111111112", "DE00370400440532013000", "2026-11-21 23:28:24", "12345"])
def test_numbers_that_only_look_like_it_stay(text):
    assert clean("event", text) == text


@given(
    st.text(),
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)
def test_a_whole_document_is_never_shown(key, value):
    shown = clean(f"x_{key}", value)

    assert isinstance(shown, str | int)


def test_an_allowed_table_is_shown_with_its_secrets_masked():
    shown = clean("counts", {"pending": 3, "by": {"email": "x", "smartpay": [1, 2]}, "secret": {"a": 1}})

    assert shown == {"pending": 3, "by": {"email": MASK, "smartpay": [1, 2]}, "secret": MASK}


@pytest.mark.parametrize("key", ["customer", "shopper", "body", "description", "args", "anything"])
def test_words_under_a_key_that_nobody_allowed_are_not_shown(key):
    assert clean(key, "John Smith") == "[str]"
    assert clean(key, date(1984, 5, 6)) == "[date]"
    assert clean(key, ValueError("John Smith")) == "[ValueError]"
    assert clean(key, 7) == 7


def test_every_key_that_our_log_lines_use_is_allowed_or_carries_numbers():
    counts = {
        *("accepted", "deliveries", "entries", "fresh", "heads", "ms", "refunds", "rejected", "rejected_jobs"),
        *("waiting", "within_seconds", "working_on", "exc_info", "attempt", "values", "seconds", "answers"),
    }
    used = {name for folder in PACKAGES for path in (ROOT / folder).rglob("*.py") for name in log_keys(path)}

    assert used
    assert used - counts <= SHOWN


def log_keys(path):
    """The names under which a module's log lines say something."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)) if level in LEVELS:
                yield from (keyword.arg for keyword in node.keywords if keyword.arg)


def test_a_long_value_is_cut_unless_its_key_may_be_long():
    assert clean("note", "x" * 1000) == "x" * 256 + "… (1000 characters)"
    assert clean("exception", "x" * 1000) == "x" * 1000


def test_simple_values_become_text_and_objects_only_their_type():
    assert clean("state", State.UNKNOWN) == "unknown"
    assert clean("id", UUID(int=1)) == str(UUID(int=1))
    assert clean("at", datetime(2026, 11, 21, tzinfo=UTC)) == "2026-11-21 00:00:00+00:00"
    assert clean("path", Path("a/b")) == "a/b"
    assert clean("error", ValueError("for ann@example.com")) == f"for {MASK}"
    assert clean("job", object()) == "[object]"
    assert clean("body", b"secret") == "[bytes]"


def test_every_key_of_a_line_stays():
    line = redact(None, "info", {"event": "x", "email": "a@b.example", "customer": {"email": "x"}})

    assert line == {"event": "x", "email": MASK, "customer": "[dict]"}


@pytest.mark.parametrize("text", ["a" * 16_000, "a.b-" * 4000, "a@" * 8000, "a@b." + "-" * 16_000, "://" * 5000])
def test_a_long_text_takes_no_more_than_its_length(text):
    began = time.process_time()
    for _ in range(10):
        clean("event", text)

    # The square of the length took more than ten seconds.
    assert time.process_time() - began < 2


def test_an_address_is_masked_wherever_it_begins():
    assert clean("event", "to <anna.b+c@shop.example>, not (x@y.example)") == f"to <{MASK}>, not ({MASK})"
