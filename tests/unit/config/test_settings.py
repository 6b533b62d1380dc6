import base64
import json
import textwrap
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from config.settings import AccountSettings, RateLimit, Settings, SettingsError, describe, load_settings

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.urlsafe_b64encode(bytes(range(1, 33))).decode()
KEYS = {"REFUNDRY_ENCRYPTION_KEYS": KEY, "REFUNDRY_INDEX_KEY": "index-key-of-the-tests"}
ACCOUNT = """
    [accounts.jp-store]
    provider = "smartpay"
    base_url = "https://api.smartpay.co/v1"
    secret_key = "sk_test_very_secret"
"""


@pytest.fixture
def write(tmp_path):
    def writer(text, name="refundry.toml"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return writer


@pytest.fixture
def faults(tmp_path):
    def loader(**environ):
        with pytest.raises(SettingsError) as caught:
            load_settings(KEYS | environ, tmp_path)
        return caught.value.faults

    return loader


def test_without_a_file_the_defaults_stand(tmp_path):
    settings = load_settings(KEYS, tmp_path)

    assert settings.database.url == "sqlite:///refundry.db"
    assert settings.redis.url is None
    assert settings.accounts == {}
    assert settings.approvals.threshold == {}
    assert settings.approvals.applies_to == ("console", "cli")
    assert settings.approvals.expires == 72 * 3600
    assert settings.celery.remote_control is False
    assert settings.celery.events is False
    assert settings.events.max_age == 86400
    assert settings.intake.batch == 500
    assert settings.logging.level == "INFO"


def test_the_file_of_the_working_directory_is_read(tmp_path, write):
    write(ACCOUNT)

    account = load_settings(KEYS, tmp_path).accounts["jp-store"]

    assert account.provider == "smartpay"
    assert account.base_url == "https://api.smartpay.co/v1"
    assert account.options == {"secret_key": "sk_test_very_secret"}
    assert account.read_timeout is None


def test_refundry_config_names_another_file(tmp_path, write):
    write("[redis]\nurl = 'redis://127.0.0.1:1/0'")
    write("[redis]\nurl = 'redis://127.0.0.1:2/0'", "other.toml")

    settings = load_settings(KEYS | {"REFUNDRY_CONFIG": "other.toml"}, tmp_path)

    assert settings.redis.url == "redis://127.0.0.1:2/0"


def test_a_named_file_must_be_there(faults):
    assert "absent.toml: cannot be read" in faults(REFUNDRY_CONFIG="absent.toml")[0]


def test_a_file_that_is_no_toml_is_one_fault(write, faults):
    write("[database\n")

    assert "refundry.toml: is not valid TOML" in faults()[0]


def test_every_key_of_an_account_has_its_type(tmp_path, write):
    write(
        """
        [accounts.eu]
        provider = "jpm_smartpay"
        base_url = "https://example.com/smartpay/"
        connect_timeout = 5
        read_timeout = "1m"
        total_timeout = 90.5
        lease = "3m"
        rate_limit = "100/s"
        concurrency = 20
        poll_schedule = [1, "5m", "1h"]
        poll_horizon = "10d"
        handle_lifetime = "24h"
        lookup_delay = 30
        max_attempts = 5
        retry_backoff = {base = 1, cap = "10m"}
        breaker = {failures = 5, window = 30, cooldown = "1m"}
        currency_exponents = {JPY = 0}
        status_map = {REFUNDED = "succeeded"}
        merchant_key = "m"
        oauth = {token_url = "https://id.example.com", client_id = "c", client_secret = "s"}
        """
    )

    account = load_settings(KEYS, tmp_path).accounts["eu"]

    assert account.base_url == "https://example.com/smartpay"
    assert (account.connect_timeout, account.read_timeout, account.total_timeout) == (5, 60, 90.5)
    assert account.rate_limit == RateLimit(100, 1.0)
    assert account.poll_schedule == (1, 300, 3600)
    assert account.retry_backoff.cap == 600
    assert account.breaker.failures == 5
    assert account.currency_exponents == {"JPY": 0}
    assert account.status_map == {"REFUNDED": "succeeded"}
    assert set(account.options) == {"merchant_key", "oauth"}


def test_the_environment_wins_over_the_file(tmp_path, write):
    write(ACCOUNT + "read_timeout = 1\n[database]\nurl = 'sqlite:///file.db'")
    environ = KEYS | {
        "REFUNDRY_DATABASE_URL": "postgresql+psycopg://user@host/db",
        "REFUNDRY_ACCOUNTS__JP_STORE__READ_TIMEOUT": "30s",
        "REFUNDRY_ACCOUNTS__JP_STORE__POLL_SCHEDULE": '[1, "5m"]',
        "REFUNDRY_ACCOUNTS__JP_STORE__BREAKER__FAILURES": "7",
        "REFUNDRY_APPROVALS__THRESHOLD__EUR": "50000",
        "REFUNDRY_CELERY__EVENTS": "true",
    }

    settings = load_settings(environ, tmp_path)

    account = settings.accounts["jp-store"]
    assert settings.database.url == "postgresql+psycopg://user@host/db"
    assert account.read_timeout == 30
    assert account.poll_schedule == (1, 300)
    assert account.breaker.failures == 7
    assert account.options["secret_key"] == "sk_test_very_secret"
    assert settings.approvals.threshold == {"EUR": 50000}
    assert settings.celery.events is True


def test_an_account_may_come_from_the_environment_alone(tmp_path):
    environ = KEYS | {
        "REFUNDRY_ACCOUNTS__EU__PROVIDER": "smart2pay",
        "REFUNDRY_ACCOUNTS__EU__SITE_ID": "33741",
    }

    account = load_settings(environ, tmp_path).accounts["eu"]

    assert account == AccountSettings(provider="smart2pay", options={"site_id": "33741"})


def test_defaults_stand_behind_file_and_environment(tmp_path, write):
    write("[redis]\nurl = 'redis://file:1/0'")
    security = {"encryption_keys": [KEY], "index_key": "made-by-the-embedded"}

    settings = load_settings({}, tmp_path, defaults={"redis": {"url": "redis://x:2/0"}, "security": security})

    assert settings.redis.url == "redis://file:1/0"
    assert settings.security.index_key.get_secret_value() == "made-by-the-embedded"


def test_encryption_keys_are_separated_by_commas(tmp_path):
    keys = load_settings(KEYS | {"REFUNDRY_ENCRYPTION_KEYS": f"{KEY}, {OTHER_KEY}"}, tmp_path).security.encryption_keys

    assert [key.get_secret_value() for key in keys] == [KEY, OTHER_KEY]


def test_missing_keys_refuse_the_start(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load_settings({}, tmp_path)

    assert caught.value.faults == [
        "security.encryption_keys: expected a value, found nothing",
        "security.index_key: expected a value, found nothing",
    ]


def test_a_key_that_is_no_fernet_key_is_refused_without_being_shown(faults):
    lines = faults(REFUNDRY_ENCRYPTION_KEYS=f"{KEY},nonsense")

    assert lines == [
        "security.encryption_keys.1: expected a Fernet key: 32 bytes in URL-safe base64, found a string",
    ]


def test_a_value_may_name_a_variable_or_a_file(tmp_path, write):
    (tmp_path / "key.pem").write_text("-----BEGIN-----\nabc\n-----END-----\n")
    write(
        """
        [accounts.glocal]
        provider = "smart_glocal"
        project = "shop-${STAGE}"
        private_key = "file:key.pem"
        oauth = {client_secret = "${SECRET}"}
        """
    )

    environ = KEYS | {"STAGE": "live", "SECRET": "a${STAGE}file:b"}
    options = load_settings(environ, tmp_path).accounts["glocal"].options

    assert options["project"] == "shop-live"
    assert options["private_key"] == "-----BEGIN-----\nabc\n-----END-----"
    assert options["oauth"] == {"client_secret": "a${STAGE}file:b"}


def test_a_secret_may_be_a_file_named_in_the_environment(tmp_path):
    Path(tmp_path, "keys").write_text(f"{KEY}\n{OTHER_KEY}\n")

    settings = load_settings(KEYS | {"REFUNDRY_ENCRYPTION_KEYS": "file:keys"}, tmp_path)

    assert len(settings.security.encryption_keys) == 2


def test_a_reference_to_nothing_is_a_fault_only_where_it_is_used(tmp_path, write, faults):
    write(ACCOUNT.replace("sk_test_very_secret", "${ABSENT}") + "read_timeout = '${NOT_THERE}'")

    lines = faults()
    settings = load_settings(
        KEYS | {"REFUNDRY_ACCOUNTS__JP_STORE__READ_TIMEOUT": "3", "REFUNDRY_ACCOUNTS__JP_STORE__SECRET_KEY": "x"},
        tmp_path,
    )

    assert len(lines) == 2
    assert any(line.startswith("accounts.jp-store.secret_key: ") and "ABSENT" in line for line in lines)
    assert any(line.startswith("accounts.jp-store.read_timeout: ") and "NOT_THERE" in line for line in lines)
    assert settings.accounts["jp-store"].options["secret_key"] == "x"


def test_all_faults_are_reported_at_once_with_full_names_and_types(write, faults):
    write(
        """
        [database]
        uri = "sqlite:///x"
        [redis]
        url = "amqp://host"
        [accounts.jp-store]
        provider = "smartpay"
        base_url = "http://api.smartpay.co/v1"
        read_timeout = true
        rate_limit = 5
        breaker = {failures = 1.5}
        [accounts.Bad]
        provider = "x"
        [approvals]
        threshold = {EUR = 500.0}
        applies_to = ["fax"]
        """
    )

    lines = faults(REFUNDRY_FOO__BAR="1", REFUNDRY_ACCOUNTS__JP_STORE__MAX_ATTEMPTS="many")

    assert {line.split(":")[0] for line in lines} == {
        "database.uri",
        "redis.url",
        "accounts.jp-store.base_url",
        "accounts.jp-store.read_timeout",
        "accounts.jp-store.rate_limit",
        "accounts.jp-store.breaker.failures",
        "accounts.jp-store.max_attempts",
        "accounts.Bad",
        "approvals.threshold.EUR",
        "approvals.applies_to.0",
        "foo",
    }
    duration = 'a duration: seconds, or text like "30s", "15m", "24h", "10d"'
    assert f"accounts.jp-store.read_timeout: expected {duration}, found a boolean" in lines
    assert "database.uri: unknown setting, found a string" in lines


@pytest.mark.parametrize(
    ("variable", "written", "fault"),
    [
        ("ACCOUNTS__A__OPTIONS", "3", "accounts.a: expected a table, found a string"),
        ("ACCOUNTS__A__POLL_SCHEDULE", "[1", "accounts.a.poll_schedule: expected a list, found a string"),
        (
            "ACCOUNTS__A__CURRENCY_EXPONENTS",
            '{"YEN!": 0}',
            "a table whose keys are ISO 4217 codes, such as EUR",
        ),
        (
            "ACCOUNTS__A__CURRENCY_EXPONENTS",
            "0",
            "accounts.a.currency_exponents: expected a table, found a string",
        ),
        (
            "ACCOUNTS__A__CURRENCY_EXPONENTS",
            '{"JPY": 5}',
            "accounts.a.currency_exponents.JPY: expected less than",
        ),
        (
            "ACCOUNTS__A__KEY",
            "file:absent.pem",
            "absent.pem, which it names, to be readable, found a reference",
        ),
        ("ACCOUNTS", "x", "accounts: expected a table, found a string"),
        ("INTAKE__BATCH", "0", "intake.batch: expected greater than or equal to 1"),
        ("CELERY__EVENTS", "perhaps", "celery.events: expected true or false"),
        ("LOGGING__LEVEL", "LOUD", "logging.level: expected 'DEBUG', 'INFO', "),
    ],
)
def test_each_kind_of_fault_is_told_in_plain_words(faults, variable, written, fault):
    environ = {"REFUNDRY_ACCOUNTS__A__PROVIDER": "x"} if "__A__" in variable else {}

    lines = faults(**environ, **{f"REFUNDRY_{variable}": written})

    assert len(lines) == 1
    assert fault in lines[0]


@pytest.mark.parametrize("table", ["accounts", "accounts.x.breaker", "database"])
def test_a_value_where_a_table_belongs_is_a_fault(write, faults, table):
    write(f"{table} = 3" if "." not in table else f"{table} = 3\naccounts.x.provider = 'y'")

    assert faults()[0].endswith("expected a table, found an integer")


def test_no_secret_stands_in_a_fault_or_in_a_representation(tmp_path, write):
    write(ACCOUNT + "read_timeout = 'hunter2'\n[redis]\nurl = 'hunter3'")

    with pytest.raises(SettingsError) as caught:
        load_settings(KEYS | {"REFUNDRY_ENCRYPTION_KEYS": "hunter1"}, tmp_path)
    write(ACCOUNT + "[database]\nurl = 'postgresql+psycopg://u:hunter4@h/d'\n[redis]\nurl = 'redis://:hunter5@h/0'")
    shown = repr(load_settings(KEYS, tmp_path))

    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "hunter" not in shown
    assert "sk_test_very_secret" not in shown
    assert KEY not in shown
    assert "index-key-of-the-tests" not in shown


@pytest.mark.parametrize("allowed", [True, False])
def test_plain_http_needs_leave_unless_it_stays_on_this_machine(tmp_path, write, faults, allowed):
    write('[accounts.a]\nprovider = "x"\nbase_url = "http://127.0.0.1:8090/smartpay/v1"')
    load_settings(KEYS, tmp_path)
    write(
        f"""
        [accounts.a]
        provider = "x"
        base_url = "http://api.example.com"
        allow_http = {json.dumps(allowed)}
        oauth = {{token_url = "http://id.example.com"}}
        """
    )

    if allowed:
        assert load_settings(KEYS, tmp_path).accounts["a"].allow_http
    else:
        assert [line.split(" (")[0] for line in faults()] == [
            "accounts.a.base_url: expected https in base_url",
            "accounts.a: expected https in oauth.token_url",
        ]


@pytest.mark.parametrize("url", ["ftp://x", "api.example.com", "https://", "https://[", "https://h:99999"])
def test_a_base_url_is_a_web_address(faults, url):
    lines = faults(REFUNDRY_ACCOUNTS__A__PROVIDER="x", REFUNDRY_ACCOUNTS__A__BASE_URL=url)

    assert lines == ["accounts.a.base_url: expected an address beginning with https://, found a string"]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://x.example/v1\n", "without blanks, line ends and backslashes"),
        ("https://x.example\\@y.example", "without blanks, line ends and backslashes"),
        ("https://x.example/?a=b", "without a query or a fragment"),
        ("https://x.example/#a", "without a query or a fragment"),
        ("https://ann:pass@x.example/@", "without a user name or a password"),
    ],
)
def test_a_base_url_that_no_request_can_be_made_of_names_the_rule(faults, url, rule):
    lines = faults(REFUNDRY_ACCOUNTS__A__PROVIDER="x", REFUNDRY_ACCOUNTS__A__BASE_URL=url)

    assert lines == [f"accounts.a.base_url: expected an address {rule}, found a string"]


def test_a_base_url_may_have_a_path_with_any_sign(tmp_path):
    url = "https://x.example:8443//a/@b"
    environ = KEYS | {"REFUNDRY_ACCOUNTS__A__PROVIDER": "x", "REFUNDRY_ACCOUNTS__A__BASE_URL": url}

    assert load_settings(environ, tmp_path).accounts["a"].base_url == url


def test_what_is_nested_too_deeply_is_named(write, faults):
    assert faults(REFUNDRY_ACCOUNTS="[" * 100_000) == ["REFUNDRY_ACCOUNTS: is nested too deeply"]
    # It can be read, but not looked through.
    deep = '{"x":' * 600 + "1" + "}" * 600
    assert faults(REFUNDRY_ACCOUNTS__A__PROVIDER="x", REFUNDRY_ACCOUNTS__A__X=deep) == [
        "the settings are nested too deeply"
    ]
    path = write("x = " + "[" * 3000 + "]" * 3000)
    assert faults() == [f"{path}: is nested too deeply"]


def test_short_postgresql_addresses_are_understood(tmp_path):
    settings = load_settings(KEYS | {"REFUNDRY_DATABASE_URL": "postgres://u:p@h/d"}, tmp_path)

    assert settings.database.url == "postgresql+psycopg://u:p@h/d"


def test_what_kubernetes_adds_for_a_service_of_our_name_is_no_setting(tmp_path):
    links = {
        "REFUNDRY_SERVICE_HOST": "10.0.0.1",
        "REFUNDRY_SERVICE_PORT": "8080",
        "REFUNDRY_SERVICE_PORT_HTTP": "8080",
        "REFUNDRY_PORT": "tcp://10.0.0.1:8080",
        "REFUNDRY_PORT_8080_TCP_ADDR": "10.0.0.1",
        "REFUNDRY_API_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    }

    assert load_settings(KEYS | links | {"REFUNDRY_ACTOR": "ann"}, tmp_path) == load_settings(KEYS, tmp_path)


def test_settings_made_directly_read_nothing_else(monkeypatch):
    monkeypatch.setenv("DATABASE", '{"url": "sqlite:///other.db"}')

    settings = Settings(security={"encryption_keys": [KEY], "index_key": "index-key-of-the-tests"})

    assert settings.database.url == "sqlite:///refundry.db"


def test_settings_are_fixed_once_read(tmp_path):
    settings = load_settings(KEYS, tmp_path)

    with pytest.raises(ValidationError):
        settings.database.url = "sqlite:///other.db"


def test_an_adapters_own_faults_are_described_in_the_same_words():
    class Own(BaseModel):
        model_config = ConfigDict(extra="forbid")
        secret_key: str

    with pytest.raises(ValidationError) as caught:
        Own.model_validate({"secretkey": 3})

    assert describe(caught.value, "accounts.jp-store") == [
        "accounts.jp-store.secret_key: expected a value, found nothing",
        "accounts.jp-store.secretkey: unknown setting, found an integer",
    ]


def test_networks_that_webhooks_may_go_to_are_networks(write, tmp_path, faults):
    write("""
    [webhooks]
    allow_networks = ["10.20.0.0/16", "fd00::/8"]
    retry_schedule = [0, "5m"]
    """)
    settings = load_settings(KEYS, tmp_path)
    assert [str(each) for each in settings.webhooks.allow_networks] == ["10.20.0.0/16", "fd00::/8"]
    assert settings.webhooks.retry_schedule == (0.0, 300.0)

    write("""
    [webhooks]
    allow_networks = ["10.20.0.1/16"]
    timeout = "10m"
    """)
    assert [fault.partition(":")[0] for fault in faults()] == ["webhooks.allow_networks.0", "webhooks.timeout"]
