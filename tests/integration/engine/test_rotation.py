"""Encryption keys are renewed beside the running system, on both databases."""

from dataclasses import replace

import msgspec
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import update

from domain.errors import ConfigurationError, Forbidden
from engine import rotation
from engine.health import Grade, _keys
from engine.people import Actor, Role
from engine.submit import submit
from ledger import journal, models, sealed
from ledger.sealed import COLUMNS, name_of
from ledger.vault import Vault
from tests.support.sealed_rows import everything, fill
from tests.unit.engine.support import USD, an_engine

ADA = Actor("ada", frozenset({Role.ADMIN}))
OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
INDEX = "an index key of a test"
SUBJECTS = 3


class KilledError(Exception):
    """The process ends here."""


def unheard(*_):
    pass


def with_keys(engine, *keys):
    return replace(engine, vault=Vault(keys, INDEX))


@pytest.fixture(params=["sqlite", "postgresql"])
def before(request, tmp_path):
    """An engine with the old key, and a value of it in every sealed column."""
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        database = postgres.create()
    else:
        database = tmp_path / "ledger.db"
    made = with_keys(an_engine(database, lambda *_: None), OLD)
    for no in range(1, SUBJECTS + 1):
        assert submit(made, job(no), actor="test", via="test").problem is None
    fill(made, *range(1, SUBJECTS + 1))
    yield made
    made.close()
    if request.param == "postgresql":
        postgres.drop(database)


@pytest.fixture
def engine(before):
    """The same after its settings have been changed: the new key first."""
    return with_keys(before, NEW, OLD)


@pytest.fixture
def in_batches_of_one(monkeypatch):
    monkeypatch.setattr(sealed, "MOST", 1)


def job(no):
    return {**USD, "reference": f"R-{no}", "customer": {"email": f"john{no}@example.com"}}


def left(found):
    return {each.column: each.older for each in found if each.older}


def test_every_column_of_bytes_is_sealed_and_has_a_value_in_these_tests(before):
    assert {name_of(column) for column in COLUMNS} == set(everything(before))
    assert all(len(values) == SUBJECTS for values in everything(before).values())


@pytest.mark.usefixtures("in_batches_of_one")
def test_after_it_the_new_key_alone_opens_everything_and_the_content_is_the_same(before, engine):
    contents = {column: list(map(before.vault.open, values)) for column, values in everything(before).items()}
    heard = []
    found = rotation.rotate(engine, ADA, lambda column, values: heard.append((column, values)))
    new = Vault([NEW], INDEX)

    assert left(found) == {}
    assert {column: list(map(new.open, values)) for column, values in everything(engine).items()} == contents
    assert len(heard) == 2 * SUBJECTS * len(COLUMNS)
    assert rotation.expected(engine) == SUBJECTS * len(COLUMNS)


def test_a_dry_run_counts_by_column_and_changes_nothing(engine):
    values = everything(engine)
    found = rotation.survey(engine, ADA, unheard)

    assert left(found) == {name_of(column): SUBJECTS for column in COLUMNS}
    assert everything(engine) == values
    assert rotation.standing(engine).done_at is None


@pytest.mark.usefixtures("in_batches_of_one")
@pytest.mark.parametrize("after", range(1, 3 * 8, 5))
def test_killed_anywhere_it_goes_on_where_it_was(engine, after):
    count = 0

    def kill(*_):
        nonlocal count
        count += 1
        if count == after:
            raise KilledError

    with pytest.raises(KilledError):
        rotation.rotate(engine, ADA, kill)
    done = sum(engine.vault.is_fresh(value) for values in everything(engine).values() for value in values)
    resealed = []
    rotation.rotate(engine, ADA, lambda column, _: resealed.append(column))

    assert done == after
    assert len(resealed) == 2 * SUBJECTS * len(COLUMNS) - after
    assert left(rotation.survey(engine, ADA, unheard)) == {}


def test_another_key_begins_from_the_start(engine):
    rotation.rotate(engine, ADA, unheard)
    newest = Fernet.generate_key().decode()
    again = with_keys(engine, newest, NEW)

    assert left(rotation.rotate(again, ADA, unheard)) == {}
    assert all(map(Vault([newest], INDEX).is_fresh, everything(again)["refund.personal"]))


def test_a_value_that_changes_while_it_is_sealed_anew_stays_as_it_was_changed(engine, monkeypatch):
    """A worker, an operator or an erasure was quicker: the old ciphertext is not there any more."""
    theirs = engine.vault.seal(b"theirs")
    rotate = engine.vault.rotate

    def overtaken(value):
        with engine.ledger.write() as connection:
            connection.execute(update(models.refund).values(personal=None))
            connection.execute(update(models.webhook_endpoint).values(secrets=theirs))
        return rotate(value)

    monkeypatch.setattr(engine.vault, "rotate", overtaken)
    rotation.rotate(engine, ADA, unheard)
    values = everything(engine)

    assert values["refund.personal"] == []
    assert set(values["webhook_endpoint.secrets"]) == {theirs}


def test_nothing_else_of_a_row_is_written(engine):
    def others():
        with engine.ledger.read() as connection:
            return [
                row
                for table in {column.table for column in COLUMNS}
                for row in connection.execute(
                    table.select().with_only_columns(*(column for column in table.c if column not in COLUMNS))
                )
            ]

    rows = others()
    rotation.rotate(engine, ADA, unheard)

    assert sorted(map(repr, others())) == sorted(map(repr, rows))


@pytest.mark.usefixtures("in_batches_of_one")
def test_a_value_that_no_key_opens_is_counted_and_stops_nothing(engine):
    with engine.ledger.write() as connection:
        spoilt = update(models.rejected).where(models.rejected.c.id == "rj_2").values(body=b"\x01spoilt")
        connection.execute(spoilt)
    found = {each.column: each for each in rotation.rotate(engine, ADA, unheard)}

    assert (found["rejected.body"].unreadable, found["rejected.body"].older) == (1, 0)
    assert sum(each.older for each in found.values()) == 0


def test_what_was_erased_is_no_value(engine):
    with engine.ledger.write() as connection:
        connection.execute(update(models.attempt).values(body=b"", answer=None))
    found = {each.column: each.values for each in rotation.rotate(engine, ADA, unheard)}

    assert (found["attempt.body"], found["attempt.answer"]) == (0, 0)


def test_a_batch_is_bounded_in_bytes(engine, monkeypatch):
    monkeypatch.setattr(sealed, "MOST_BYTES", 50)
    sizes = []
    rotation.survey(engine, ADA, lambda _, values: sizes.append(values))

    assert set(sizes) == {1}
    assert len(sizes) == SUBJECTS * len(COLUMNS)


def test_search_hashes_stay_as_they_are(before, engine):
    rotation.rotate(engine, ADA, unheard)

    assert engine.vault.index("email", "John1@example.com") == before.vault.index("email", "john1@example.com")


def test_only_an_admin_may_and_it_is_on_record(engine):
    for work in (rotation.rotate, rotation.survey):
        with pytest.raises(Forbidden):
            work(engine, Actor("oli", frozenset({Role.OPERATOR})), unheard)
    rotation.rotate(engine, ADA, unheard)
    with engine.ledger.read() as connection:
        (told,) = journal.story(connection, rotation.SUBJECT)

    assert (told["type"], told["actor"]) == ("encryption.rotated", "ada")
    assert told["data"] == {"key": engine.vault.key_name, "values": SUBJECTS * len(COLUMNS)}
    assert NEW not in msgspec.json.encode(told).decode()


class TestDoctor:
    def says(self, engine):
        (finding,) = _keys(engine)
        return finding.grade, finding.says

    def test_one_key_is_fine(self, before):
        assert self.says(before)[0] is Grade.FINE

    def test_older_keys_are_needed_until_all_is_rotated(self, engine):
        assert self.says(engine) == (
            Grade.ATTENTION,
            "older ones may still be needed: run `refundry keys rotate-encryption`",
        )
        rotation.rotate(engine, ADA, unheard)
        assert self.says(engine) == (Grade.FINE, "the first has sealed everything: the others can be removed")

    def test_who_seals_with_an_older_key_still_is_noticed(self, before, engine):
        rotation.rotate(engine, ADA, unheard)
        submit(before, job(9), actor="test", via="test")

        assert self.says(engine)[0] is Grade.ATTENTION
        assert "restart every process" in self.says(engine)[1]

    def test_a_key_that_was_removed_too_early_is_unhealthy(self, engine):
        assert self.says(with_keys(engine, NEW))[0] is Grade.UNHEALTHY


def test_a_key_has_a_name_that_tells_nothing_of_it():
    assert Vault([OLD], INDEX).key_name == Vault([OLD, NEW], "another").key_name != Vault([NEW], INDEX).key_name
    assert len(Vault([OLD], INDEX).key_name) == 16
    with pytest.raises(ConfigurationError):
        Vault([NEW], INDEX).open(Vault([OLD], INDEX).seal(b"x"))
