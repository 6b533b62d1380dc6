"""Personal data goes when its time is over or somebody asks, on both databases; the ledger stays and verifies."""

from dataclasses import replace

import msgspec
import pytest
from sqlalchemy import insert, select, update

from domain.errors import Forbidden, Refused
from domain.refund import moved
from domain.state import State
from engine import erasure, rotation
from engine.inbox import take_one
from engine.people import Actor, Role
from engine.submit import submit
from engine.view import find, refund_view
from ledger import erasure as rows
from ledger import journal, models, queries, refunds
from ledger.refunds import AttemptEnd, AttemptStart, Change
from ledger.rejected import close
from tests.unit.engine.support import NOW, USD, an_engine

ADA = Actor("ada", frozenset({Role.ADMIN}))
DAY = 86_400.0
KEEP = 30 * DAY
EMAIL, IBAN = "john@example.com", "DE89370400440532013000"
FINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def unheard(_count):
    pass


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        database = postgres.create()
    else:
        database = tmp_path / "ledger.db"
    made = an_engine(database, lambda *_: None, retention={"personal": KEEP})
    yield made
    made.close()
    if request.param == "postgresql":
        postgres.drop(database)


def later(engine, days):
    return replace(engine, clock=lambda: NOW + days * DAY)


def job(no, **more):
    return {
        **USD,
        "reference": f"R-{no}",
        "payment": {"id": f"PAY{no:05d}", "order_id": f"ORD{no:05d}"},
        "description": "for John Smith",
        "metadata": {"who": "John Smith"},
        "items": [{"id": "1231"}],
        "customer": {"email": EMAIL, "first_name": "John", "last_name": "Smith", "reference": "lucky"},
        "bank_account": {"iban": IBAN},
        **more,
    }


def accepted(engine, no=1, **more):
    receipt = submit(engine, job(no, **more), actor="test", via="test")
    assert receipt.refund is not None, receipt.problem
    with engine.ledger.read() as connection:
        return refunds.get(connection, receipt.refund.id)


def apply(engine, change):
    (stands,) = engine.ledger.run(lambda connection: refunds.apply(connection, [change]))
    assert stands is not None
    return stands


def walked(engine, refund, *states):
    """The refund after these states, with an attempt, its answer, a webhook's and somebody's evidence."""
    now = engine.clock()
    for state in states:
        after = moved(refund, state, now, due_at=None if state in FINAL else now)
        change = Change(before=refund, after=after, type=f"refund.{state}", actor="w", fenced=False)
        if state is State.SENDING:
            change = msgspec.structs.replace(change, start=start(engine))
        if state is states[-1] and State.SENDING in states:
            end = AttemptEnd(no=1, ended_at=now, outcome="succeeded", answer=engine.vault.seal(b"an answer"))
            change = msgspec.structs.replace(change, end=end)
        refund = apply(engine, change)

    return refund


def start(engine):
    return AttemptStart(
        no=1,
        handle="h",
        method="POST",
        url="https://provider.example",
        headers="[]",
        body=engine.vault.seal(IBAN.encode()),
        body_hash="0" * 64,
        fingerprint="f",
        seen=None,
        replay_until=None,
        started_at=engine.clock(),
        worker="w",
    )


def paid(engine, no=1, **more):
    return walked(engine, accepted(engine, no, **more), State.SENDING, State.SUCCEEDED)


def surroundings(engine, refund):
    """What else is kept about a refund."""
    sealed = engine.vault.seal(EMAIL.encode())
    delivery = f"wd_{refund.id[-20:]}"
    values = {
        models.webhook_endpoint: {
            "id": "we_1",
            "url": "https://shop.example",
            "types": "[]",
            "accounts": "[]",
            "secrets": engine.vault.seal(b"whsec_secret"),
            "created_by": "ada",
            "created_at": NOW,
            "changed_by": "ada",
            "changed_at": NOW,
        },
        models.webhook_delivery: {
            "id": delivery,
            "endpoint": "we_1",
            "refund_id": refund.id,
            "version": 1,
            "type": "refund.succeeded",
            "payload": "{}",
            "created_at": NOW,
            "due_at": NOW,
            "touched_at": NOW,
        },
        models.webhook_attempt: {"delivery": delivery, "at": NOW, "ms": 1, "answer": sealed},
        models.approval: asked(refund, status="expired", evidence=sealed),
        models.notification: {
            "id": "nt_1",
            "account": "us",
            "key": "1",
            "kind": "refund",
            "verified": True,
            "body": sealed,
            "size": 1,
            "body_hash": "0" * 64,
            "state": "done",
            "refunds": msgspec.json.encode([refund.id]).decode(),
            "received_at": NOW,
            "last_at": NOW,
        },
    }
    with engine.ledger.write() as connection:
        for table, row in values.items():
            connection.execute(insert(table).values(row))


def asked(refund, **more):
    return {
        "id": f"ap_{refund.id[-20:]}",
        "refund_id": refund.id,
        "kind": "settle",
        "rule": "r",
        "params": "{}",
        "snapshot": "{}",
        "reason": "r",
        "requested_by": "ada",
        "requested_at": NOW,
        "expires_at": NOW,
        **more,
    }


def difference(engine, refund, state="open"):
    run = {
        "id": "rr_1",
        "account": "us",
        "source": "status",
        "phase": "ask",
        "bookmark": "",
        "started_by": "x",
        "started_at": NOW,
        "state": "complete",
    }
    found = {
        "id": "df_1",
        "identity": "i",
        "account": "us",
        "kind": "late",
        "state": state,
        "closed_by": "ada" if state == "closed" else None,
        "run_id": "rr_1",
        "last_run_id": "rr_1",
        "refund_id": refund.id,
        "ours": "{}",
        "theirs": "{}",
        "found_at": NOW,
        "seen_at": NOW,
    }
    with engine.ledger.write() as connection:
        connection.execute(insert(models.recon_run).values(run))
        connection.execute(insert(models.recon_difference).values(found))


def stored(engine):
    """Every stored value, opened where it is sealed."""
    found = []
    with engine.ledger.read() as connection:
        for table in models.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                found += [opened(engine, value) for value in row]
    return "\n".join(found)


def opened(engine, value):
    return engine.vault.open(value).decode() if isinstance(value, bytes) and value else str(value)


def erased(engine):
    with engine.ledger.read() as connection:
        rows = connection.execute(select(models.refund.c.reference).where(models.refund.c.erased_at.is_not(None)))
        return set(rows.scalars())


def verified(engine):
    with engine.ledger.read() as connection:
        assert journal.verify(connection)[1] == []
        assert queries.balances(connection) == []


def test_all_that_is_personal_goes_and_the_ledger_stays(engine):
    refund = paid(engine)
    surroundings(engine, refund)
    assert all(each in stored(engine) for each in (EMAIL, IBAN, "John Smith", "lucky"))

    done = erasure.erase(later(engine, 1), ADA, EMAIL, reason="they asked")
    kept = stored(engine)
    (view,) = [refund_view(engine, each) for each in find(engine, "R-1")]

    assert (done.refunds, done.kept) == (1, {})
    assert not [each for each in (EMAIL, IBAN, "John", "Smith", "lucky", "an answer") if each in kept]
    assert (view["state"], view["amount"], view["payment"]["id"]) == ("succeeded", 2500, "PAY00001")
    assert (view["customer"], view["description"], view["metadata"]) == (None, None, {})
    assert find(engine, EMAIL) == []
    assert not any(
        engine.vault.index(*term) in kept for term in (("email", EMAIL), ("name", "smith"), ("customer", "lucky"))
    )
    verified(engine)


def test_who_asked_when_and_why_is_on_record_and_the_customer_is_not(engine):
    refund = paid(engine)
    erasure.erase(engine_at := later(engine, 1), ADA, EMAIL, reason="they asked")
    with engine.ledger.read() as connection:
        (told,) = journal.recent(connection, limit=10, now=engine_at.clock(), subject="erasure/%")

    assert (told["type"], told["actor"], told["at"]) == ("customer.erased", "ada", engine_at.clock())
    assert told["data"] == {"reason": "they asked", "refunds": [refund.id], "rejected_jobs": []}


def test_the_same_job_again_is_still_the_same_refund(engine):
    refund = paid(engine)
    erasure.erase(later(engine, 1), ADA, "lucky", reason="they asked")
    again = submit(later(engine, 2), job(1), actor="test", via="test")
    other = submit(later(engine, 2), job(1, amount=1), actor="test", via="test")

    assert again.replayed
    assert again.refund.id == refund.id
    assert other.problem.code == "reference-conflict"


def test_what_is_open_stays_and_goes_when_it_is_final(engine):
    paid(engine, 1)
    waiting = accepted(engine, 2)
    reviewed = walked(engine, accepted(engine, 3), State.SENDING, State.REVIEW)
    turned = walked(engine, paid(engine, 4), State.REVERSED)
    asked_about = paid(engine, 5)
    differing = paid(engine, 6)
    with engine.ledger.write() as connection:
        connection.execute(insert(models.approval).values(asked(asked_about, status="open")))
    difference(engine, differing)

    done = erasure.erase(later(engine, 1), ADA, EMAIL, reason="they asked")
    again = erasure.erase(later(engine, 1), ADA, EMAIL, reason="they asked")
    walked(engine, waiting, State.CANCELLED)
    last = erasure.erase(later(engine, 2), ADA, EMAIL, reason="they asked")

    assert done.refunds == 1
    assert done.kept == {
        waiting.id: "it is queued",
        reviewed.id: "it is review",
        turned.id: "it is reversed",
        asked_about.id: "a request for approval is open",
        differing.id: "a difference of reconciliation is open",
    }
    assert (again.refunds, again.kept) == (0, done.kept)
    assert (last.refunds, len(last.kept)) == (1, 4)
    assert erased(engine) == {"R-1", "R-2"}
    verified(engine)


def test_other_customers_keep_their_data(engine):
    paid(engine, 1)
    other = paid(engine, 2, customer={"email": "mary@example.com"})
    erasure.erase(later(engine, 1), ADA, EMAIL, reason="they asked")

    assert [each.id for each in find(engine, "mary@example.com")] == [other.id]
    assert IBAN in stored(engine)


@pytest.mark.parametrize("closed", [True, False])
def test_rejected_jobs_of_the_customer_go_once_they_are_closed(engine, closed):
    assert take_one(engine, job(1, account="nowhere"), "s:1", actor="x", via="x").problem is not None
    take_one(engine, job(2, account="nowhere", customer={"email": "mary@example.com"}), "s:2", actor="x", via="x")
    take_one(engine, "no job at all", "s:3", actor="x", via="x")
    with engine.ledger.read() as connection:
        ids = dict(connection.execute(select(models.rejected.c.source, models.rejected.c.id)).all())
    if closed:
        engine.ledger.run(lambda connection: close(connection, ids["s:1"], actor="ada", reason="r", now=NOW))
    done = erasure.erase(later(engine, 1), ADA, EMAIL, reason="they asked")

    assert (done.rejected_jobs, done.kept) == ((1, {}) if closed else (0, {ids["s:1"]: "it is an open dead letter"}))
    assert (EMAIL in stored(engine)) is not closed
    assert "mary@example.com" in stored(engine)


def test_a_dry_run_counts_and_changes_nothing(engine):
    paid(engine)
    before = stored(engine)

    assert erasure.erase(later(engine, 1), ADA, EMAIL, reason="r", dry_run=True).refunds == 1
    assert erasure.purge_now(later(engine, 31), ADA, unheard, dry_run=True).refunds == 1
    assert stored(engine) == before


@pytest.mark.parametrize("days", [29, 31])
def test_a_purge_takes_what_has_been_final_for_so_long(engine, days):
    paid(engine)
    done = erasure.purge(later(engine, days))

    assert done.refunds == (1 if days > 30 else 0)
    assert (EMAIL in stored(engine)) is (days < 30)
    verified(engine)


def test_a_purge_goes_on_behind_what_is_open_and_comes_back_to_it(engine, monkeypatch):
    monkeypatch.setattr(rows, "BATCH", 2)
    paid(engine, 1)
    waiting = accepted(engine, 2)
    for no in range(3, 8):
        paid(engine, no)
    first = erasure.purge(later(engine, 31))
    walked(later(engine, 31), waiting, State.CANCELLED)
    second = erasure.purge(later(engine, 32))
    third = erasure.purge(later(engine, 62))

    assert (first.refunds, second.refunds, third.refunds) == (6, 0, 1)
    assert erased(engine) == {f"R-{no}" for no in range(1, 8)}
    verified(engine)


def test_a_purge_that_is_cut_short_goes_on_where_it_was(engine, monkeypatch):
    monkeypatch.setattr(rows, "BATCH", 2)
    for no in range(1, 6):
        paid(engine, no)
    counts = [erasure.purge(later(engine, 31), seconds=-1).refunds for _ in range(4)]

    assert counts == [2, 2, 1, 0]


def test_closed_rejected_jobs_go_with_the_purge(engine):
    take_one(engine, job(1, account="nowhere"), "s:1", actor="x", via="x")
    take_one(engine, job(2, account="nowhere"), "s:2", actor="x", via="x")
    with engine.ledger.write() as connection:
        closed = update(models.rejected).where(models.rejected.c.source == "s:1")
        connection.execute(closed.values(closed_at=NOW, closed_by="ada"))

    assert erasure.purge(later(engine, 31)).rejected_jobs == 1
    assert erasure.purge(later(engine, 31)).rejected_jobs == 0
    assert EMAIL in stored(engine)


def test_without_a_time_nothing_is_purged(engine):
    settings = engine.settings.model_copy(update={"retention": engine.settings.retention.model_copy()})
    unset = settings.retention.model_copy(update={"personal": None})
    never = replace(later(engine, 10_000), settings=settings.model_copy(update={"retention": unset}))
    paid(engine)

    assert erasure.purge(never).refunds == 0
    with pytest.raises(Refused, match=r"retention\.personal"):
        erasure.purge_now(never, ADA, unheard)


def test_a_refund_that_another_holds_is_left_for_the_next_time(engine, request):
    if engine.ledger.sqlite:
        pytest.skip("SQLite has one writer at a time")
    refund = paid(engine)
    with engine.ledger.write() as connection:
        refunds.get(connection, refund.id, lock=True)
        held = erasure.purge(later(engine, 31))

    assert held.refunds == 0
    assert erasure.purge(later(engine, 31)).refunds == 1


def test_what_was_erased_can_be_sealed_anew_and_sent_by_nobody(engine):
    paid(engine)
    erasure.purge(later(engine, 31))
    with engine.ledger.read() as connection:
        (frozen,) = refunds.last_attempts(connection, [find(engine, "R-1")[0].id]).values()

    assert not any(each.older or each.unreadable for each in rotation.rotate(engine, ADA, lambda *_: None))
    with pytest.raises(Exception, match="none of them opens"):
        engine.vault.open(frozen.body)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.APPROVER])
def test_only_an_admin_may(engine, role):
    someone = Actor("oli", frozenset({role}))

    with pytest.raises(Forbidden):
        erasure.erase(engine, someone, EMAIL, reason="r")
    with pytest.raises(Forbidden):
        erasure.purge_now(engine, someone, unheard)


@pytest.mark.parametrize(("customer", "reason"), [("", "r"), ("  ", "r"), (EMAIL, " ")])
def test_nobody_in_particular_and_no_reason_are_refused(engine, customer, reason):
    with pytest.raises(Refused):
        erasure.erase(engine, ADA, customer, reason=reason)
