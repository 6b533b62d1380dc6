"""What a migration may do while programs of the release before it go on working.

Every one after the first only adds: what older programs read stays, what they write is taken. One that takes away says
so in a constant, `contract`: the oldest release that may still run beside it. The rules for people: docs/upgrades.md.
"""

import io
import re
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from ledger.migrate import head

#: What no rule can know, with the reason why programs before it are not disturbed.
EXPLAINED = {
    ("0015", "ALTER INDEX ix_event_at SET (autosummarize"): "it only says when the index is kept up",
    (
        "0006",
        "ALTER TABLE approval ADD CONSTRAINT ck_approval_one_subject",
    ): "they always name a refund, and no difference",
}
NEW_COLUMN = re.compile(r"ALTER TABLE (?P<table>\w+) ADD COLUMN (?P<column>\w+) (?P<rest>.*)", re.DOTALL)
INDEX = re.compile(
    r"CREATE (?P<unique>UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+) ON (?P<table>\w+)(?: USING \w+)? \((?P<columns>[^)]*)\)"
)


def scripts():
    config = Config()
    config.set_main_option("script_location", "ledger:migrations")
    return [each.module for each in reversed(list(ScriptDirectory.from_config(config).walk_revisions()))]


def statements(migration):
    """What it says to PostgreSQL."""
    out = io.StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": out})
    with Operations.context(context):
        migration.upgrade()
    return [" ".join(each.split()) for each in out.getvalue().split(";") if each.strip()]


def takes_away(migration):
    """The statements that programs of the release before could stumble over."""
    made, added = set(), set()
    return [each for each in statements(migration) if not only_adds(migration.revision, each, made, added)]


def only_adds(revision, statement, made, added):
    """`made`: tables, `added`: columns that are new with this migration; both grow."""
    if found := re.match(r"CREATE TABLE (\w+)", statement):
        made.add(found[1])
        return True
    if found := NEW_COLUMN.match(statement):
        added.add((found["table"], found["column"]))
        return "NOT NULL" not in found["rest"] or "DEFAULT" in found["rest"]
    if found := INDEX.match(statement):
        new = {(found["table"], column) for column in found["columns"].split(", ")} <= added
        return not found["unique"] or found["table"] in made or new
    if any(revision == where and statement.startswith(what) for where, what in EXPLAINED):
        return True
    return re.fullmatch(r"ALTER TABLE \w+ ALTER COLUMN \w+ DROP NOT NULL", statement) is not None


@pytest.mark.parametrize("migration", scripts()[1:], ids=lambda each: each.revision)
def test_a_migration_only_adds_or_says_that_it_takes_away(migration):
    assert takes_away(migration) == [] or re.fullmatch(r"\d+\.\d+\.\d+", getattr(migration, "contract", ""))


def test_there_is_one_line_of_migrations_and_its_numbers_count_up():
    numbers = [each.revision for each in scripts()]

    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    assert numbers[-1] == head()


@pytest.mark.parametrize(
    "act",
    [
        lambda op: op.drop_column("refund", "traceparent"),
        lambda op: op.drop_table("note"),
        lambda op: op.alter_column("refund", "handle", new_column_name="key"),
        lambda op: op.rename_table("refund", "refunds"),
        lambda op: op.alter_column("refund", "currency", nullable=False),
        lambda op: op.alter_column("refund", "amount", type_=sa.Integer()),
        lambda op: op.add_column("refund", sa.Column("must", sa.Integer(), nullable=False)),
        lambda op: op.create_check_constraint("ck_refund_small", "refund", "amount < 10"),
        lambda op: op.create_index("uq_refund_order", "refund", ["order_id"], unique=True),
        lambda op: op.drop_index("ix_refund_handle", "refund"),
        lambda op: op.execute("UPDATE refund SET state = 'queued'"),
    ],
)
def test_what_takes_away_is_noticed(act):
    migration = SimpleNamespace(revision="9999", upgrade=lambda: act(__import__("alembic.op").op))

    assert len(takes_away(migration)) == 1


def test_what_is_added_is_let_through():
    def upgrade():
        from alembic import op

        op.add_column("refund", sa.Column("may", sa.Integer()))
        op.add_column("refund", sa.Column("zero", sa.Integer(), nullable=False, server_default=sa.text("0")))
        op.create_index("uq_refund_may", "refund", ["may"], unique=True)
        op.create_index("ix_refund_zero", "refund", ["zero", "state"])

    assert takes_away(SimpleNamespace(revision="9999", upgrade=upgrade)) == []
