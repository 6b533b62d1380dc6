"""Whatever happens to refunds, in whatever order: the books add up after every step."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace
from sqlalchemy import delete, select

from domain.state import FINAL, MOVES, Hold, State
from ledger import journal, refunds
from ledger.intake import Result
from ledger.models import metadata, payment, refund
from ledger.refunds import Change
from tests.integration.ledger.support import NOW, a_candidate, accept, apply, claim, reload, step

PAYMENTS = ("p-1", "p-2", "p-3")
CAPTURED = {"p-1": 1000, "p-2": 300, "p-3": None}
BREAKS_ITS_LEASE = 61.0


class Books(RuleBasedStateMachine):
    stale = Bundle("stale")

    def __init__(self, ledger):
        super().__init__()
        self.ledger = ledger

    @initialize()
    def begin(self):
        self.now = NOW
        self.accepted = 0
        with self.ledger.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

    @rule(target=stale, name=st.sampled_from(PAYMENTS), amount=st.none() | st.integers(1, 600))
    def submit(self, name, amount):
        """A job comes in; what is known of it now is what somebody may act on much later."""
        candidate = a_candidate(
            payment_ref=name,
            payment_id=name,
            amount=amount,
            resolved=amount is not None,
            captured=CAPTURED[name],
            due_at=self.now,
        )
        (answer,) = accept(self.ledger, candidate)
        over = amount is not None and CAPTURED[name] is not None and amount > CAPTURED[name]
        assert answer.result in (Result.ACCEPTED, Result.OVER_CAP)
        assert not (over and answer.result is Result.ACCEPTED)
        self.accepted += answer.result is Result.ACCEPTED
        return candidate.refund.id if answer.result is Result.ACCEPTED else None

    @rule(alone=st.booleans(), lane=st.sampled_from(["send", "recover", "poll"]))
    def take(self, lane, alone):
        """Workers claim, and some never come back."""
        self.now += BREAKS_ITS_LEASE
        claim(self.ledger, lane, alone=alone, now=self.now, limit=3)

    @rule(refund_id=stale, data=st.data())
    def move(self, refund_id, data):
        """Any move of the table, by whoever makes it."""
        if refund_id is None:
            return
        found = reload(self.ledger, refund_id)
        target = data.draw(st.sampled_from(sorted(MOVES[found.state])))
        settled = data.draw(st.sampled_from(["returned", "not_returned"])) if target is State.SETTLED else None
        amount = found.amount or (50 if CAPTURED[found.payment_ref] is None else None)
        if amount is None:
            return
        won = apply(self.ledger, step(found, target, at=self.now, fenced=False, settlement=settled, amount=amount))
        assert won == {refund_id}

    @rule(refund_id=stale, goal=st.sampled_from(State))
    def come_too_late(self, refund_id, goal):
        """Who knows only how the refund was when it began changes nothing once it has moved."""
        if refund_id is None:
            return
        found = reload(self.ledger, refund_id)
        if found.version == 1 or found.state is goal:
            return
        old = replace(found, version=found.version - 1)
        change = Change(before=old, after=replace(old, state=goal), type=f"refund.{goal}", actor="late", fenced=False)
        assert apply(self.ledger, change) == set()

    @rule()
    def twice_in_one_batch(self):
        """Several refunds end in one transaction."""
        query = select(*refunds.COLUMNS).where(refund.c.state == State.QUEUED).limit(4)
        with self.ledger.read() as connection:
            queued = [refunds.load(row) for row in connection.execute(query)]
        apply(self.ledger, *(step(each, State.CANCELLED, at=self.now, fenced=False) for each in queued))

    @invariant()
    def the_books_add_up(self):
        with self.ledger.read() as connection:
            rows = [refunds.load(row) for row in connection.execute(select(*refunds.COLUMNS))]
            purses = connection.execute(select(payment)).all()
        assert len(rows) == self.accepted
        for purse in purses:
            mine = [each for each in rows if each.payment_ref == purse.ref]
            assert purse.reserved == sum(each.amount or 0 for each in mine if each.hold is Hold.RESERVED)
            assert purse.refunded == sum(each.amount or 0 for each in mine if each.hold is Hold.REFUNDED)
            beyond = purse.captured is not None and purse.reserved + purse.refunded > purse.captured
            assert purse.over_refunded or not beyond
        for each in rows:
            assert (each.final_at is not None) == (each.state in FINAL)

    def teardown(self):
        with self.ledger.read() as connection:
            assert journal.verify(connection)[1] == []


def test_the_books_add_up_after_every_step(ledger):
    run_state_machine_as_test(
        lambda: Books(ledger),
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
