from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select, text

from domain.state import State
from ledger import journal
from ledger.journal import MARGIN, Flaw, Place
from ledger.models import anchor, event
from ledger.refunds import chained
from tests.integration.ledger.plans import explain
from tests.integration.ledger.support import NOW, accepted, every, reload, sql, walk

CHANGED = "the event was changed"
ANCHORED = "the event that an anchor names is missing or another one"
HEAD = "the refund does not stand where its last event says"


def verify(ledger):
    with ledger.read() as connection:
        return journal.verify(connection)


def flaws(ledger):
    return [(each.subject, each.seq, each.what) for each in verify(ledger)[1]]


def cast(ledger, now=NOW):
    return ledger.run(lambda connection: journal.cast_anchor(connection, now))


@pytest.fixture
def refund(ledger):
    """A refund with three events."""
    return walk(ledger, accepted(ledger), State.SENDING, State.SUCCEEDED)


def test_an_untouched_journal_verifies(ledger, refund):
    cast(ledger)

    assert verify(ledger) == (3, [])


def test_an_empty_journal_verifies(ledger):
    assert verify(ledger) == (0, [])
    assert cast(ledger) == 0


@pytest.mark.parametrize(
    "change", ["data = '{}'", "actor = 'anna'", "at = at + 1", "type = 'refund.failed'", "hash = 'x'"]
)
def test_a_changed_event_is_found(ledger, refund, change):
    sql(ledger, f"UPDATE event SET {change} WHERE seq = 2")

    assert (refund.id, 2, CHANGED) in flaws(ledger)


def test_a_changed_event_whose_hash_was_made_to_fit_is_found_by_the_next(ledger, refund):
    first = every(ledger, event, event.c.seq)[0]
    fitting = chained(first.hash, refund.id, 2, "refund.sending", NOW, "anna", "{}")
    sql(ledger, "UPDATE event SET actor = 'anna', data = '{}', hash = :hash WHERE seq = 2", hash=fitting)

    assert flaws(ledger) == [(refund.id, 3, CHANGED)]


@pytest.mark.parametrize(
    ("seq", "found"), [(1, (2, "an event is missing after 0")), (2, (3, "an event is missing after 1"))]
)
def test_a_missing_event_is_found(ledger, refund, seq, found):
    sql(ledger, "DELETE FROM event WHERE seq = :seq", seq=seq)

    assert flaws(ledger) == [(refund.id, *found)]


def test_a_missing_last_event_is_found_by_the_refund(ledger, refund):
    sql(ledger, "DELETE FROM event WHERE seq = 3")

    assert flaws(ledger) == [(refund.id, 3, HEAD)]


def test_an_added_event_is_found(ledger, refund):
    fitting = chained(refund.chain, refund.id, 4, "refund.reversed", NOW, "anna", "{}")
    with ledger.write() as connection:
        connection.execute(
            insert(event).values(
                subject=refund.id, seq=4, type="refund.reversed", at=NOW, actor="anna", data="{}", hash=fitting
            )
        )

    assert flaws(ledger) == [(refund.id, 3, HEAD)]


def test_a_story_of_a_refund_that_never_was_is_found(ledger):
    with ledger.write() as connection:
        journal.append(connection, "rf_ghost", "refund.accepted", actor="anna", now=NOW, data={})

    assert flaws(ledger) == [("rf_ghost", 1, "the events of a refund that does not exist")]


def test_a_refund_that_was_removed_with_its_events_is_found_by_its_anchor(ledger, refund):
    cast(ledger)
    sql(ledger, "DELETE FROM event")
    sql(ledger, "DELETE FROM refund")

    assert flaws(ledger) == [(refund.id, 3, ANCHORED)]


def test_a_story_that_was_written_anew_from_end_to_end_is_found_by_its_anchor(ledger, refund):
    cast(ledger)
    head = ""
    for row in every(ledger, event, event.c.seq):
        head = chained(head, row.subject, row.seq, row.type, row.at, "anna", row.data)
        sql(ledger, "UPDATE event SET actor = 'anna', hash = :hash WHERE seq = :seq", hash=head, seq=row.seq)
    sql(ledger, "UPDATE refund SET chain = :chain", chain=head)

    assert flaws(ledger) == [(refund.id, 3, ANCHORED)]


def test_an_anchor_survives_later_changes(ledger):
    first = accepted(ledger)
    assert cast(ledger, NOW) == 1
    walk(ledger, first, State.SENDING, State.SUCCEEDED)
    accepted(ledger)
    assert cast(ledger, NOW + 1) == 2

    assert verify(ledger) == (4, [])


def test_an_anchor_holds_what_has_moved_and_no_more(ledger):
    first, _ = accepted(ledger), accepted(ledger)

    assert cast(ledger, NOW) == 2
    assert cast(ledger, NOW + 300) == 0
    walk(ledger, first, State.CANCELLED)
    assert cast(ledger, NOW + 300) == 1
    assert [row.no for row in every(ledger, anchor, anchor.c.no)] == [1, 2]


def test_a_commit_that_came_late_is_in_the_next_anchor(ledger):
    accepted(ledger)
    cast(ledger, NOW + MARGIN - 1)
    accepted(ledger)

    assert cast(ledger, NOW + MARGIN) == 1


@pytest.mark.parametrize("change", ["heads = '[]'", "hash = 'x'"])
def test_a_changed_anchor_is_found(ledger, refund, change):
    cast(ledger)
    sql(ledger, f"UPDATE anchor SET {change}")

    assert flaws(ledger) == [("anchor/1", 1, "the anchor was changed, or one before it is missing")]


def test_a_missing_anchor_is_found_by_the_next(ledger, refund):
    cast(ledger)
    accepted(ledger)
    cast(ledger, NOW + 1)
    sql(ledger, "DELETE FROM anchor WHERE no = 1")

    assert flaws(ledger) == [("anchor/2", 2, "the anchor was changed, or one before it is missing")]


def test_a_subject_that_is_no_refund_has_a_chain_too(ledger):
    for number in range(3):
        ledger.run(
            lambda connection, number=number: journal.append(
                connection, "account/shop", "account.paused", actor="anna", now=NOW + number, data={"no": number}
            )
        )
    assert verify(ledger) == (3, [])
    sql(ledger, "UPDATE event SET actor = 'bert' WHERE seq = 2")

    assert flaws(ledger) == [("account/shop", 2, CHANGED)]


def test_anchors_hold_every_subject(ledger):
    ledger.run(
        lambda connection: journal.append(
            connection, "user/anna", "user.created", actor="otto", now=NOW, data={"roles": ["admin"]}
        )
    )
    assert cast(ledger, NOW + 1) == 1
    sql(ledger, "DELETE FROM event WHERE subject = 'user/anna'")

    assert flaws(ledger) == [("user/anna", 1, ANCHORED)]


def test_a_story_is_told_in_order_and_the_newest_come_first(ledger, refund):
    ledger.run(
        lambda connection: journal.append(
            connection, "account/shop", "account.paused", actor="anna", now=NOW + 9, data={"reason": "Größe"}
        )
    )
    with ledger.read() as connection:
        story = journal.story(connection, refund.id)
        newest = journal.recent(connection, limit=1, now=NOW + 10)
        of_refunds = journal.recent(connection, limit=10, now=NOW + 10, subject="rf_%")
        count = journal.events_count(connection)

    assert [told["seq"] for told in story] == [1, 2, 3]
    assert (newest[0]["subject"], newest[0]["data"]) == ("account/shop", {"reason": "Größe"})
    assert {told["subject"] for told in of_refunds} == {refund.id}
    assert count == 4


def test_the_newest_are_turned_page_by_page_and_none_is_left_out(ledger):
    """As a batch writes them: many at one moment; and some long before."""
    long_ago = [NOW - days * 86_400 for days in (1, 40, 400)]
    subjects = [(f"user/{number}", at) for at in [NOW, *long_ago] for number in range(5)]
    for subject, at in sorted(subjects, key=lambda each: each[1]):
        ledger.run(lambda connection, s=subject, a=at: journal.append(connection, s, "x", actor="a", now=a, data={}))
    for limit in (1, 2, 3, 7, 50):
        for wanted in ({}, {"actor": "a"}, {"kind": "x"}, {"subject": "user/%"}):
            assert turned(ledger, limit, **wanted) == sorted(((at, name) for name, at in subjects), reverse=True)
    assert len(turned(ledger, 2, since=NOW - 2 * 86_400)) == 10
    assert turned(ledger, 2, subject="user/3") == [(at, "user/3") for at in (NOW, *long_ago)]
    assert turned(ledger, 2, subject="user/_") == []
    assert turned(ledger, 2, actor="b:1") == turned(ledger, 2, kind="refund.accepted") == []


def turned(ledger, limit, **wanted):
    """All pages, one after the other."""
    shown, before = [], None
    while True:
        with ledger.read() as connection:
            page = journal.recent(connection, limit=limit, now=NOW + 10, before=before, **wanted)
        if not page:
            return shown
        shown += [(each["at"], each["subject"]) for each in page]
        before = Place(page[-1]["at"], page[-1]["subject"], page[-1]["seq"])


def test_what_people_did_and_what_seldom_happens_is_found_by_an_index(postgres_ledger):
    ledger = postgres_ledger
    fill = (
        "INSERT INTO event SELECT 'rf_' || n, 1, 'refund.accepted', :now - n, 'key:shop', '{}', 'h' "
        "FROM generate_series(1, 50000) AS n"
    )
    with ledger.write() as connection:
        connection.execute(text(fill), {"now": NOW})
        connection.exec_driver_sql("ANALYZE event")
    for wanted in ({"actor": "oli"}, {"kind": "refund.retried"}, {"subject": "account/a_b"}, {}):
        with ledger.read() as connection:
            clauses, _ = journal._wanted(*(wanted.get(name) for name in ("subject", "actor", "kind")))
            since = 0 if wanted else NOW - 900
            query = select(event).where(*clauses, event.c.at >= since).order_by(event.c.at.desc()).limit(50)
            compiled = query.compile(ledger.engine, compile_kwargs={"literal_binds": True})
            plan = explain(connection, str(compiled).replace(":", r"\:").replace("%%", "%"), {})

        assert "Seq Scan" not in plan.kinds, f"{wanted}\n{plan}"
        assert plan.rows_read < 5000, f"{wanted}\n{plan}"


def test_what_is_told_of_one_subject_at_once_is_told_one_after_the_other(ledger):
    def tell(number):
        ledger.run(
            lambda connection: journal.append(connection, "user/anna", "x", actor="a", now=NOW, data={"number": number})
        )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(tell, range(24)))
    with ledger.read() as connection:
        told = journal.story(connection, "user/anna")

    assert [each["seq"] for each in told] == list(range(1, 25))
    assert flaws(ledger) == []


def test_a_flaw_says_where_and_what():
    assert Flaw("rf_1", 2, CHANGED) == Flaw("rf_1", 2, CHANGED)


def test_the_chain_of_a_refund_is_the_hash_of_its_last_event(ledger, refund):
    with ledger.read() as connection:
        last = connection.execute(select(event.c.hash).order_by(event.c.seq.desc())).scalar()

    assert reload(ledger, refund).chain == last
