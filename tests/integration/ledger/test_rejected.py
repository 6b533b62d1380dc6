from ledger import rejected
from ledger.rejected import Rejection
from tests.integration.ledger.support import NOW, every


def a_rejection(number, **changes):
    values = {
        "id": f"rj_{number}",
        "at": NOW + number,
        "source": f"stream:{number}",
        "account": "shop",
        "reference": "R",
        "errors": '{"code": "validation-failed"}',
        "body": b"\x00sealed\xff",
        "size": 5,
        "body_hash": "hash",
    }

    return Rejection(**{**values, **changes})


def keep(ledger, *refused):
    ledger.run(lambda connection: rejected.keep(connection, refused))


def test_a_refused_job_is_kept_with_its_reasons(ledger):
    keep(ledger, a_rejection(1, account=None, reference=None))
    with ledger.read() as connection:
        found = rejected.get(connection, "rj_1")
        none = rejected.get(connection, "rj_none")

    assert (found["body"], found["errors"], found["account"], found["closed_at"]) == (
        b"\x00sealed\xff",
        '{"code": "validation-failed"}',
        None,
        None,
    )
    assert none is None


def test_the_same_source_again_is_the_same_dead_letter(ledger):
    keep(ledger, a_rejection(1), a_rejection(2))
    keep(ledger, a_rejection(3, source="stream:1"), a_rejection(4))

    assert sorted(row.id for row in every(ledger, rejected.rejected)) == ["rj_1", "rj_2", "rj_4"]


def test_dead_letters_are_listed_newest_first_without_their_bodies(ledger):
    keep(ledger, *(a_rejection(number) for number in (1, 2, 3)))
    ledger.run(lambda connection: rejected.close(connection, "rj_2", actor="anna", reason="done", now=NOW))
    with ledger.read() as connection:
        open_ones = rejected.listed(connection)
        all_of_them = rejected.listed(connection, open_only=False, limit=2)

    assert [each["id"] for each in open_ones] == ["rj_3", "rj_1"]
    assert [each["id"] for each in all_of_them] == ["rj_3", "rj_2"]
    assert "body" not in open_ones[0]


def test_a_person_closes_a_dead_letter_once(ledger):
    keep(ledger, a_rejection(1))

    def close(actor):
        return ledger.run(lambda connection: rejected.close(connection, "rj_1", actor=actor, reason="x" * 600, now=NOW))

    assert [close("anna"), close("bert")] == [True, False]
    (row,) = every(ledger, rejected.rejected)
    assert (row.closed_by, row.closed_at, len(row.closed_reason)) == ("anna", NOW, 512)


def test_it_is_known_how_many_wait(ledger):
    keep(ledger, a_rejection(1), a_rejection(2))
    with ledger.read() as connection:
        assert rejected.count_open(connection) == 2
