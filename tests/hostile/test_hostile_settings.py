"""Settings of any kind: usable, or SettingsError with every fault named and no value shown."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from config.settings import Settings, SettingsError, load_settings
from config.values import plain_http_allowed
from tests.support.settings import ENCRYPTION_KEY, INDEX_KEY

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
KEYS = {"REFUNDRY_ENCRYPTION_KEYS": ENCRYPTION_KEY, "REFUNDRY_INDEX_KEY": INDEX_KEY}
SECRET = "a-value-that-nobody-may-see"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def loaded(folder: Path, environ: dict[str, str], content: str | bytes = "") -> Settings | None:
    """The settings, or None where they were refused; anything else that happens fails the test."""
    file = folder / "refundry.toml"
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    try:
        found = load_settings(environ, folder)
    except SettingsError as error:
        faults, shown = error.faults, str(error)
    else:
        assert_usable(found)
        return found
    assert faults
    assert SECRET not in shown

    return None


def assert_usable(found: Settings) -> None:
    """Nothing in them that nobody can mean."""
    for account in found.accounts.values():
        for seconds in (account.connect_timeout, account.read_timeout, account.lease, *(account.poll_schedule or ())):
            assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
        assert account.concurrency is None or account.concurrency >= 1
        assert account.rate_limit is None or account.rate_limit.count >= 1
        assert all(0 <= digits <= 4 for digits in account.currency_exponents.values())
        if account.base_url and not account.allow_http and account.base_url.lower().startswith("http:"):
            assert plain_http_allowed(account.base_url)
    assert all(type(amount) is int and amount >= 0 for amount in found.approvals.threshold.values())
    assert 1 <= found.intake.batch <= 10_000


NAMES = st.sampled_from(
    [
        "provider",
        "base_url",
        "allow_http",
        "connect_timeout",
        "read_timeout",
        "lease",
        "rate_limit",
        "concurrency",
        "poll_schedule",
        "handle_lifetime",
        "max_attempts",
        "retry_backoff",
        "breaker",
        "currency_exponents",
        "status_map",
        "options",
        "secret_key",
        "oauth",
        "",
        "__proto__",
    ]
)
WORDS = st.sampled_from(
    [
        "smartpay",
        "5s",
        "1e3s",
        "-1",
        "9" * 400,
        "100/s",
        "0/s",
        "1/0",
        "٣s",
        "NaN",
        "true",
        "[1",
        "{}",
        "[]",
        "null",
        "http://evil.example",
        "HTTP://evil.example",
        "https://x",
        "https://",
        "https://[::1",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "http://[::1]:1",
        "${ABSENT}",
        "${SECRET}",
        "file:absent",
        "file:.",
        "file:/",
        SECRET,
    ]
)
SCALARS = st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=10) | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)


def toml(value: Any) -> str:
    """A value in TOML's notation."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return "nan" if math.isnan(value) else str(value) if math.isinf(value) else repr(float(value))

    return json.dumps(value)


@EXAMPLES
@given(content=st.text() | st.binary(max_size=60))
@example(content="a = " + "[" * 300 + "]" * 300)
@example(content="[accounts.a]\nprovider = 'x'\n[accounts.a]\n")
@example(content="x = 1979-05-27T07:32:00Z")
@example(content=b"\xff\xfe")
@example(content="[intake]\nbatch = 1" + "0" * 5000)
def test_any_file_is_read_or_refused(folder, content):
    loaded(folder, KEYS, content)


@EXAMPLES
@given(
    account=st.dictionaries(NAMES, VALUES, max_size=5),
    section=st.sampled_from(["accounts.a", "approvals", "intake", "x"]),
)
def test_any_table_is_usable_or_refused_with_no_value_shown(folder, account, section):
    lines = [f"{json.dumps(name)} = {toml(value)}" for name, value in account.items()]

    loaded(folder, KEYS | {"SECRET": SECRET}, "\n".join([f"[{section}]", *lines]))


VARIABLES = st.sampled_from(
    [
        "REFUNDRY_DATABASE_URL",
        "REFUNDRY_REDIS_URL",
        "REFUNDRY_INDEX_KEY",
        "REFUNDRY_ENCRYPTION_KEYS",
        "REFUNDRY_ACCOUNTS",
        "REFUNDRY_ACCOUNTS__A",
        "REFUNDRY_ACCOUNTS__A__PROVIDER",
        "REFUNDRY_ACCOUNTS__A__READ_TIMEOUT",
        "REFUNDRY_",
        "REFUNDRY___",
        "REFUNDRY_ACCOUNTS__A__OAUTH__CLIENT_SECRET",
        "REFUNDRY_ACCOUNTS____X",
        "REFUNDRY_INTAKE__BATCH",
        "REFUNDRY_CELERY",
        "REFUNDRY_ACCOUNTS__A__POLL_SCHEDULE",
        "REFUNDRY_APPROVALS__THRESHOLD__EUR",
        "REFUNDRY_�",
        "REFUNDRY_CONFIG",
    ]
)
# The operating system carries any bytes but NUL; Python shows those that are not UTF-8 as lone surrogates.
CARRIED = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12) | st.just(
    "\udcff\udc80"
)
WRITTEN = WORDS | CARRIED | VALUES.map(lambda value: json.dumps(value)[:400])


@EXAMPLES
@given(environ=st.dictionaries(VARIABLES, WRITTEN, max_size=6))
@example(environ={"REFUNDRY_CONFIG": "."})
@example(environ={"REFUNDRY_ACCOUNTS": '{"a":{"provider":"x","options":{"a":{"b":"${ABSENT}"}}}}'})
def test_any_environment_is_usable_or_refused_with_no_value_shown(folder, environ):
    assume(SECRET not in environ.get("REFUNDRY_CONFIG", ""))  # the name of a file is shown, and is no secret
    loaded(folder, KEYS | {"SECRET": SECRET} | environ)


HOSTS = st.from_regex(r"[a-z0-9@:/\\.%\[\]#?-]{0,24}", fullmatch=True)
LOOPBACK = ("127.", "[::1]", "localhost")


@EXAMPLES
@given(scheme=st.sampled_from(["http://", "HTTP://", "hTTp://", "http:", "http:/"]), rest=HOSTS)
@example(scheme="http://", rest="127.0.0.1@evil.example")
@example(scheme="http://", rest="evil.example#@localhost")
@example(scheme="http://", rest="evil.example\\@localhost")
@example(scheme="http://", rest="localhost.evil.example")
def test_plain_http_is_taken_for_this_machine_only(folder, scheme, rest):
    written = toml({"provider": "smartpay", "base_url": scheme + rest})
    found = loaded(folder, KEYS, f"accounts.a = {written}")
    if found is not None:
        host = rest.rpartition("@")[2].lstrip("/\\")
        assert host.startswith(LOOPBACK) or ".localhost" in host, found.accounts["a"].base_url


@pytest.mark.parametrize(
    ("environ", "content"),
    [
        pytest.param({}, "x = " + "[" * 3000 + "]" * 3000, id="deep file"),
        pytest.param({"REFUNDRY_ACCOUNTS": "[" * 100_000}, "", id="deep variable"),
        pytest.param({}, "[approvals]\nexpires = 1" + "0" * 400, id="large duration"),
        pytest.param(
            {"REFUNDRY_ACCOUNTS": '{"a":{"provider":"x","lease":1' + "0" * 400 + "}}"},
            "",
            id="large lease",
        ),
    ],
)
def test_what_is_too_deep_or_too_large_is_refused_like_any_other_fault(folder, environ, content):
    assert loaded(folder, KEYS | environ, content) is None


@pytest.mark.parametrize(
    "url",
    [" http://evil.example", "https://x\n", "https://x\t.example", "https://x.example/?a", "https://x.example/#a"],
)
def test_an_address_that_no_request_can_be_made_of_is_refused(folder, url):
    assert loaded(folder, KEYS, f"accounts.a = {toml({'provider': 'smartpay', 'base_url': url})}") is None


def test_a_rate_that_cannot_be_computed_with_is_refused(folder):
    assert (
        loaded(folder, KEYS, f"accounts.a = {toml({'provider': 'smartpay', 'rate_limit': '9' * 400 + '/s'})}") is None
    )
