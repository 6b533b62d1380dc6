import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from domain.state import State
from ledger.migrate import Fit, current, fit, head, upgrade
from ledger.models import LANES, metadata
from ledger.session import Ledger


@pytest.fixture
def empty(database_url):
    ledger = Ledger(database_url)
    yield ledger
    ledger.dispose()


@pytest.fixture
def migrated(empty, database_url):
    upgrade(database_url)
    return empty


def shape(ledger):
    """All that the database says about its tables."""
    with ledger.read() as connection:
        asked = inspect(connection)
        return {
            table: {
                "columns": [
                    (each["name"], repr(each["type"]), each["nullable"], each["default"])
                    for each in asked.get_columns(table)
                ],
                "key": (asked.get_pk_constraint(table)["name"], asked.get_pk_constraint(table)["constrained_columns"]),
                "foreign": named(asked.get_foreign_keys(table)),
                "unique": named(asked.get_unique_constraints(table)),
                "checks": named(asked.get_check_constraints(table)),
                "indexes": named(asked.get_indexes(table)),
            }
            for table in asked.get_table_names()
            if table != "alembic_version"
        }


def named(entries):
    return {each["name"]: {key: plain(value) for key, value in each.items()} for each in entries}


def plain(value):
    return {key: str(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def run_upgrades(url, count):
    """That many processes that migrate at once; their exit statuses and what they said."""
    program = f"from ledger.migrate import upgrade; upgrade({url!r})"
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program], stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]

    return [(process.communicate(timeout=60)[1], process.returncode) for process in processes]


def test_the_migrated_schema_is_that_of_the_models(migrated):
    with migrated.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, metadata)

    assert differences == []


def test_keys_checks_and_partial_indexes_are_those_of_the_models_to_the_letter(migrated):
    made = shape(migrated)
    with migrated.write() as connection:
        for table in reversed(metadata.sorted_tables):
            table.drop(connection)
        metadata.create_all(connection)

    assert made == shape(migrated)


def test_every_constraint_of_the_models_is_in_the_database(migrated):
    made = shape(migrated)

    assert set(made) == set(metadata.tables)
    for table in metadata.tables.values():
        checks = {each.name for each in table.constraints if type(each).__name__ == "CheckConstraint"}
        assert set(made[table.name]["checks"]) == checks
        assert {index.name for index in table.indexes} <= set(made[table.name]["indexes"])


@pytest.mark.parametrize("lane", LANES)
def test_the_index_of_what_is_due_is_partial(migrated, lane):
    index = shape(migrated)["refund"]["indexes"][f"ix_refund_due_{lane}"]

    (condition,) = [text for name, text in index["dialect_options"].items() if name.endswith("_where")]
    assert index["column_names"] == ["account", "due_at"]
    assert [state for state in State if f"'{state}'" in condition] == list(LANES[lane])
    assert "due_at IS NOT NULL" in condition


def test_an_upgrade_of_an_upgraded_database_changes_nothing(migrated, database_url):
    before = shape(migrated)
    upgrade(database_url)

    assert shape(migrated) == before
    assert current(database_url) == head()


def test_processes_that_upgrade_at_once_wait_for_each_other(database_url, empty):
    results = run_upgrades(database_url, 3)

    assert results == [("", 0)] * 3
    assert fit(empty.engine) is Fit.CURRENT


def test_a_database_knows_its_revision(empty, database_url):
    assert current(database_url) is None
    assert fit(empty.engine) is Fit.BEHIND

    upgrade(database_url)

    assert current(database_url) == head()
    assert fit(empty.engine) is Fit.CURRENT


def test_a_database_that_lacks_the_newest_revision_is_behind(migrated):
    say_revision(migrated, "0001")

    assert fit(migrated.engine) is Fit.BEHIND


def test_a_database_of_a_newer_program_is_ahead_and_an_upgrade_leaves_it_as_it_is(migrated, database_url):
    say_revision(migrated, "9999")
    before = shape(migrated)
    upgrade(database_url)

    assert fit(migrated.engine) is Fit.AHEAD
    assert shape(migrated) == before
    assert current(database_url) == "9999"


def say_revision(ledger, number):
    with ledger.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{number}'")


def test_a_downgrade_leaves_no_table(migrated):
    with migrated.write() as connection:
        config = Config()
        config.set_main_option("script_location", "ledger:migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    assert shape(migrated) == {}


def test_asking_for_the_revision_of_a_file_that_is_not_there_does_not_make_it(tmp_path):
    path = tmp_path / "none.db"

    assert current(f"sqlite:///{path}") is None
    assert not path.exists()


def test_a_migration_that_fails_leaves_no_trace(empty, database_url, monkeypatch):
    monkeypatch.setattr(command, "upgrade", half_an_upgrade)
    with pytest.raises(ZeroDivisionError):
        upgrade(database_url)

    assert shape(empty) == {}


def half_an_upgrade(config, _revision):
    config.attributes["connection"].exec_driver_sql("CREATE TABLE half (no INTEGER)")
    raise ZeroDivisionError


def test_a_new_revision_can_be_written_from_the_template_of_the_package(tmp_path):
    source = files("ledger.migrations")
    assert source.joinpath("script.py.mako").is_file()
    shutil.copytree(str(source), tmp_path / "migrations")
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "migrations"))

    written = command.revision(config, message="Add a column", rev_id="9999")

    assert written.down_revision == head()
    compile(Path(written.path).read_text(), written.path, "exec")
