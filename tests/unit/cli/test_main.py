import json

import pytest

from tests.unit.cli.conftest import SETTINGS


def test_the_version_is_told(refundry):
    told = refundry("--version")

    assert told.status == 0
    assert told.out.startswith("refundry ")


def test_help_lists_the_commands_that_there_are(refundry):
    told = refundry("--help")

    assert told.status == 0
    for name in ("demo", "up", "worker", "submit", "refunds", "dead", "approvals", "doctor"):
        assert f"  {name}" in told.out


@pytest.mark.parametrize("arguments", [(), ("refunds",), ("dead",), ("db",)])
def test_without_a_command_help_is_shown_and_the_usage_is_wrong(refundry, arguments):
    told = refundry(*arguments)

    assert told.status == 2
    assert "Commands:" in told.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("refunds", "list", "--limit", "many"),
        ("refunds", "list", "-o", "xml"),
        ("refunds", "list", "--state", "lost"),
        ("refunds", "list", "--since", "yesterday"),
        ("refunds", "show"),
        ("accounts", "breaker", "ajar", "shop", "--reason", "x"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(refundry, home, arguments):
    told = refundry(*arguments)

    assert told.status == 2
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("refundry: ")


def test_every_fault_of_the_settings_is_a_line(refundry, folder):
    (folder / "refundry.toml").write_text('[redis]\nurl = "http://x"\n[accounts.a]\n')

    told = refundry("refunds", "list")

    assert told.status == 2
    assert {line.split(":")[1].strip() for line in told.err.splitlines()} == {
        "redis.url",
        "accounts.a.provider",
        "security.encryption_keys",
        "security.index_key",
    }


def test_what_an_adapter_misses_in_its_account_is_a_line_too(refundry, home):
    (home / "refundry.toml").write_text(SETTINGS.replace('terminal_id = "ABC123"\n', ""))

    told = refundry("refunds", "list")

    assert told.status == 2
    assert "accounts.shop.terminal_id" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize("option", [("-o", "json"), ("-ojson",), ("--output", "json"), ("--output=json",)])
def test_with_json_a_problem_is_a_problem_document(refundry, folder, option):
    told = refundry("refunds", "list", *option)

    assert told.status == 2
    problem = told.problem()
    assert set(problem) == {"type", "title", "status", "detail", "code", "errors", "retryable"}
    assert problem["code"] == "settings-invalid"
    assert {"pointer", "detail"} == set(problem["errors"][0])


def test_without_a_redis_the_user_is_told_what_to_do(refundry, home):
    (home / "refundry.toml").write_text(SETTINGS.replace('url = "redis://127.0.0.1:1/0"', ""))

    told = refundry("refunds", "list")

    assert told.status == 2
    assert "REFUNDRY_REDIS_URL" in told.err
    assert "refundry up" in told.err


def test_without_a_schema_the_user_is_told_what_to_do(refundry, home):
    (home / "ledger.db").unlink()

    told = refundry("refunds", "list")

    assert told.status == 2
    assert "refundry db upgrade" in told.err
    assert not (home / "ledger.db").exists()


def test_an_unreachable_database_has_a_status_of_its_own(refundry, home, monkeypatch):
    monkeypatch.setenv("REFUNDRY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    told = refundry("refunds", "list", "-o", "json")

    assert told.status == 6
    assert told.problem()["code"] == "database-unreachable"


def test_an_unreachable_redis_has_a_status_of_its_own(refundry, home):
    told = refundry("queues", "list")

    assert told.status == 6
    assert len(told.err.splitlines()) == 1


def test_the_keys_of_a_folder_where_everything_ran_are_found_again(refundry, home):
    keys = SETTINGS[SETTINGS.index("[security]") : SETTINGS.index("[accounts.shop]")]
    (home / "refundry.toml").write_text(SETTINGS.replace(keys, ""))
    (home / ".refundry").mkdir()
    values = dict(line.split(" = ") for line in keys.splitlines()[1:])
    (home / ".refundry" / "keys.json").write_text(json.dumps({k: json.loads(v) for k, v in values.items()}))

    assert refundry("refunds", "list").status == 0
